//! What is told about a pod that got no node: an event, its PodScheduled condition, and the node it is
//! promised.

use std::sync::Arc;

use api::{Kinded, Patch, UpdateOptions};
use client::events::{EventType, reference_to};
use client::{BoxFuture, ObjectApi, ObjectRef};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::framework::{Nominating, Profile, Status};
use crate::pod::PodInfo;

/// The longest message of an event.
const LONGEST_NOTE: usize = 1024;

/// An attempt that failed.
pub(crate) struct Failure {
    pub(crate) pod: Arc<PodInfo>,
    pub(crate) profile: Arc<Profile>,
    pub(crate) reason: Reason,
    pub(crate) message: String,
    pub(crate) nominating: Nominating,
    /// The pod's status names a node of which `pod` does not know yet.
    pub(crate) was_nominated: bool,
    pub(crate) follow_up: Option<BoxFuture<'static, ()>>,
}

/// The condition's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Unschedulable,
    SchedulerError,
}

impl Failure {
    /// Something went wrong.
    pub(crate) fn error(pod: Arc<PodInfo>, profile: Arc<Profile>, status: &Status) -> Self {
        let (reason, message) = (Reason::SchedulerError, status.message());
        let nominating = Nominating::Clear;
        Failure { pod, profile, reason, message, nominating, was_nominated: false, follow_up: None }
    }

    /// Tells it, and does what is to follow.
    pub(crate) async fn report(self) {
        let handle = &self.profile.handle;
        let note = truncated(&self.message);
        let regarding = reference_to(&*self.pod.pod);
        let (kind, reason) = (EventType::Warning, "FailedScheduling");
        handle.recorder.event_with_action(&regarding, kind, reason, "Scheduling", note);
        let status = self.status();
        if !status.is_null() {
            patch_status(&*handle.api, &self.pod, status).await;
        }
        if let Some(follow_up) = self.follow_up {
            follow_up.await;
        }
    }

    /// What changes of the pod's status.
    fn status(&self) -> Value {
        let status = self.pod.pod.status.as_ref();
        let mut conditions = status.and_then(|status| status.conditions.clone()).unwrap_or_default();
        let condition = PodCondition {
            type_: api::pod::SCHEDULED.to_string(),
            status: "False".to_string(),
            reason: Some(format!("{:?}", self.reason)),
            message: Some(self.message.clone()),
            observed_generation: self.pod.pod.metadata.generation,
            ..PodCondition::default()
        };
        let news = api::pod::set_condition(&mut conditions, condition, Timestamp::now());
        let known = status.and_then(|status| status.nominated_node_name.as_deref()).unwrap_or("");
        let nominated = match &self.nominating {
            Nominating::Node(node) if node != known => Some(json!(node)),
            Nominating::Clear if self.was_nominated || !known.is_empty() => Some(Value::Null),
            Nominating::Keep | Nominating::Clear | Nominating::Node(_) => None,
        };
        if !news && nominated.is_none() {
            return Value::Null;
        }
        let changed = conditions.into_iter().find(|condition| condition.type_ == api::pod::SCHEDULED);
        let mut status = json!({ "conditions": [changed] });
        if let Some(nominated) = nominated {
            status["nominatedNodeName"] = nominated;
        }
        status
    }
}

fn truncated(message: &str) -> String {
    const END: &str = " ...";
    if message.len() <= LONGEST_NOTE {
        return message.to_string();
    }
    let mut end = LONGEST_NOTE - END.len();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{END}", &message[..end])
}

pub(crate) async fn patch_status(api: &dyn ObjectApi, pod: &PodInfo, status: Value) {
    let body = json!({ "metadata": {"uid": pod.uid}, "status": status });
    let at = ObjectRef::new(Some(&pod.key.0), &pod.key.1).sub("status");
    let outcome = api.patch(Pod::row(), at, Patch::strategic(body), &UpdateOptions::default()).await;
    if let Err(error) = outcome {
        tracing::debug!(namespace = %pod.key.0, pod = %pod.key.1, %error, "status could not be written");
    }
}

#[cfg(test)]
mod tests;
