//! Rules for single strings: each gives the list of what is wrong, empty if nothing is.
//!
//! Written as byte scans instead of regular expressions: they run for every label of every write. The
//! expressions appear in messages only.

use super::{Faults, Path, invalid_each};
use crate::FieldError;

const LABEL_MAX: usize = 63;
const SUBDOMAIN_MAX: usize = 253;

const QUALIFIED: (&str, &str) = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]",
);
const LABEL: (&str, &str) = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
    "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
);
const SUBDOMAIN: (&str, &str) = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
    "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
);
const LABEL_1035: (&str, &str) = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
    "[a-z]([-a-z0-9]*[a-z0-9])?",
);

fn regex_error((message, expression): (&str, &str), examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{expression}')");
    }
    let quoted: Vec<String> = examples.iter().map(|one| format!("'{one}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{expression}')", quoted.join(" or "))
}

fn max_len(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

const EMPTY: &str = "must be non-empty";

/// First and last characters satisfy `edge`, all others `inner`.
fn is_shaped(value: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    match value.as_bytes() {
        [] => false,
        [one] => edge(*one),
        [first, middle @ .., last] => edge(*first) && edge(*last) && middle.iter().all(|byte| inner(*byte)),
    }
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_label(value: &str) -> bool {
    is_shaped(value, lower, |byte| lower(byte) || byte == b'-')
}

fn is_subdomain(value: &str) -> bool {
    value.split('.').all(is_label)
}

fn is_name_part(value: &str) -> bool {
    is_shaped(value, alphanumeric, |byte| alphanumeric(byte) || matches!(byte, b'-' | b'_' | b'.'))
}

/// `example.com/name` or `name`: label and annotation keys, finalizers, resource names.
pub fn qualified_name(value: &str) -> Vec<String> {
    let examples = &["MyName", "my.name", "123-abc"];
    let mut faults = Vec::new();
    let name = match value.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                faults.push(format!("prefix part {EMPTY}"));
            } else {
                faults.extend(
                    dns1123_subdomain(prefix).into_iter().map(|fault| format!("prefix part {fault}")),
                );
            }
            name
        }
        _ => {
            let what = regex_error(QUALIFIED, examples);
            let tail = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a qualified name {what} {tail}")];
        }
    };
    if name.is_empty() {
        faults.push(format!("name part {EMPTY}"));
    } else if name.len() > LABEL_MAX {
        faults.push(format!("name part {}", max_len(LABEL_MAX)));
    }
    if !is_name_part(name) {
        faults.push(format!("name part {}", regex_error(QUALIFIED, examples)));
    }
    faults
}

pub fn label_value(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > LABEL_MAX {
        faults.push(max_len(LABEL_MAX));
    }
    if !value.is_empty() && !is_name_part(value) {
        let message = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
        let expression = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
        faults.push(regex_error((message, expression), &["MyValue", "my_value", "12345"]));
    }
    faults
}

pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > LABEL_MAX {
        faults.push(max_len(LABEL_MAX));
    }
    if !is_label(value) {
        // A name that only fails for its dots gets the short answer.
        let dotted = is_subdomain(value);
        faults.push(if dotted {
            "must not contain dots".into()
        } else {
            regex_error(LABEL, &["my-name", "123-abc"])
        });
    }
    faults
}

pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        faults.push(max_len(SUBDOMAIN_MAX));
    }
    if !is_subdomain(value) {
        faults.push(regex_error(SUBDOMAIN, &["example.com"]));
    }
    faults
}

/// A subdomain whose labels may begin with an underscore and have some inside, as names of DNS records do.
pub fn dns1123_subdomain_with_underscore(value: &str) -> Vec<String> {
    let label = |label: &str| {
        let rest = label.strip_prefix('_').unwrap_or(label);
        is_shaped(rest, lower, |byte| lower(byte) || matches!(byte, b'-' | b'_'))
    };
    let mut faults = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        faults.push(max_len(SUBDOMAIN_MAX));
    }
    if !value.split('.').all(label) {
        let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character";
        let expression = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
        faults.push(regex_error((message, expression), &["example.com"]));
    }
    faults
}

pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > LABEL_MAX {
        faults.push(max_len(LABEL_MAX));
    }
    if !is_label(value) || !value.starts_with(|first: char| first.is_ascii_lowercase()) {
        faults.push(regex_error(LABEL_1035, &["my-name", "abc-123"]));
    }
    faults
}

/// `*.example.com`.
pub fn wildcard_dns1123_subdomain(value: &str) -> Vec<String> {
    let rest = value.strip_prefix("*.");
    let mut faults = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        faults.push(max_len(SUBDOMAIN_MAX));
    }
    if !rest.is_some_and(is_subdomain) {
        let message = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        let expression = format!("\\*\\.{}", SUBDOMAIN.1);
        faults.push(regex_error((message, &expression), &["*.example.com"]));
    }
    faults
}

/// Names of environment variables: any printable ASCII without `=`, as since v1.34.
pub fn env_var_name(value: &str) -> Vec<String> {
    if value.is_empty() {
        return vec![format!("environment variable name {EMPTY}")];
    }
    if value.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .into(),
    ]
}

/// Keys of config maps and secrets.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        faults.push(max_len(SUBDOMAIN_MAX));
    }
    let fits = |byte: u8| alphanumeric(byte) || matches!(byte, b'-' | b'_' | b'.');
    if value.is_empty() || !value.bytes().all(fits) {
        let message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        faults.push(regex_error((message, "[-._a-zA-Z0-9]+"), &["key.name", "KEY_NAME", "key-name"]));
    }
    match value {
        "." => faults.push("must not be '.'".into()),
        ".." => faults.push("must not be '..'".into()),
        _ if value.starts_with("..") => faults.push("must not start with '..'".into()),
        _ => {}
    }
    faults
}

/// IANA service names: names of ports.
pub fn port_name(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 15 {
        faults.push(max_len(15));
    }
    if value.is_empty() || !value.bytes().all(|byte| lower(byte) || byte == b'-') {
        faults.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !value.bytes().any(|byte| byte.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)".into());
    }
    if value.contains("--") {
        faults.push("must not contain consecutive hyphens".into());
    }
    if value.starts_with('-') || value.ends_with('-') {
        faults.push("must not begin or end with a hyphen".into());
    }
    faults
}

pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".into()]
    }
}

pub fn http_header_name(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|byte| alphanumeric(byte) || byte == b'-') {
        return Vec::new();
    }
    let message = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![regex_error((message, "[-A-Za-z0-9]+"), &["X-Header-Name"])]
}

pub fn percent(value: &str) -> Vec<String> {
    let digits = value.strip_suffix('%').unwrap_or("");
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    let message = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![regex_error((message, "[0-9]+%"), &["1%", "93%"])]
}

/// Reasons of conditions.
pub(crate) fn condition_reason(value: &str) -> Vec<String> {
    let inner = |byte: u8| alphanumeric(byte) || matches!(byte, b'_' | b',' | b':');
    let last = |byte: u8| alphanumeric(byte) || byte == b'_';
    let bytes = value.as_bytes();
    let ends =
        bytes.first().is_some_and(u8::is_ascii_alphabetic) && bytes.last().is_some_and(|one| last(*one));
    if ends && value.bytes().all(inner) {
        return Vec::new();
    }
    let message = "a condition reason must start with alphabetic character, optionally followed by a string of \
                   alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
    let examples = ["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];
    vec![regex_error((message, "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"), &examples)]
}

/// `example.com/path`: who manages a job.
pub fn domain_prefixed_path(value: &str, at: &Path<'_>, faults: &mut Faults) {
    if value.is_empty() {
        return faults.push(FieldError::required(at, ""));
    }
    let parts = value.split_once('/').filter(|(host, path)| !host.is_empty() && !path.is_empty());
    let Some((host, path)) = parts else {
        let message = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return faults.push(FieldError::invalid(at, value, message));
    };
    invalid_each(faults, at, host, dns1123_subdomain(host));
    if !path.bytes().all(|byte| alphanumeric(byte) || b"/-._~%!$&'()*+,;=:".contains(&byte)) {
        let message = regex_error(("Invalid path", "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+"), &[]);
        faults.push(FieldError::invalid(at, path, message));
    }
}

/// Names that only have to fit into a URL path: the RBAC kinds'.
pub fn path_segment(value: &str) -> Vec<String> {
    match value {
        "." | ".." => vec![format!("may not be '{value}'")],
        _ => ["/", "%"]
            .iter()
            .filter(|bad| value.contains(**bad))
            .map(|bad| format!("may not contain '{bad}'"))
            .collect(),
    }
}

/// Stands for a prefix's trailing dash, which the generated part will follow.
fn masked(name: &str, prefix: bool) -> std::borrow::Cow<'_, str> {
    match name.strip_suffix('-') {
        Some(rest) if prefix && !rest.is_empty() => {
            let kept = rest.char_indices().next_back().map_or(0, |(at, _)| at);
            format!("{}a", &rest[..kept]).into()
        }
        _ => name.into(),
    }
}

/// Name rule of most kinds.
pub fn name_is_dns_subdomain(name: &str, prefix: bool) -> Vec<String> {
    dns1123_subdomain(&masked(name, prefix))
}

/// Name rule of namespaces and services.
pub fn name_is_dns_label(name: &str, prefix: bool) -> Vec<String> {
    dns1123_label(&masked(name, prefix))
}

/// Name rule of the RBAC kinds.
pub fn name_is_path_segment(name: &str, prefix: bool) -> Vec<String> {
    if prefix {
        return ["/", "%"]
            .iter()
            .filter(|bad| name.contains(**bad))
            .map(|bad| format!("may not contain '{bad}'"))
            .collect();
    }
    path_segment(name)
}
