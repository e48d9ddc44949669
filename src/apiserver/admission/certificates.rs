//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who approves or signs a request must be
//! allowed to for its signer, and nobody gets a certificate of `system:masters` this way.

use api::{ApiError, Identity};
use base64::Engine as _;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::{Operation, Request};
use crate::authz::{Attributes, Authorizer, Decision};
use crate::printers::text;

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(super) fn validate(authorizer: &Authorizer, request: &Request<'_>, new: &Value) -> Result<(), ApiError> {
    if request.ctx.row.group != GROUP || request.ctx.row.plural != "certificatesigningrequests" {
        return Ok(());
    }
    if request.operation == Operation::Create {
        return subject(request, new);
    }
    if request.operation != Operation::Update {
        return Ok(());
    }
    let old = request.old_tree();
    let signer = text(&old, "spec.signerName");
    let (verb, what) = match request.ctx.subresource {
        Some("approval") => ("approve", "approve"),
        Some("status") if changes_outcome(new, &old) => ("sign", "sign"),
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
            version: "*",
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

fn subject(request: &Request<'_>, new: &Value) -> Result<(), ApiError> {
    if text(new, "spec.signerName") != CLIENT_SIGNER {
        return Ok(());
    }
    let pem = base64::engine::general_purpose::STANDARD.decode(text(new, "spec.request")).unwrap_or_default();
    let Ok(der) = CertificateSigningRequestDer::from_pem_slice(&pem) else { return Ok(()) };
    let Ok((_, parsed)) = X509CertificationRequest::from_der(&der) else { return Ok(()) };
    let mut groups = parsed.certification_request_info.subject.iter_organization();
    if groups.any(|group| group.as_str().is_ok_and(|group| group == api::identity::GROUP_MASTERS)) {
        let why = format!("use of {CLIENT_SIGNER} signer with system:masters group is not allowed");
        return Err(request.forbidden(&why));
    }
    Ok(())
}
