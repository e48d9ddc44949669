//! Paths and query strings of calls: the inverse of what the API server parses. Pure.

use api::{
    CreateOptions, DeleteOptions, DryRun, FieldValidation, KindRow, ListOptions, Preconditions,
    PropagationPolicy, ResourceVersionMatch, UpdateOptions, WatchOptions,
};
use serde_json::{Value, json};

use crate::ObjectRef;

/// Percent-encodes what may not stand in a path segment or query value.
pub fn encode_component(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    out
}

/// The inverse. What is no escape stays as it is, and bytes that are no UTF-8 are replaced.
pub fn decode_component(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// URL path of an object or of one of its subresources. `proxy` and `log` keep further segments in the
/// subresource.
pub fn path_of(row: &KindRow, at: ObjectRef<'_>) -> String {
    let mut path = collection_path(row, at.namespace);
    path.push('/');
    path.push_str(&encode_component(at.name));
    if let Some(subresource) = at.subresource {
        path.push('/');
        path.push_str(subresource);
    }
    path
}

pub(super) fn collection_path(row: &KindRow, namespace: Option<&str>) -> String {
    row.collection_path(namespace.map(encode_component).as_deref())
}

/// A query string being written.
#[derive(Default)]
pub(super) struct Query(String);

impl Query {
    pub(super) fn add(&mut self, key: &str, value: &str) -> &mut Self {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(key);
        self.0.push('=');
        self.0.push_str(&encode_component(value));
        self
    }

    fn add_some(&mut self, key: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.add(key, value),
            None => self,
        }
    }

    fn add_text(&mut self, key: &str, value: &str) -> &mut Self {
        self.add_some(key, Some(value).filter(|value| !value.is_empty()))
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// `?labelSelector=…&limit=…`, or nothing.
pub(crate) fn list_query(options: &ListOptions) -> String {
    let mut query = Query::default();
    query
        .add_text("labelSelector", &options.labels.to_string())
        .add_text("fieldSelector", &options.fields.to_string())
        .add_some("continue", options.continue_token.as_deref())
        .add_some("resourceVersion", options.resource_version.as_deref());
    if options.limit > 0 {
        query.add("limit", &options.limit.to_string());
    }
    if let Some(how) = options.resource_version_match {
        let how = match how {
            ResourceVersionMatch::Exact => "Exact",
            ResourceVersionMatch::NotOlderThan => "NotOlderThan",
        };
        query.add("resourceVersionMatch", how);
    }
    query.into_string()
}

pub(super) fn watch_query(options: &WatchOptions) -> String {
    let mut query = Query::default();
    query
        .add("watch", "true")
        .add_text("labelSelector", &options.labels.to_string())
        .add_text("fieldSelector", &options.fields.to_string())
        .add_some("resourceVersion", options.resource_version.as_deref());
    if options.allow_bookmarks {
        query.add("allowWatchBookmarks", "true");
    }
    if let Some(send) = options.send_initial_events {
        query.add("sendInitialEvents", if send { "true" } else { "false" });
        query.add("resourceVersionMatch", "NotOlderThan");
    }
    if let Some(timeout) = options.timeout {
        query.add("timeoutSeconds", &timeout.as_secs().max(1).to_string());
    }
    query.into_string()
}

fn write_query(dry_run: DryRun, manager: Option<&str>, validation: FieldValidation) -> Query {
    let mut query = Query::default();
    if dry_run == DryRun::All {
        query.add("dryRun", "All");
    }
    query.add_some("fieldManager", manager);
    match validation {
        FieldValidation::Ignore => query.add("fieldValidation", "Ignore"),
        FieldValidation::Strict => query.add("fieldValidation", "Strict"),
        FieldValidation::Warn => &mut query,
    };
    query
}

pub(super) fn create_query(options: &CreateOptions) -> String {
    write_query(options.dry_run, options.field_manager.as_deref(), options.field_validation).into_string()
}

pub(super) fn update_query(options: &UpdateOptions) -> String {
    let mut query = write_query(options.dry_run, options.field_manager.as_deref(), options.field_validation);
    if options.force {
        query.add("force", "true");
    }
    query.into_string()
}

/// The `DeleteOptions` body of a delete call.
pub(super) fn delete_body(options: &DeleteOptions) -> Value {
    let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    if let Some(seconds) = options.grace_period_seconds {
        body["gracePeriodSeconds"] = json!(seconds);
    }
    if let Some(policy) = options.propagation_policy {
        body["propagationPolicy"] = json!(match policy {
            PropagationPolicy::Orphan => "Orphan",
            PropagationPolicy::Background => "Background",
            PropagationPolicy::Foreground => "Foreground",
        });
    }
    let Preconditions { uid, resource_version } = &options.preconditions;
    if let Some(uid) = uid {
        body["preconditions"]["uid"] = json!(uid);
    }
    if let Some(version) = resource_version {
        body["preconditions"]["resourceVersion"] = json!(version);
    }
    if options.dry_run == DryRun::All {
        body["dryRun"] = json!(["All"]);
    }
    body
}

#[cfg(test)]
mod tests;
