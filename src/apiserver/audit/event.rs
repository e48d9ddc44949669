//! An event of `audit.k8s.io/v1`: what a back-end's queue holds, and how it is written down.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Identity;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::content::Content;
use super::policy::{Attributes, Level, Stage, Verdict};
use super::trail::Origin;

/// What is known of a request from its beginning on. All its events share it.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) verdict: Verdict,
    pub(super) what: Attributes,
    pub(super) origin: Origin,
    pub(super) user: Arc<Identity>,
    pub(super) received: Timestamp,
}

/// What is learned on the way.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) impersonated: Option<Arc<Identity>>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) request: Option<Content>,
    pub(super) response: Option<Content>,
    /// Of an object that the path does not name.
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Code(u16),
    /// A code and what is said of it.
    Said(u16, String),
    /// What a panicking handler has left.
    Panic(&'static str),
    /// The client has given up before there was an answer.
    GivenUp,
}

/// One event on its way. It is put into words by the thread that writes it.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) subject: Arc<Subject>,
    pub(super) stage: Stage,
    pub(super) at: Timestamp,
    pub(super) outcome: Option<Outcome>,
    pub(super) found: Found,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    kind: &'static str,
    api_version: &'static str,
    level: Level,
    #[serde(rename = "auditID")]
    audit_id: &'a str,
    stage: Stage,
    #[serde(rename = "requestURI")]
    request_uri: &'a str,
    verb: &'a str,
    user: User<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonated_user: Option<User<'a>>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "<[String]>::is_empty")]
    source_ips: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    user_agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<ObjectReference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_object: Option<Value>,
    request_received_timestamp: String,
    stage_timestamp: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct User<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: &'a BTreeMap<String, Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectReference<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    api_group: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    api_version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    resource_version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    subresource: &'a str,
}

impl<'a> User<'a> {
    fn of(identity: &'a Identity) -> User<'a> {
        User {
            username: &identity.name,
            uid: &identity.uid,
            groups: &identity.groups,
            extra: &identity.extra,
        }
    }
}

/// A time with microseconds, as events have it.
fn micro_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

const TRUNCATED: &str = "audit.k8s.io/truncated";

impl Event {
    pub(super) fn level(&self) -> Level {
        self.subject.verdict.level
    }

    /// Without the objects of request and answer, which were too much.
    pub(super) fn truncate(&mut self) {
        self.found.request = None;
        self.found.response = None;
        self.found.annotations.insert(TRUNCATED.to_string(), "true".to_string());
    }

    /// As JSON, in one line.
    pub(super) fn json(&self) -> serde_json::Result<Vec<u8>> {
        let (subject, found) = (&*self.subject, &self.found);
        let is_last = matches!(self.stage, Stage::ResponseComplete | Stage::Panic);
        let has = |level, content: &Option<Content>| {
            content
                .as_ref()
                .filter(|_| self.level() >= level)
                .and_then(Content::tree)
                .map(|tree| self.tidy(tree))
        };
        let answer = found.response.as_ref().filter(|_| is_last).and_then(Content::tree);
        let shown = Shown {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: self.level(),
            audit_id: &subject.origin.id,
            stage: self.stage,
            request_uri: &subject.origin.uri,
            verb: &subject.what.verb,
            user: User::of(&subject.user),
            impersonated_user: found.impersonated.as_deref().map(User::of),
            source_ips: &subject.origin.source_ips,
            user_agent: &subject.origin.user_agent,
            object_ref: self.object(),
            response_status: self.outcome.as_ref().and_then(|outcome| status(outcome, answer.as_ref())),
            request_object: has(Level::Request, &found.request)
                .filter(|_| self.stage != Stage::RequestReceived),
            response_object: answer
                .filter(|_| self.level() >= Level::RequestResponse)
                .map(|tree| self.tidy(tree)),
            request_received_timestamp: micro_time(subject.received),
            stage_timestamp: micro_time(self.at),
            annotations: &found.annotations,
        };
        serde_json::to_vec(&shown)
    }

    /// Without managed fields, where they are not wanted.
    fn tidy(&self, mut tree: Value) -> Value {
        fn forget(tree: &mut Value) {
            if let Some(metadata) = tree.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove("managedFields");
            }
        }
        if self.subject.verdict.omit_managed_fields {
            forget(&mut tree);
            if let Some(items) = tree.get_mut("items").and_then(Value::as_array_mut) {
                items.iter_mut().for_each(forget);
            }
            if let Some(rows) = tree.get_mut("rows").and_then(Value::as_array_mut) {
                rows.iter_mut().filter_map(|row| row.get_mut("object")).for_each(forget);
            }
        }
        tree
    }

    fn object(&self) -> Option<ObjectReference<'_>> {
        let (what, found) = (&self.subject.what, &self.found);
        what.is_resource.then(|| ObjectReference {
            resource: &what.resource,
            namespace: &what.namespace,
            name: if what.name.is_empty() { &found.name } else { &what.name },
            uid: &found.uid,
            api_group: &what.group,
            api_version: &what.version,
            resource_version: &found.resource_version,
            subresource: &what.subresource,
        })
    }

    /// Upstream's line for people.
    pub(super) fn legacy(&self) -> String {
        let (subject, found) = (&*self.subject, &self.found);
        let groups = |user: &Identity| match user.groups.as_slice() {
            [] => None,
            groups => Some(groups.iter().map(|group| format!("{group:?}")).collect::<Vec<_>>().join(",")),
        };
        let or = |text: &str, otherwise: &str| {
            if text.is_empty() { otherwise.to_string() } else { text.to_string() }
        };
        let (as_user, as_groups) = match &found.impersonated {
            Some(user) => (user.name.clone(), groups(user)),
            None => ("<self>".to_string(), None),
        };
        let code = match &self.outcome {
            Some(Outcome::Code(code) | Outcome::Said(code, _)) => code.to_string(),
            Some(Outcome::Panic(_)) => "500".to_string(),
            Some(Outcome::GivenUp) | None => "<deferred>".to_string(),
        };
        format!(
            "{} AUDIT: id={:?} stage=\"{:?}\" ip={:?} method={:?} user={:?} groups={:?} as={as_user:?} \
             asgroups={:?} user-agent={:?} namespace={:?} uri={:?} response=\"{code}\"",
            subject.received,
            subject.origin.id,
            self.stage,
            or(subject.origin.source_ips.first().map_or("", |ip| ip), "<unknown>"),
            subject.what.verb,
            or(&subject.user.name, "<none>"),
            groups(&subject.user).unwrap_or_else(|| "<none>".to_string()),
            as_groups.unwrap_or_else(|| "<lookup>".to_string()),
            subject.origin.user_agent,
            or(&subject.what.namespace, "<none>"),
            subject.origin.uri,
        )
    }
}

/// The status that an event tells: the answer's own, if that is one.
fn status(outcome: &Outcome, answer: Option<&Value>) -> Option<Value> {
    let code = match outcome {
        Outcome::Code(code) => *code,
        Outcome::Said(code, message) => {
            return Some(json!({ "metadata": {}, "message": message, "code": code }));
        }
        Outcome::Panic(why) => {
            let message = format!("APIServer panic'd: {why}");
            return Some(json!({ "metadata": {}, "status": "Failure", "message": message,
                                "reason": "InternalError", "code": 500 }));
        }
        Outcome::GivenUp => return None,
    };
    let mut status = json!({ "metadata": {} });
    if let Some(answer) = answer.filter(|answer| answer["kind"] == "Status") {
        for member in ["status", "message", "reason", "details"] {
            if !answer[member].is_null() {
                status[member] = answer[member].clone();
            }
        }
    }
    status["code"] = json!(code);
    Some(status)
}
