//! Text with tab stops as Go's `tabwriter` lays it out: a column is as wide as its widest cell in consecutive
//! lines.

use api::json::as_text;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

const PADDING: usize = 2;

/// Longest annotation that stands on its key's line.
const MAX_ANNOTATION: usize = 140;

#[derive(Default)]
pub(super) struct Sheet {
    done: String,
    lines: Vec<Vec<String>>,
}

impl Sheet {
    /// A line at a level of indentation; its cells are separated by tabs.
    pub(super) fn line(&mut self, level: usize, text: &str) {
        for part in text.split('\n') {
            let indented = format!("{}{part}", "  ".repeat(level));
            self.lines.push(indented.split('\t').map(str::to_string).collect());
        }
    }

    /// Lays out what was written so far; later lines do not influence it.
    pub(super) fn flush(&mut self) {
        let mut widths: Vec<Vec<usize>> = vec![Vec::new(); self.lines.len()];
        lay_out(&self.lines, 0, 0, self.lines.len(), &mut widths);
        for (line, widths) in self.lines.iter().zip(&widths) {
            for (index, cell) in line.iter().enumerate() {
                self.done.push_str(cell);
                if let Some(width) = widths.get(index) {
                    self.done.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
                }
            }
            self.done.push('\n');
        }
        self.lines.clear();
    }

    pub(super) fn text(mut self) -> String {
        self.flush();
        self.done
    }

    /// `Labels:  a=b` with further pairs below.
    pub(super) fn labels(&mut self, level: usize, title: &str, labels: &Value) {
        let pairs: Vec<String> = labels
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}={}", as_text(value)))
            .collect();
        self.column(level, title, &pairs);
    }

    /// `Annotations:  a: b`; long ones below their key. What `apply` remembers is left out.
    pub(super) fn annotations(&mut self, level: usize, title: &str, annotations: &Value) {
        let mut cells = Vec::new();
        for (key, value) in annotations.as_object().into_iter().flatten() {
            if key == crate::verbs::apply::last_applied::ANNOTATION {
                continue;
            }
            let value = as_text(value).trim_end_matches('\n').to_string();
            if key.len() + value.len() + 2 > MAX_ANNOTATION || value.contains('\n') {
                cells.push(format!("{key}:"));
                cells.extend(
                    value.split('\n').map(|line| format!("  {}", shortened(line, MAX_ANNOTATION - 2))),
                );
            } else {
                cells.push(format!("{key}: {value}"));
            }
        }
        self.column(level, title, &cells);
    }

    /// A title and cells below each other, or `<none>`.
    pub(super) fn column(&mut self, level: usize, title: &str, cells: &[String]) {
        let (first, rest) = match cells.split_first() {
            Some((first, rest)) => (first.as_str(), rest),
            None => ("<none>", &[][..]),
        };
        self.line(level, &format!("{title}:\t{first}"));
        for cell in rest {
            self.line(0, &format!("\t{cell}"));
        }
    }
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_string();
    }
    text.chars().take(most).collect::<String>() + "..."
}

fn lay_out(lines: &[Vec<String>], column: usize, from: usize, to: usize, widths: &mut [Vec<usize>]) {
    let has_cell = |line: &[String]| column + 1 < line.len();
    let mut at = from;
    while at < to {
        if !has_cell(&lines[at]) {
            at += 1;
            continue;
        }
        let start = at;
        let mut width = 0;
        while at < to && has_cell(&lines[at]) {
            width = width.max(lines[at][column].chars().count() + PADDING);
            at += 1;
        }
        for own in &mut widths[start..at] {
            own.push(width);
        }
        lay_out(lines, column + 1, start, at, widths);
    }
}

/// Text of a string; nothing for anything else.
/// Text, numbers and booleans as they print; `<none>` for nothing.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<none>".to_string(),
        Value::String(text) if text.is_empty() => "<none>".to_string(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `Mon, 02 Jan 2006 15:04:05 +0000`, in local time.
pub(super) fn time(value: &Value) -> String {
    match as_text(value).parse::<Timestamp>() {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%a, %d %b %Y %H:%M:%S %z").to_string(),
        Err(_) => String::new(),
    }
}

/// `Capitalised`.
pub(super) fn title_case(value: &Value) -> String {
    match value {
        Value::Bool(true) => "True".to_string(),
        Value::Bool(false) | Value::Null => "False".to_string(),
        other => shown(other),
    }
}

impl Sheet {
    /// The lines as they were written, for use inside another sheet.
    pub(super) fn raw_lines(self) -> Vec<String> {
        self.lines.iter().map(|line| line.join("\t")).collect()
    }
}

impl Sheet {
    /// Text as it is; its tabs are its own.
    pub(super) fn verbatim(&mut self, text: &str) {
        for line in text.split('\n') {
            self.lines.push(vec![line.to_string()]);
        }
    }
}
