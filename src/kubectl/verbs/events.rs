//! `kubectl events`.

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use client::https::encode_component;

use crate::age;
use crate::env::{Env, print, tell};
use crate::error::{Error, Result};
use crate::output::text_table::TextTable;
use crate::output::{Format, OutputArgs};
use crate::rest::{JSON, Rest};
use crate::selection::Selection;
use crate::verbs::get::list_of;
use crate::verbs::get::watch::{Lines, next_event};

/// List events
#[derive(Args)]
pub(crate) struct EventsArgs {
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only events about TYPE/NAME
    #[arg(long = "for")]
    about: Option<String>,
    /// Normal, Warning
    #[arg(long, value_delimiter = ',')]
    types: Vec<String>,
    #[arg(short = 'w', long)]
    watch: bool,
    #[arg(long)]
    no_headers: bool,
    /// Items per request of large lists (0: all at once)
    #[arg(long, default_value_t = 500)]
    chunk_size: usize,
    #[command(flatten)]
    output: OutputArgs,
}

/// A list, page by page, as if it had been asked for at once.
async fn whole_list(rest: &Rest, path: &str, query: &str, page: usize) -> Result<Value> {
    let mut token = String::new();
    let mut items = Vec::new();
    loop {
        let mut full = format!("{path}?{query}");
        if page > 0 {
            full.push_str(&format!("limit={page}&"));
        }
        if !token.is_empty() {
            full.push_str(&format!("continue={}&", encode_component(&token)));
        }
        let mut list = rest.get(full.trim_end_matches(['&', '?'])).await?;
        items.extend(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default());
        token = list["metadata"]["continue"].as_str().unwrap_or_default().to_string();
        if token.is_empty() {
            list["items"] = Value::Array(items);
            return Ok(list);
        }
    }
}

/// When an event last happened, by the newest of the fields that clients fill.
fn last_seen(event: &Value) -> Option<&str> {
    let times = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["metadata"]["creationTimestamp"],
    ];
    times.into_iter().find_map(Value::as_str)
}

/// `17s`, or `2m (x5 over 10m)`.
pub(crate) fn interval(event: &Value, now: Timestamp) -> String {
    let first = [&event["firstTimestamp"], &event["eventTime"], &event["metadata"]["creationTimestamp"]]
        .into_iter()
        .find_map(Value::as_str);
    let last = age::since(last_seen(event), now);
    let count = event["series"]["count"].as_i64().or(event["count"].as_i64()).unwrap_or(1);
    if count > 1 { format!("{last} (x{count} over {})", age::since(first, now)) } else { last }
}

fn line(event: &Value, with_namespace: bool, now: Timestamp) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().trim().to_string();
    let about = &event["involvedObject"];
    let mut line = Vec::new();
    if with_namespace {
        line.push(text(&event["metadata"]["namespace"]));
    }
    line.extend([
        interval(event, now),
        text(&event["type"]),
        text(&event["reason"]),
        format!("{}/{}", text(&about["kind"]), text(&about["name"])),
        text(&event["message"]),
    ]);
    line
}

pub(crate) async fn run(env: &Env, args: EventsArgs) -> Result<()> {
    for kind in &args.types {
        if !kind.eq_ignore_ascii_case("Normal") && !kind.eq_ignore_ascii_case("Warning") {
            return Err(Error::message("valid --types are Normal or Warning"));
        }
    }
    let format = args.output.format()?;
    let mut namespace = (!args.all_namespaces).then(|| env.namespace.clone());
    let mut terms = Vec::new();
    if let Some(about) = &args.about {
        let Selection::Targets(targets) = env.select(std::slice::from_ref(about)).await? else {
            return Err(Error::message("--for must be in resource/name form"));
        };
        let [target] = &targets[..] else {
            return Err(Error::message("--for must be in resource/name form"));
        };
        terms.push(format!("involvedObject.kind={},involvedObject.name={}", target.row.kind, target.name));
        if !target.row.namespaced() {
            namespace = None;
        }
    }
    let query =
        terms.first().map(|term| format!("fieldSelector={}&", encode_component(term))).unwrap_or_default();
    let rest = env.rest().await?;
    let path = api::kinds::EVENT.collection_path(namespace.as_deref());
    let list = whole_list(rest, &path, &query, args.chunk_size).await?;
    let wanted = |event: &Value| {
        args.types.is_empty()
            || args
                .types
                .iter()
                .any(|kind| event["type"].as_str().is_some_and(|own| own.eq_ignore_ascii_case(kind)))
    };
    let mut events: Vec<Value> = list["items"].as_array().cloned().unwrap_or_default();
    events.retain(&wanted);
    events.sort_by_key(|event| last_seen(event).and_then(|time| time.parse::<Timestamp>().ok()));
    let mut printer = Printer { args: &args, format: &format, table: TextTable::default(), headed: false };
    if !args.watch && events.is_empty() && format.is_human() {
        match &namespace {
            Some(namespace) => tell(&format!("No events found in {namespace} namespace.")),
            None => tell("No events found."),
        }
        return Ok(());
    }
    if format.is_human() {
        printer.show(&events)?;
    } else {
        events.iter_mut().for_each(typed);
        print(&format.text(&list_of(events), args.output.show_managed_fields, args.no_headers)?)?;
    }
    if args.watch {
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let path = format!("{path}?{query}watch=true&resourceVersion={version}");
        let mut lines = Lines::new(rest, rest.stream(&path, JSON).await?);
        while let Some((kind, event)) = next_event(&mut lines).await? {
            if kind != "DELETED" && wanted(&event) {
                printer.show(std::slice::from_ref(&event))?;
            }
        }
    }
    Ok(())
}

fn typed(event: &mut Value) {
    if event["kind"].is_null() {
        event["apiVersion"] = Value::String("v1".to_string());
        event["kind"] = Value::String("Event".to_string());
    }
}

struct Printer<'a> {
    args: &'a EventsArgs,
    format: &'a Format,
    table: TextTable,
    headed: bool,
}

impl Printer<'_> {
    fn show(&mut self, events: &[Value]) -> Result<()> {
        if !self.format.is_human() {
            for event in events {
                print(&self.format.text(event, self.args.output.show_managed_fields, true)?)?;
            }
            return Ok(());
        }
        let mut lines = Vec::new();
        if !self.headed && !self.args.no_headers && !events.is_empty() {
            let mut headers = vec!["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
            if self.args.all_namespaces {
                headers.insert(0, "NAMESPACE");
            }
            lines.push(headers.into_iter().map(str::to_string).collect());
            self.headed = true;
        }
        let now = Timestamp::now();
        lines.extend(events.iter().map(|event| line(event, self.args.all_namespaces, now)));
        print(&self.table.format(&lines))
    }
}
