//! Approves the certificate requests of nodes that upstream leaves to an administrator.
//!
//! A node asks, as itself, for the certificate its pod network reads the other nodes with (`system:kube-proxy`, which
//! bootstrap RBAC lets do just that). Its kubelet's certificates are the controllers' to approve, who know its Node.

use std::sync::Arc;
use std::time::Duration;

use agent::join::NETWORK_USER;
use api::{Identity, KindRow, Kinded, UpdateOptions};
use client::{Informers, ObjectApi, ObjectRef, WorkQueue};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use serde_json::{Value, json};
use supervisor::Stage;
use x509_parser::prelude::FromDer;

/// Starts approving in tasks of `stage`.
pub(crate) fn start(api: Arc<dyn ObjectApi>, informers: &Informers, stage: &Stage) {
    let requests = informers.of::<CertificateSigningRequest>();
    let queue: WorkQueue<String> = WorkQueue::new("node certificate approver");
    let adding = queue.clone();
    requests.on_change(move |change| {
        if let Some(request) = &change.new
            && let Some(name) = &request.metadata.name
        {
            adding.add(name.clone());
        }
    });
    queue.run(stage, 1, move |name: String| {
        let (api, requests) = (api.clone(), requests.clone());
        async move {
            let reason =
                requests.get(None, &name).and_then(|request| Some((reason_to_approve(&request)?, request)));
            if let Some((message, request)) = reason {
                approve(&api, &request, message).await?;
            }
            Ok::<Option<Duration>, api::ApiError>(None)
        }
    });
}

/// Why the request may be approved; none if that is not for us to say.
fn reason_to_approve(request: &CertificateSigningRequest) -> Option<&'static str> {
    let decided = request.status.as_ref().and_then(|status| status.conditions.as_ref());
    if decided.is_some_and(|conditions| !conditions.is_empty()) {
        return None;
    }
    let spec = &request.spec;
    node_of(spec)?;
    let (common_name, organizations) = subject(&spec.request.0)?;
    match spec.signer_name.as_str() {
        "kubernetes.io/kube-apiserver-client" if common_name == NETWORK_USER && organizations.is_empty() => {
            Some("Certificate of a node's pod network")
        }
        _ => None,
    }
}

/// The user name of the node that asks, if it is a node.
fn node_of(spec: &CertificateSigningRequestSpec) -> Option<String> {
    let name = spec.username.clone()?;
    let groups = spec.groups.clone().unwrap_or_default();
    let identity = Identity { name: name.clone(), groups, ..Identity::default() };
    identity.node_name().map(|_| name)
}

fn subject(pem: &[u8]) -> Option<(String, Vec<String>)> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let (_, request) =
        x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents).ok()?;
    let subject = &request.certification_request_info.subject;
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_string();
    let groups =
        subject.iter_organization().filter_map(|group| group.as_str().ok().map(str::to_string)).collect();
    Some((name, groups))
}

async fn approve(
    api: &Arc<dyn ObjectApi>,
    request: &CertificateSigningRequest,
    message: &str,
) -> Result<(), api::ApiError> {
    let row: &KindRow = CertificateSigningRequest::row();
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let mut body: Value = serde_json::to_value(request).map_err(api::ApiError::internal)?;
    let condition = json!({
        "type": "Approved", "status": "True", "reason": "AutoApproved", "message": message,
    });
    body["status"]["conditions"] = json!([condition]);
    let at = ObjectRef::new(None, name).sub("approval");
    match api.update(row, at, body, &UpdateOptions::default()).await {
        Ok(_) => Ok(()),
        // Somebody else was quicker; the change will wake us if there is anything left to do.
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use api::identity::GROUP_NODES;
    use k8s_openapi::ByteString;
    use k8s_openapi::api::certificates::v1::CertificateSigningRequestStatus;

    use super::*;

    fn request(
        user: &str,
        signer: &str,
        common_name: &str,
        group: Option<&str>,
    ) -> CertificateSigningRequest {
        let key = agent::keys::new_key().unwrap();
        let pem = agent::keys::request_for(&key, common_name, group, &[]).unwrap();
        let spec = CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: signer.into(),
            username: Some(user.into()),
            groups: Some(vec![GROUP_NODES.into()]),
            ..CertificateSigningRequestSpec::default()
        };
        CertificateSigningRequest { spec, ..CertificateSigningRequest::default() }
    }

    #[test]
    fn nodes_get_what_they_need_for_themselves_only() {
        let client = "kubernetes.io/kube-apiserver-client";
        let serving = "kubernetes.io/kubelet-serving";
        let cases = [
            ("system:node:a", client, NETWORK_USER, None, true),
            ("system:node:a", client, "system:admin", None, false),
            ("system:node:a", client, NETWORK_USER, Some("system:masters"), false),
            ("jane", client, NETWORK_USER, None, false),
            ("system:node:a", serving, "system:node:a", Some(GROUP_NODES), false),
            ("system:node:a", serving, "system:node:b", Some(GROUP_NODES), false),
        ];
        for (user, signer, name, group, wanted) in cases {
            let decision = reason_to_approve(&request(user, signer, name, group));
            assert_eq!(decision.is_some(), wanted, "{user} {signer} {name} {group:?}");
        }
    }

    #[test]
    fn what_is_decided_stays_decided() {
        let mut denied =
            request("system:node:a", "kubernetes.io/kubelet-serving", "system:node:a", Some(GROUP_NODES));
        let condition = k8s_openapi::api::certificates::v1::CertificateSigningRequestCondition {
            type_: "Denied".into(),
            ..Default::default()
        };
        denied.status =
            Some(CertificateSigningRequestStatus { conditions: Some(vec![condition]), ..Default::default() });
        assert_eq!(reason_to_approve(&denied), None);
    }
}
