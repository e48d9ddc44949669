//! Certificate signing requests.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{AGE, NAME, age, column, items, name, or, text};
use crate::strategy::{Cell, Column};

pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    AGE,
    column("SignerName", "string", "Who is asked to sign."),
    column("Requestor", "string", "Who asked for the certificate."),
    column("RequestedDuration", "string", "How long the certificate is wanted for."),
    column("Condition", "string", "Whether the request is approved, and whether the certificate is issued."),
];

pub(crate) fn cells(csr: &Value, now: Timestamp) -> Vec<Cell> {
    let duration = match csr["spec"]["expirationSeconds"].as_i64() {
        Some(seconds) => api::time::human_duration(SignedDuration::from_secs(seconds)),
        None => "<none>".to_string(),
    };
    vec![
        name(csr),
        age(csr, now),
        json!(or(text(csr, "spec.signerName"), "<none>")),
        json!(text(csr, "spec.username")),
        json!(duration),
        json!(condition(csr)),
    ]
}

fn condition(csr: &Value) -> String {
    let has = |kind: &str| items(csr, "status.conditions").iter().any(|one| text(one, "type") == kind);
    let mut status = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }
    .to_string();
    if has("Failed") {
        status.push_str(",Failed");
    }
    if !text(csr, "status.certificate").is_empty() {
        status.push_str(",Issued");
    }
    status
}
