//! What `-v=6` and higher tell of requests and answers, in klog's form, so that tools which read kubectl's
//! logs read ours.
//!
//! Absent: feature gates and the loader of configuration at `-v=6`, as there are none; times of the single
//! steps of a connection at `-v=9`.

use std::fmt::Write;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use jiff::Zoned;

use crate::env::tell;

/// Tells of requests, as far as the level says.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) level: i32,
    /// The server's URL, without a slash at its end.
    pub(crate) server: String,
    /// Headers that the connection adds, with secrets masked.
    pub(crate) headers: Vec<(String, String)>,
}

impl Trace {
    pub(crate) fn is_on(&self) -> bool {
        self.level >= 6
    }

    fn line(&self, source: &str, text: &str) {
        let time = Zoned::now().strftime("%m%d %H:%M:%S%.6f");
        tell(&format!("I{time} {:7} {source}] {text}", std::process::id()));
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server)
    }

    pub(crate) fn request(&self, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) {
        if self.level >= 8 && !body.is_empty() {
            self.body("Request Body", body);
        }
        let url = self.url(path);
        match self.level {
            ..=6 => {}
            7 | 8 => {
                let mut text = String::new();
                for (name, value) in self.all_headers(headers) {
                    let _ = writeln!(text, "\t{name}: {value}");
                }
                let line = format!("\"Request\" verb=\"{method}\" url=\"{url}\" headers=<\n{text} >");
                self.line("round_trippers.go:527", &line);
            }
            _ => {
                let mut text = String::new();
                for (name, value) in self.all_headers(headers) {
                    let _ = write!(text, " -H {:?}", format!("{name}: {value}"));
                }
                let line = format!("\"Request\" curlCommand=<\n\tcurl -v -X{method} {text} '{url}'\n >");
                self.line("round_trippers.go:527", &line);
            }
        }
    }

    pub(crate) fn response(
        &self,
        method: &Method,
        path: &str,
        answer: Option<(StatusCode, &HeaderMap)>,
        took: Duration,
    ) {
        if !self.is_on() {
            return;
        }
        let status = match answer {
            Some((code, _)) => format!("HTTP/2.0 {code}"),
            None => String::new(),
        };
        let mut line = "\"Response\"".to_string();
        if matches!(self.level, 6) || self.level >= 9 {
            let _ = write!(line, " verb=\"{method}\" url=\"{}\"", self.url(path));
        }
        let _ = write!(line, " status=\"{status}\"");
        if self.level >= 8 {
            let mut text = String::new();
            for (name, value) in answer.iter().flat_map(|(_, headers)| headers.iter()) {
                let value = String::from_utf8_lossy(value.as_bytes());
                let _ = writeln!(text, "\t{}: {value}", canonical(name.as_str()));
            }
            match text.is_empty() {
                true => line.push_str(" headers=\"\""),
                false => {
                    let _ = write!(line, " headers=<\n{text} >");
                }
            }
        }
        let _ = write!(line, " milliseconds={}", took.as_millis());
        self.line("round_trippers.go:632", &line);
    }

    /// The content of a request or an answer, cut as upstream cuts it.
    pub(crate) fn body(&self, what: &str, body: &[u8]) {
        let most = match self.level {
            ..=7 => return,
            8 => 1024,
            9 => 10_240,
            _ => usize::MAX,
        };
        let text = String::from_utf8_lossy(body);
        let mut shown: String = text.chars().take(most).collect();
        let cut = text.chars().count().saturating_sub(most);
        if cut > 0 {
            let _ = write!(shown, " [truncated {cut} chars]");
        }
        let line = if shown.contains('\n') {
            let lines: Vec<String> = shown.lines().map(|line| format!("\t{line}")).collect();
            format!("{what:?} body=<\n{}\n >", lines.join("\n"))
        } else {
            format!("{what:?} body={shown:?}")
        };
        self.line("raw.go:84", &line);
    }

    fn all_headers(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        let own = headers.iter().map(|(name, value)| {
            (canonical(name.as_str()), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        let mut all: Vec<(String, String)> = own.chain(self.headers.iter().cloned()).collect();
        all.sort();
        all
    }
}

/// `Content-Type` for `content-type`.
fn canonical(name: &str) -> String {
    let word = |word: &str| {
        let mut characters = word.chars();
        let first = characters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(characters).collect::<String>()
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}
