//! `kubectl get --watch`: the present state, then every change as a line or document.

use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::Value;

use api::ApiError;
use client::https::{ResponseBody, encode_component};

use super::GetArgs;
use crate::discovery::Row;
use crate::env::{Env, print};
use crate::error::{Error, Result};
use crate::output::text_table::TextTable;
use crate::output::{Format, json};
use crate::rest::{JSON, Rest};
use crate::selection::{Selection, collection};
use crate::table::{ACCEPT_TABLE, Look, Table};

/// Reads lines of a streamed answer.
pub(crate) struct Lines<'a> {
    rest: &'a Rest,
    body: ResponseBody,
    buffer: Vec<u8>,
    unfinished: bool,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(rest: &'a Rest, body: ResponseBody) -> Self {
        Lines { rest, body, buffer: Vec::new(), unfinished: false }
    }

    /// The next line without its end; none at the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(searched + end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return Ok(Some(line));
            }
            searched = self.buffer.len();
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(self.rest.lost(error)),
                None if self.buffer.is_empty() => return Ok(None),
                None => {
                    self.unfinished = true;
                    return Ok(Some(std::mem::take(&mut self.buffer)));
                }
            }
        }
    }

    /// The line given last had no end: the stream stopped in it.
    pub(crate) fn at_unfinished_line(&self) -> bool {
        self.unfinished
    }
}

/// One event of a watch: its type and object.
pub(crate) async fn next_event(lines: &mut Lines<'_>) -> Result<Option<(String, Value)>> {
    loop {
        let Some(line) = lines.next().await? else { return Ok(None) };
        if line.trim_ascii().is_empty() {
            continue;
        }
        let mut event: Value = serde_json::from_slice(&line)?;
        let kind = event["type"].as_str().unwrap_or_default().to_string();
        let object = event["object"].take();
        match kind.as_str() {
            "BOOKMARK" => {}
            "ERROR" => {
                let status = serde_json::from_value(object)?;
                return Err(ApiError::from_status(status).into());
            }
            _ => return Ok(Some((kind, object))),
        }
    }
}

struct Watch<'a> {
    args: &'a GetArgs,
    format: &'a Format,
    row: Row,
    look: Look,
    printer: TextTable,
    table: Table,
    headed: bool,
}

pub(super) async fn run(env: &Env, args: &GetArgs, format: &Format, selection: Selection) -> Result<()> {
    let (row, namespace, mut query) = match selection {
        Selection::Collections(mut rows) if rows.len() == 1 => {
            let row = rows.remove(0);
            let namespace = args.selector.namespace(env, &row).map(str::to_string);
            (row, namespace, args.selector.query())
        }
        Selection::Targets(mut targets) if targets.len() == 1 => {
            let target = targets.remove(0);
            // A name that does not exist is an error, as for a plain get.
            env.rest().await?.get(&target.path()).await?;
            let selector =
                format!("fieldSelector={}&", encode_component(&format!("metadata.name={}", target.name)));
            (target.row, target.namespace, selector)
        }
        _ => return Err(Error::message("you may only specify a single resource type")),
    };
    let accept = if format.is_human() { ACCEPT_TABLE } else { JSON };
    let look = Look {
        wide: matches!(format, Format::Human { wide: true }),
        no_headers: args.no_headers,
        with_namespace: args.selector.all_namespaces && row.namespaced(),
        with_kind: args.show_kind,
        show_labels: args.show_labels,
        label_columns: args.label_columns.clone(),
    };
    let path = collection(&row, namespace.as_deref());
    let mut watch = Watch {
        args,
        format,
        row,
        look,
        printer: TextTable::default(),
        table: Table::default(),
        headed: false,
    };
    let rest = env.rest().await?;
    let list = rest.get_as(&format!("{path}?{}", query.trim_end_matches('&')), accept).await?;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_string();
    if !args.watch_only {
        watch.present(list)?;
    }
    query.push_str(&format!("watch=true&resourceVersion={version}"));
    let mut lines = Lines::new(rest, rest.stream(&format!("{path}?{query}"), accept).await?);
    while let Some((kind, object)) = next_event(&mut lines).await? {
        watch.show(&kind, object)?;
    }
    Ok(())
}

impl Watch<'_> {
    /// The objects that are there when the watch begins.
    fn present(&mut self, list: Value) -> Result<()> {
        if self.format.is_human() {
            let table = Table::from_answer(list, Timestamp::now());
            return if table.rows.is_empty() { Ok(()) } else { self.lines("ADDED", table) };
        }
        let items = list["items"].as_array().cloned().unwrap_or_default();
        for mut item in items {
            if item["kind"].is_null() {
                item["apiVersion"] = Value::String(self.row.api_version());
                item["kind"] = Value::String(self.row.kind.to_string());
            }
            self.document("ADDED", &item)?;
        }
        Ok(())
    }

    fn show(&mut self, kind: &str, object: Value) -> Result<()> {
        if self.format.is_human() {
            return self.lines(kind, Table::from_answer(object, Timestamp::now()));
        }
        self.document(kind, &object)
    }

    fn lines(&mut self, kind: &str, table: Table) -> Result<()> {
        self.table.rows.clear();
        self.table.append(table);
        let mut look = self.look.clone();
        look.no_headers |= self.headed;
        let text = if self.args.output_watch_events {
            self.with_events(kind, &look)
        } else {
            look.text(&self.table, &self.row, &mut self.printer, true)
        };
        self.headed = true;
        print(&text)
    }

    /// The same lines with an `EVENT` column before them.
    fn with_events(&mut self, kind: &str, look: &Look) -> String {
        let bare = look.text(&self.table, &self.row, &mut self.printer, true);
        let has_header = !look.no_headers;
        let mut out = String::new();
        for (index, line) in bare.lines().enumerate() {
            let first = if has_header && index == 0 { "EVENT" } else { kind };
            out.push_str(&format!("{first:<11}{line}\n"));
        }
        out
    }

    fn document(&mut self, kind: &str, object: &Value) -> Result<()> {
        let mut shown = object.clone();
        if self.args.output_watch_events {
            shown = serde_json::json!({"type": kind, "object": object});
        }
        let no_headers = self.args.no_headers || self.headed;
        self.headed = true;
        let text = match self.format {
            Format::Json if self.args.output_watch_events => json::pretty(&shown),
            format => format.text(&shown, self.args.output.show_managed_fields, no_headers)?,
        };
        if matches!(self.format, Format::Yaml) { print(&format!("---\n{text}")) } else { print(&text) }
    }
}
