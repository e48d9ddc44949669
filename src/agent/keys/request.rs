//! Asking the cluster for a certificate: create a CertificateSigningRequest, wait until it is signed or
//! refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, FieldSelector, WatchEvent, WatchOptions};
use client::{Api, ObjectApi};
use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Pair, signature_over};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// Beginning of the request object's name, such as `node-csr-`.
    pub prefix: &'a str,
    /// Such as `kubernetes.io/kubelet-serving`.
    pub signer: &'a str,
    /// In the API's words, such as `client auth`.
    pub usages: &'a [&'a str],
    pub request_pem: String,
    /// The certificate that came before, with its key: proves the same machine where the certificate itself
    /// has ended.
    pub previous: Option<&'a Pair>,
}

/// Annotations with which a request carries that proof; the approving controller knows them.
const PREVIOUS_CERTIFICATE: &str = "node.minik8s.io/previous-certificate";
const PREVIOUS_KEY_SIGNATURE: &str = "node.minik8s.io/previous-key-signature";

impl Ask<'_> {
    fn annotations(&self) -> Option<BTreeMap<String, String>> {
        let previous = self.previous?;
        let signature = signature_over(&previous.key_pem, &self.request_pem).ok()?;
        let proof =
            [(PREVIOUS_CERTIFICATE, previous.certificate_pem.clone()), (PREVIOUS_KEY_SIGNATURE, signature)];
        Some(proof.map(|(name, value)| (name.to_string(), value)).into())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("the API refused the call: {0}")]
    Api(#[from] ApiError),
    #[error("the request was refused: {0}")]
    Refused(String),
    #[error("the request was not signed within {} s: is it approved (kubectl certificate approve)?", .0.as_secs())]
    Late(Duration),
}

/// The certificate as PEM. Gives up after `timeout`; the request object then stays for an administrator to
/// see.
pub async fn obtain(
    api: Arc<dyn ObjectApi>,
    ask: &Ask<'_>,
    timeout: Duration,
) -> Result<String, RequestError> {
    let api: Api<CertificateSigningRequest> = Api::all(api);
    let object = CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some(ask.prefix.to_string()),
            annotations: ask.annotations(),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(ask.request_pem.clone().into_bytes()),
            signer_name: ask.signer.to_string(),
            usages: Some(ask.usages.iter().map(|usage| usage.to_string()).collect()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let created = api.create(&object).await?;
    let name = created.metadata.name.clone().unwrap_or_default();
    match tokio::time::timeout(timeout, signed(&api, &name)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(RequestError::Late(timeout)),
    }
}

async fn signed(api: &Api<CertificateSigningRequest>, name: &str) -> Result<String, RequestError> {
    loop {
        // A watch without a version begins with the present state.
        let fields = FieldSelector::equals("metadata.name", name);
        let mut events = api.watch(&WatchOptions { fields, ..WatchOptions::default() }).await?;
        while let Some(event) = events.next().await {
            let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else { continue };
            if object.name() != name {
                continue;
            }
            let typed = object.typed::<CertificateSigningRequest>();
            let request = typed.map_err(|error| RequestError::Refused(error.to_string()))?;
            if let Some(outcome) = outcome(&request) {
                return outcome;
            }
        }
    }
}

/// What has become of a request; none while it waits.
fn outcome(request: &CertificateSigningRequest) -> Option<Result<String, RequestError>> {
    let status = request.status.as_ref()?;
    for condition in status.conditions.iter().flatten() {
        if condition.type_ == "Denied" || condition.type_ == "Failed" {
            let message = condition.message.clone().unwrap_or_else(|| condition.type_.clone());
            return Some(Err(RequestError::Refused(message)));
        }
    }
    let pem = status.certificate.as_ref().filter(|pem| !pem.0.is_empty())?;
    Some(
        String::from_utf8(pem.0.clone())
            .map_err(|_| RequestError::Refused("the certificate is not text".to_string())),
    )
}
