//! The server's tables: decoding, merging, decorating and printing them.

use jiff::Timestamp;
use serde_json::{Value, json};

use api::KindRow;

use crate::age;
use crate::output::columns::go_text;
use crate::output::text_table::TextTable;
use crate::selection::qualified;

pub(crate) const ACCEPT_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

#[derive(Default)]
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
}

pub(crate) struct Column {
    name: String,
    priority: i64,
}

pub(crate) struct Row {
    pub(crate) cells: Vec<Value>,
    /// The object, or as much of it as was asked for.
    pub(crate) object: Value,
}

/// What is shown beside the server's columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    pub(crate) wide: bool,
    pub(crate) no_headers: bool,
    pub(crate) with_namespace: bool,
    pub(crate) with_kind: bool,
    pub(crate) show_labels: bool,
    pub(crate) label_columns: Vec<String>,
}

impl Table {
    /// From a server's answer. A server that sent objects instead gets a table of names and ages.
    pub(crate) fn from_answer(answer: Value, now: Timestamp) -> Self {
        match answer {
            Value::Object(mut map) if map.get("kind").is_some_and(|kind| kind == "Table") => {
                let take = |value: Option<Value>| match value {
                    Some(Value::Array(items)) => items,
                    _ => Vec::new(),
                };
                let column = |one: &Value| Column {
                    name: one["name"].as_str().unwrap_or_default().to_string(),
                    priority: one["priority"].as_i64().unwrap_or(0),
                };
                let row = |mut one: Value| Row {
                    cells: one["cells"].take().as_array_mut().map(std::mem::take).unwrap_or_default(),
                    object: one["object"].take(),
                };
                Table {
                    columns: take(map.remove("columnDefinitions")).iter().map(column).collect(),
                    rows: take(map.remove("rows")).into_iter().map(row).collect(),
                }
            }
            Value::Object(mut map) if map.get("items").is_some_and(Value::is_array) => {
                let items = match map.remove("items") {
                    Some(Value::Array(items)) => items,
                    _ => Vec::new(),
                };
                Self::of_names(items, now)
            }
            object => Self::of_names(vec![object], now),
        }
    }

    fn of_names(objects: Vec<Value>, now: Timestamp) -> Self {
        let column = |name: &str| Column { name: name.to_string(), priority: 0 };
        let row = |object: Value| {
            let metadata = &object["metadata"];
            let age = age::since(metadata["creationTimestamp"].as_str(), now);
            Row { cells: vec![metadata["name"].clone(), json!(age)], object }
        };
        Table { columns: vec![column("Name"), column("Age")], rows: objects.into_iter().map(row).collect() }
    }

    /// Adds rows of the same kind. Events of a watch come without columns.
    pub(crate) fn append(&mut self, other: Table) {
        if self.columns.is_empty() {
            self.columns = other.columns;
        }
        self.rows.extend(other.rows);
    }
}

impl Look {
    fn headers(&self, table: &Table) -> Vec<String> {
        let mut headers = Vec::new();
        if self.with_namespace {
            headers.push("NAMESPACE".to_string());
        }
        let shown = table.columns.iter().filter(|column| self.wide || column.priority == 0);
        headers.extend(shown.map(|column| column.name.to_uppercase()));
        for label in &self.label_columns {
            headers.push(label.rsplit('/').next().unwrap_or_default().to_uppercase());
        }
        if self.show_labels {
            headers.push("LABELS".to_string());
        }
        headers
    }

    fn line(&self, table: &Table, row: &Row, kind: &KindRow) -> Vec<String> {
        let metadata = &row.object["metadata"];
        let mut line = Vec::new();
        if self.with_namespace {
            line.push(metadata["namespace"].as_str().unwrap_or_default().to_string());
        }
        for (index, (column, cell)) in table.columns.iter().zip(&row.cells).enumerate() {
            if !self.wide && column.priority != 0 {
                continue;
            }
            let text = cell_text(cell);
            line.push(if index == 0 && self.with_kind {
                format!("{}/{text}", qualified(kind))
            } else {
                text
            });
        }
        let labels = &metadata["labels"];
        for label in &self.label_columns {
            line.push(labels[label].as_str().unwrap_or("").to_string());
        }
        if self.show_labels {
            line.push(labels_text(labels));
        }
        line
    }

    /// The table as text. `printer` remembers widths between calls.
    pub(crate) fn text(
        &self,
        table: &Table,
        kind: &KindRow,
        printer: &mut TextTable,
        with_headers: bool,
    ) -> String {
        let mut lines = Vec::new();
        if with_headers && !self.no_headers {
            lines.push(self.headers(table));
        }
        lines.extend(table.rows.iter().map(|row| self.line(table, row, kind)));
        printer.format(&lines)
    }
}

/// `a=b,c=d` or `<none>`.
pub(crate) fn labels_text(labels: &Value) -> String {
    let Some(map) = labels.as_object().filter(|map| !map.is_empty()) else { return "<none>".to_string() };
    let pairs: Vec<String> =
        map.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    pairs.join(",")
}

/// Cut at the first line end; control characters are shown.
fn cell_text(cell: &Value) -> String {
    let text = match cell {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        other => go_text(other),
    };
    let first = text.split(['\n', '\r', '\u{c}']).next().unwrap_or_default();
    let cut = first.len() < text.len();
    let mut shown: String =
        first.chars().map(|c| if c == '\u{1b}' { "^[".to_string() } else { c.to_string() }).collect();
    if cut {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests;
