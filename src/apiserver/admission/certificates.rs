//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who approves or signs a request
//! must be allowed to for its signer, and nobody gets a certificate of `system:masters` this way.

use api::{ApiError, Identity};
use base64::Engine as _;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;

use super::plugins::Plugins;
use super::request::{Operation, Request};
use crate::authz::{Attributes, Authorizer, Decision};
use api::json::text;

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(super) fn validate(
    authorizer: &Authorizer,
    plugins: &Plugins,
    request: &Request<'_>,
    new: &Value,
) -> Result<(), ApiError> {
    if request.ctx.row.group != GROUP || request.ctx.row.plural != "certificatesigningrequests" {
        return Ok(());
    }
    if request.operation == Operation::Create {
        let runs = plugins.has("CertificateSubjectRestriction");
        return if runs { refuse_masters(request, new) } else { Ok(()) };
    }
    if request.operation != Operation::Update {
        return Ok(());
    }
    let old = request.old_tree();
    let signer = text(&old, "spec.signerName");
    let (verb, what) = match request.ctx.subresource {
        Some("approval") if plugins.has("CertificateApproval") => ("approve", "approve"),
        Some("status") if plugins.has("CertificateSigning") && changes_outcome(new, &old) => ("sign", "sign"),
        _ => return Ok(()),
    };
    if may(authorizer, request.ctx.user, verb, signer) {
        return Ok(());
    }
    Err(request.forbidden(&format!("user not permitted to {what} requests with signerName {signer:?}")))
}

fn changes_outcome(new: &Value, old: &Value) -> bool {
    ["certificate", "conditions"].iter().any(|field| new["status"][field] != old["status"][field])
}

/// For the signer itself, or for all signers of its domain.
fn may(authorizer: &Authorizer, user: &Identity, verb: &str, signer: &str) -> bool {
    let wildcard = signer.split_once('/').map(|(domain, _)| format!("{domain}/*"));
    [Some(signer.to_string()), wildcard].into_iter().flatten().any(|name| {
        let attributes = Attributes {
            user,
            verb,
            group: GROUP,
            resource: "signers",
            subresource: None,
            namespace: None,
            name: Some(&name),
            fields: None,
            path: "",
        };
        authorizer.authorize(&attributes) == Decision::Allow
    })
}

fn refuse_masters(request: &Request<'_>, new: &Value) -> Result<(), ApiError> {
    if text(new, "spec.signerName") != CLIENT_SIGNER {
        return Ok(());
    }
    let Some(subject) = subject(new) else { return Ok(()) };
    if subject.organizations.iter().any(|group| group == api::identity::GROUP_MASTERS) {
        let why = format!("use of {CLIENT_SIGNER} signer with system:masters group is not allowed");
        return Err(request.forbidden(&why));
    }
    Ok(())
}

/// The subject that a certificate is requested for.
pub(super) struct Subject {
    pub(super) common_names: Vec<String>,
    pub(super) organizations: Vec<String>,
}

/// The subject of a signing request; none if it holds no request.
pub(super) fn subject(request: &Value) -> Option<Subject> {
    let pem = base64::engine::general_purpose::STANDARD.decode(text(request, "spec.request")).ok()?;
    let der = CertificateSigningRequestDer::from_pem_slice(&pem).ok()?;
    let (_, parsed) = X509CertificationRequest::from_der(&der).ok()?;
    let name = &parsed.certification_request_info.subject;
    // What is no text equals nothing that is asked for, but it counts.
    let plain = |one: &AttributeTypeAndValue<'_>| one.as_str().unwrap_or("").to_string();
    Some(Subject {
        common_names: name.iter_common_name().map(plain).collect(),
        organizations: name.iter_organization().map(plain).collect(),
    })
}
