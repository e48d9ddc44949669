//! Certificate signing requests: the API server writes down who asks, approvers and signers change one part
//! each.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use api::json::{items, text};
use api::validation::{Faults, Path, dns1123_subdomain};
use api::{ApiError, FieldError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Str, Strategy, fields};

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const MIN_SECONDS: i64 = 600;
const DECISIONS: [&str; 2] = ["Approved", "Denied"];
const TRUE_ONLY: [&str; 3] = ["Approved", "Denied", "Failed"];

pub(super) struct Requests;

fn validate_spec(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let request = text(tree, "spec.request");
    if let Err(error) = parse(request) {
        faults.push(FieldError::invalid(at.child("request"), request, error.to_string()));
    }
    let usages = items(tree, "spec.usages");
    if usages.is_empty() {
        faults.push(FieldError::required(at.child("usages"), ""));
    }
    let mut seen = HashSet::new();
    for (index, usage) in usages.iter().map(|one| one.as_str().unwrap_or("")).enumerate() {
        if !USAGES.contains(&usage) {
            faults.push(FieldError::not_supported(at.child("usages").index(index), usage, &USAGES));
        }
        if !seen.insert(usage) {
            faults.push(FieldError::duplicate(at.child("usages").index(index), usage));
        }
    }
    validate_signer(text(tree, "spec.signerName"), &at.child("signerName"), &mut faults);
    if let Some(seconds) = tree["spec"]["expirationSeconds"].as_i64().filter(|seconds| *seconds < MIN_SECONDS)
    {
        let message = "may not specify a duration less than 600 seconds (10 minutes)";
        faults.push(FieldError::invalid(at.child("expirationSeconds"), seconds, message));
    }
    faults
}

/// Why a request cannot be read, as Go says it.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error(transparent)]
    Base64(#[from] base64::DecodeError),
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Pem,
    #[error("asn1: structure error: {0}")]
    Der(String),
}

fn parse(request: &str) -> Result<(), RequestError> {
    let pem = STANDARD.decode(request)?;
    let der = CertificateSigningRequestDer::from_pem_slice(&pem).map_err(|_| RequestError::Pem)?;
    match X509CertificationRequest::from_der(&der) {
        Ok(_) => Ok(()),
        Err(error) => Err(RequestError::Der(error.to_string())),
    }
}

/// `domain.example/path`.
fn validate_signer(signer: &str, at: &Path<'_>, faults: &mut Faults) {
    if signer.is_empty() {
        return faults.push(FieldError::required(at, ""));
    }
    let Some((domain, path)) = signer.split_once('/') else {
        let message = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return faults.push(FieldError::invalid(at, signer, message));
    };
    for message in dns1123_subdomain(domain) {
        faults.push(FieldError::invalid(at, domain, format!("validating label {domain:?}: {message}")));
    }
    if !domain.contains('.') {
        faults.push(FieldError::invalid(
            at,
            domain,
            "should be a domain with at least two segments separated by dots",
        ));
    }
    for segment in path.split('.') {
        for message in dns1123_subdomain(segment) {
            faults.push(FieldError::invalid(at, path, format!("validating label {segment:?}: {message}")));
        }
    }
}

fn validate_conditions(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("status");
    let at = at.child("conditions");
    let mut seen = HashSet::new();
    for (index, condition) in items(tree, "status.conditions").iter().enumerate() {
        let at = at.index(index);
        let (kind, status) = (text(condition, "type"), text(condition, "status"));
        if kind.is_empty() {
            faults.push(FieldError::required(at.child("type"), ""));
        }
        let allowed: &[&str] =
            if TRUE_ONLY.contains(&kind) { &["True"] } else { &["False", "True", "Unknown"] };
        match status {
            "" => faults.push(FieldError::required(at.child("status"), "")),
            known if allowed.contains(&known) => {}
            other => faults.push(FieldError::not_supported(at.child("status"), other, allowed)),
        }
        let other = if kind == "Approved" { "Denied" } else { "Approved" };
        if DECISIONS.contains(&kind) && seen.contains(other) {
            let message = "Approved and Denied conditions are mutually exclusive";
            faults.push(FieldError::invalid(at.child("type"), kind, message));
        }
        if !seen.insert(kind) {
            faults.push(FieldError::duplicate(at.child("type"), kind));
        }
    }
    faults
}

/// A decision stays: no call takes conditions away, and only `approval` adds the deciding ones.
fn validate_change(subresource: Option<&str>, new: &Value, old: &Value) -> Faults {
    let mut faults = validate_conditions(new);
    let at = Path::new("status");
    let has = |tree: &Value, kind: &str| {
        items(tree, "status.conditions").iter().any(|one| text(one, "type") == kind)
    };
    let verb = |new_has: bool, kind: &str| {
        format!("updates may not {} a condition of type {kind:?}", if new_has { "add" } else { "remove" })
    };
    for kind in TRUE_ONLY {
        let (was, is) = (has(old, kind), has(new, kind));
        let may_add = match kind {
            "Failed" => subresource == Some("status"),
            _ => subresource == Some("approval"),
        };
        if (was && !is) || (!was && is && !may_add) {
            faults.push(FieldError::forbidden(at.child("conditions"), verb(is, kind)));
        }
    }
    let (was, is) = (text(old, "status.certificate"), text(new, "status.certificate"));
    if was != is {
        if subresource != Some("status") {
            faults.push(FieldError::forbidden(
                at.child("certificate"),
                "updates may not set certificate content",
            ));
        } else if !was.is_empty() {
            let message = "updates may not modify existing certificate content";
            faults.push(FieldError::forbidden(at.child("certificate"), message));
        }
    }
    faults
}

/// Gives conditions the times that a client may leave out.
fn stamp(new: &mut Value, old: &Value, now: Timestamp) {
    let now = json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let Some(status) = new.get_mut("status") else { return };
    let mut known: HashMap<&str, &Value> = HashMap::new();
    for one in items(old, "status.conditions") {
        known.entry(text(one, "type")).or_insert(one);
    }
    for condition in super::items_mut(status, "conditions") {
        let was = known.get(text(condition, "type")).copied();
        let Some(condition) = condition.as_object_mut() else { continue };
        let same = was.is_some_and(|was| Some(&was["status"]) == condition.get("status"));
        super::default_to(condition, "lastUpdateTime", now.clone());
        let since =
            was.filter(|_| same).map(|was| was["lastTransitionTime"].clone()).filter(|at| !at.is_null());
        super::default_to(condition, "lastTransitionTime", since.unwrap_or_else(|| now.clone()));
    }
}

impl Strategy for Requests {
    fn prepare_for_create(&self, ctx: &RequestContext<'_>, tree: &mut Value) -> Result<(), ApiError> {
        let Some(spec) = super::object(tree, "spec") else { return Ok(()) };
        spec.insert("username".into(), json!(ctx.user.name));
        for (field, value) in [
            ("uid", json!(ctx.user.uid)),
            ("groups", json!(ctx.user.groups)),
            ("extra", json!(ctx.user.extra)),
        ] {
            let empty = value == "" || value == json!([]) || value == json!({});
            if empty {
                spec.remove(field)
            } else {
                spec.insert(field.into(), value)
            };
        }
        tree["status"] = json!({});
        Ok(())
    }

    fn prepare_for_update(
        &self,
        ctx: &RequestContext<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        super::keep(new, old, "spec");
        match ctx.subresource {
            None => super::keep(new, old, "status"),
            Some("approval") => {
                // Approvers change conditions only.
                let conditions = new["status"]["conditions"].take();
                super::keep(new, old, "status");
                if !conditions.is_null()
                    && let Some(status) = super::object(new, "status")
                {
                    status.insert("conditions".into(), conditions);
                }
                stamp(new, old, ctx.now);
            }
            Some(_) => {
                restore_decisions(new, old);
                stamp(new, old, ctx.now);
            }
        }
        Ok(())
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate_spec(tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        validate_change(ctx.subresource, new, old)
    }

    fn selectable_fields(&self) -> Vec<Str> {
        fields(&["spec.signerName"])
    }

    fn field_value<'a>(&self, tree: &'a Value, path: &str) -> Cow<'a, str> {
        Cow::Borrowed(text(tree, path))
    }

    fn columns(&self) -> &'static [Column] {
        printers::certificates::COLUMNS
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::certificates::cells(tree, now)
    }
}

/// A signer that knows an old version does not undo or forge a decision by writing status.
fn restore_decisions(new: &mut Value, old: &Value) {
    let decides = |one: &Value| DECISIONS.contains(&text(one, "type"));
    let kept: Vec<Value> =
        items(old, "status.conditions").iter().filter(|one| decides(one)).cloned().collect();
    let Some(status) = super::object(new, "status") else { return };
    let others = match status.remove("conditions") {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    let mut conditions = kept;
    conditions.extend(others.into_iter().filter(|one| !decides(one)));
    if !conditions.is_empty() {
        status.insert("conditions".into(), Value::Array(conditions));
    }
}
