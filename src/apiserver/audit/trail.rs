//! What becomes of one request that is audited, and the events that are made of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::{ApiError, Identity};
use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

use super::Audit;
use super::content::{Content, Held};
use super::event::{Event, Found, Outcome, Subject};
use super::policy::{Attributes, Level, Stage, Verdict};

/// Where a request comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// Chosen by the client; a fresh one if it is empty.
    pub(crate) id: String,
    pub(crate) uri: String,
    pub(crate) source_ips: Vec<String>,
    pub(crate) user_agent: String,
}

/// Annotations of one request that are kept.
const MOST_ANNOTATIONS: usize = 256;
const JSON: &str = "application/json";

/// One request. It ends with [`Trail::complete`] or one of its likes; a trail that is dropped before has an
/// event all the same.
pub(crate) struct Trail {
    audit: Arc<Audit>,
    subject: Arc<Subject>,
    found: Mutex<Found>,
    is_over: AtomicBool,
}

impl Trail {
    pub(super) fn new(
        audit: Arc<Audit>,
        user: &Arc<Identity>,
        what: Attributes,
        verdict: Verdict,
        mut origin: Origin,
    ) -> Trail {
        if origin.id.is_empty() {
            origin.id = uuid::Uuid::new_v4().to_string();
        }
        let subject = Subject { verdict, what, origin, user: user.clone(), received: Timestamp::now() };
        Trail { audit, subject: Arc::new(subject), found: Mutex::default(), is_over: AtomicBool::new(false) }
    }

    pub(crate) fn id(&self) -> &str {
        &self.subject.origin.id
    }

    /// Whether its answer has no end of its own.
    pub(crate) fn is_endless(&self, subresources: &[&str]) -> bool {
        let what = &self.subject.what;
        what.verb == "watch" || subresources.contains(&what.subresource.as_str())
    }

    /// Tells that it is there; false if it must not go on.
    pub(super) fn received(&self) -> bool {
        self.tell(Stage::RequestReceived, self.subject.received, None)
    }

    /// It goes no further: nobody will hear of it again.
    pub(super) fn abandon(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    pub(crate) fn impersonates(&self, user: &Arc<Identity>) {
        self.found.lock().impersonated = Some(user.clone());
    }

    /// Notes what a decision on the way was. The first value of a key stays.
    pub(crate) fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        let mut found = self.found.lock();
        if found.annotations.len() < MOST_ANNOTATIONS {
            found.annotations.entry(key.into()).or_insert_with(|| value.into());
        }
    }

    /// Notes how authorization has decided.
    pub(crate) fn decided(&self, is_allowed: bool) {
        self.annotate("authorization.k8s.io/decision", if is_allowed { "allow" } else { "forbid" });
        self.annotate("authorization.k8s.io/reason", "");
    }

    fn is_at_least(&self, level: Level) -> bool {
        self.subject.verdict.level >= level
    }

    pub(crate) fn wants_request(&self) -> bool {
        self.is_at_least(Level::Request)
    }

    pub(crate) fn wants_response(&self) -> bool {
        self.is_at_least(Level::RequestResponse)
    }

    /// Room for a body, which grows as it passes.
    pub(crate) fn hold(&self) -> Held {
        self.audit.room.hold()
    }

    /// A body was too much to be written down.
    pub(crate) fn truncated(&self) {
        self.annotate("audit.k8s.io/truncated", "true");
    }

    /// Takes the object that is sent; its names complete what the path says.
    pub(crate) fn about(&self, tree: &Value) {
        let of = |name: &str| tree["metadata"][name].as_str().unwrap_or_default().to_string();
        let (name, uid, version) = (of("name"), of("uid"), of("resourceVersion"));
        let mut found = self.found.lock();
        (found.name, found.uid, found.resource_version) = (name, uid, version);
    }

    /// Takes the body of the request.
    pub(crate) fn request(&self, content: Content) {
        self.found.lock().request = Some(content);
    }

    /// Takes what a component sends.
    pub(crate) fn request_tree(&self, tree: &Value) {
        if self.wants_request()
            && let Some(content) = self.json(serde_json::to_vec(tree).ok().map(Bytes::from))
        {
            self.request(content);
        }
    }

    /// JSON as content, if there is room.
    fn json(&self, bytes: Option<Bytes>) -> Option<Content> {
        let (bytes, mut held) = (bytes?, self.hold());
        if held.grow(bytes.len()) {
            return Some(Content::new(JSON, bytes, held));
        }
        self.truncated();
        None
    }

    /// The head of an answer without an end has been sent.
    pub(crate) fn started(&self, code: u16) {
        self.tell(Stage::ResponseStarted, Timestamp::now(), Some(Outcome::Code(code)));
    }

    /// The credentials were not accepted. That has one event, and no other before it.
    pub(crate) fn unauthenticated(&self, message: &str) {
        self.abandon();
        self.tell(Stage::ResponseStarted, Timestamp::now(), Some(Outcome::Said(401, message.to_string())));
    }

    /// The answer is complete. Counts once: a stream may end in several ways.
    pub(crate) fn complete(&self, code: u16, content: Option<Content>) {
        if self.is_over.swap(true, Ordering::AcqRel) {
            return;
        }
        self.found.lock().response = content;
        self.tell(Stage::ResponseComplete, Timestamp::now(), Some(Outcome::Code(code)));
    }

    /// The same for a caller in the process.
    pub(crate) fn ended<T>(&self, outcome: &Result<T, ApiError>, shown: impl FnOnce(&T) -> Option<Bytes>) {
        match outcome {
            Ok(given) => {
                let shown = if self.wants_response() { shown(given) } else { None };
                let code = if self.subject.what.verb == "create" { 201 } else { 200 };
                self.complete(code, self.json(shown));
            }
            Err(error) => {
                let mut status = serde_json::to_value(error.status()).unwrap_or_default();
                if let Some(members) = status.as_object_mut() {
                    members.entry("kind").or_insert_with(|| "Status".into());
                    members.entry("apiVersion").or_insert_with(|| "v1".into());
                }
                let content = self.json(serde_json::to_vec(&status).ok().map(Bytes::from));
                self.complete(error.code(), content);
            }
        }
    }

    pub(crate) fn panicked(&self, why: &'static str) {
        if !self.is_over.swap(true, Ordering::AcqRel) {
            self.tell(Stage::Panic, Timestamp::now(), Some(Outcome::Panic(why)));
        }
    }

    fn tell(&self, stage: Stage, at: Timestamp, outcome: Option<Outcome>) -> bool {
        if self.subject.verdict.omit_stages.has(stage) {
            return true;
        }
        let found = self.found.lock().clone();
        self.audit.tell(Event { subject: self.subject.clone(), stage, at, outcome, found })
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if !*self.is_over.get_mut() {
            self.tell(Stage::ResponseComplete, Timestamp::now(), Some(Outcome::GivenUp));
        }
    }
}
