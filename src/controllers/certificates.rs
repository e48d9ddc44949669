//! Certificate signing requests: approves those of nodes, signs what is approved, and forgets old ones.
//!
//! Approved by itself is what a node may ask for: its client certificate, its serving certificate (only for
//! addresses that its Node object has, and that are not the API server's), and that of its pod network. A
//! client certificate of a node that exists is for who has its key: the token that lets machines join does
//! not let them become others. Whether the author may have that is asked of authorization, as upstream does,
//! by a SubjectAccessReview for a subresource of `certificatesigningrequests`: bindings decide, and
//! administrators can change them. Everything else waits for `kubectl certificate approve`.

use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, DeleteOptions, Kinded, Preconditions, UpdateOptions};
use client::{Api, Informer, ObjectApi, ObjectRef, WorkQueue};
use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;

use crate::CertificateSigner;
use crate::context::{ControllerContext, ReconcileResult, text, unless_gone};
use plan::State;

mod plan;
mod request;

const ACCOUNT: &str = "certificate-controller";

struct Controller {
    api: Arc<dyn ObjectApi>,
    signer: Arc<dyn CertificateSigner>,
    requests: Informer<CertificateSigningRequest>,
    nodes: Informer<Node>,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("certificates");
    let controller = Arc::new(Controller {
        api: context.act_as(ACCOUNT),
        signer: context.config.signer.clone(),
        requests: context.informers.of(),
        nodes: context.informers.of(),
    });
    let keys = queue.clone();
    controller.requests.on_object_change(move |change| {
        if let Some(request) = &change.new {
            keys.add(request.name().to_string());
        }
    });
    let (keys, requests) = (queue.clone(), controller.requests.clone());
    controller.nodes.on_change(move |change| {
        // A request for a serving certificate may come before the node has its addresses.
        let addresses =
            |node: &Option<Arc<Node>>| node.as_ref().and_then(|node| node.status.as_ref()?.addresses.clone());
        if addresses(&change.old) == addresses(&change.new) {
            return;
        }
        let user = format!("system:node:{}", text(&change.latest().metadata.name));
        for request in requests.list(None) {
            if request.spec.username.as_deref() == Some(&user) {
                keys.add(text(&request.metadata.name).to_string());
            }
        }
    });
    let synced = controller.clone();
    let ready = async move {
        synced.requests.synced().await;
        synced.nodes.synced().await;
    };
    context.run(&queue, 2, ready, move |name| {
        let controller = controller.clone();
        async move { controller.reconcile(&name).await }
    });
}

impl Controller {
    async fn reconcile(&self, name: &str) -> ReconcileResult {
        let Some(request) = self.requests.get(None, name) else { return Ok(None) };
        let now = Timestamp::now();
        if plan::expiry(&request).is_some_and(|expiry| expiry <= now) {
            return self.forget(&request).await;
        }
        match plan::state(&request) {
            State::Pending => self.approve(&request).await?,
            State::Approved => self.sign(&request).await?,
            State::Settled => {}
        }
        let left = plan::expiry(&request).map(|expiry| api::time::seconds_between(now, expiry));
        Ok(left.map(|left| Duration::from_secs_f64(left.max(1.0))))
    }

    async fn approve(&self, request: &CertificateSigningRequest) -> Result<(), ApiError> {
        let node = |name: &str| self.nodes.get(None, name);
        let known = plan::Known { node: &node, signer: &*self.signer };
        let (recognized, unproved) = (plan::recognize(request, &known), plan::unproved(request, &known));
        for kind in recognized {
            if !self.is_allowed(request, kind.subresource).await? {
                continue;
            }
            if let Some(node) = unproved.filter(|_| kind.is_for_any_node()) {
                let condition =
                    plan::condition("Denied", "NodeExists", &plan::exists(&node), Timestamp::now());
                return self.write(request, "approval", |status| status.push(condition), None).await;
            }
            let condition = plan::condition("Approved", "AutoApproved", kind.message, Timestamp::now());
            return self.write(request, "approval", |status| status.push(condition), None).await;
        }
        Ok(())
    }

    /// Whether the request's author may create such requests.
    async fn is_allowed(
        &self,
        request: &CertificateSigningRequest,
        subresource: &str,
    ) -> Result<bool, ApiError> {
        let spec = &request.spec;
        let attributes = ResourceAttributes {
            group: Some("certificates.k8s.io".to_string()),
            resource: Some("certificatesigningrequests".to_string()),
            verb: Some("create".to_string()),
            subresource: Some(subresource.to_string()),
            version: Some("*".to_string()),
            ..ResourceAttributes::default()
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answered = Api::<SubjectAccessReview>::all(self.api.clone()).create(&review).await?;
        Ok(answered.status.as_ref().is_some_and(|status| status.allowed))
    }

    async fn sign(&self, request: &CertificateSigningRequest) -> Result<(), ApiError> {
        let outcome = match plan::may_sign(request) {
            Ok(Some(pem)) => {
                let spec = &request.spec;
                let seconds = spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
                let usages = spec.usages.clone().unwrap_or_default();
                self.signer.sign(&pem, &spec.signer_name, &usages, seconds.map(Duration::from_secs)).await
            }
            // Someone else's signer.
            Ok(None) => return Ok(()),
            Err(why) => Err(why),
        };
        match outcome {
            Ok(chain) => self.write(request, "status", |_| {}, Some(chain)).await,
            Err(why) => {
                let why = why.to_string();
                let condition = plan::condition("Failed", "SignerValidationFailure", &why, Timestamp::now());
                self.write(request, "status", |conditions| conditions.push(condition), None).await
            }
        }
    }

    async fn write(
        &self,
        request: &CertificateSigningRequest,
        subresource: &str,
        change: impl FnOnce(&mut Vec<CertificateSigningRequestCondition>),
        certificate: Option<String>,
    ) -> Result<(), ApiError> {
        let mut told = request.clone();
        let status = told.status.get_or_insert_default();
        change(status.conditions.get_or_insert_default());
        if let Some(certificate) = certificate {
            status.certificate = Some(ByteString(certificate.into_bytes()));
        }
        let body = told.to_tree().map_err(ApiError::internal)?;
        let at = ObjectRef::new(None, text(&request.metadata.name)).sub(subresource);
        let row = CertificateSigningRequest::row();
        unless_gone(self.api.update(row, at, body, &UpdateOptions::default()).await)
    }

    async fn forget(&self, request: &CertificateSigningRequest) -> ReconcileResult {
        let preconditions = Preconditions { uid: request.metadata.uid.clone(), ..Preconditions::default() };
        let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
        let requests = Api::<CertificateSigningRequest>::all(self.api.clone());
        unless_gone(requests.delete(text(&request.metadata.name), &options).await)?;
        Ok(None)
    }
}
