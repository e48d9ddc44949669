//! Events: what components tell users about objects (`kubectl describe`, `kubectl get events`).
//!
//! A [`Recorder`] puts events in a bounded queue; one task per recorder correlates them as client-go does
//! (repeats become a higher count of one event, many similar ones are combined, floods about one object are
//! cut) and writes them. Writing is paced so that a burst of scheduling does not double the load of the
//! store. Events are best effort: they are retried while the server is unreachable, and dropped when it
//! refuses them.

use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, CreateOptions, Kinded, Patch, UpdateOptions};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use supervisor::{OnExit, Stage};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::{ObjectApi, ObjectRef};
use correlator::{Correlator, EventStep};

mod correlator;

/// `type` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Events that wait for being written; what comes on top is dropped.
const QUEUE: usize = 4096;
/// Writes per second after the first `BURST`.
const RATE: f64 = 300.0;
const BURST: f64 = 600.0;
const TRIES: u32 = 6;
const FIRST_RETRY: Duration = Duration::from_millis(200);

/// Records events in the name of one component. Clones share the queue. Recording never blocks and never
/// fails the caller: what does not fit the bounded queue is dropped and counted in the log.
#[derive(Clone)]
pub struct Recorder {
    source: Arc<EventSource>,
    queue: mpsc::Sender<Event>,
}

impl Recorder {
    /// A recorder whose events carry `source.component` and `reportingComponent` `component`, and `host` if
    /// it runs on a node. Sends from a task of `stage`.
    pub fn new(api: Arc<dyn ObjectApi>, stage: &Stage, component: &str, host: Option<&str>) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let name = format!("events of {component}");
        stage.spawn_cancellable(&name, OnExit::Done, send_all(api, receiver));
        let source = EventSource { component: Some(component.to_string()), host: host.map(str::to_string) };
        Recorder { source: Arc::new(source), queue }
    }

    /// Tells of something that happened to `regarding`.
    pub fn event(
        &self,
        regarding: &ObjectReference,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.record(regarding, kind, reason, message.into(), None);
    }

    /// The same, naming what was being done (`action`), as the scheduler does (`Binding`).
    pub fn event_with_action(
        &self,
        regarding: &ObjectReference,
        kind: EventType,
        reason: &str,
        action: &str,
        message: impl Into<String>,
    ) {
        self.record(regarding, kind, reason, message.into(), Some(action.to_string()));
    }

    fn record(
        &self,
        regarding: &ObjectReference,
        kind: EventType,
        reason: &str,
        message: String,
        action: Option<String>,
    ) {
        let now = Timestamp::now();
        let namespace = regarding.namespace.clone().filter(|namespace| !namespace.is_empty());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(event_name(regarding.name.as_deref().unwrap_or(""), now)),
                namespace: Some(namespace.unwrap_or_else(|| "default".to_string())),
                ..ObjectMeta::default()
            },
            involved_object: regarding.clone(),
            reason: Some(reason.to_string()),
            message: Some(message),
            type_: Some(kind.as_str().to_string()),
            action,
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            reporting_component: self.source.component.clone(),
            reporting_instance: Some(self.source.host.clone().unwrap_or_default()),
            source: Some((*self.source).clone()),
            ..Event::default()
        };
        if self.queue.try_send(event).is_err() {
            let component = self.source.component.as_deref().unwrap_or("");
            tracing::debug!(component, reason, "the queue of events is full or closed; one is dropped");
        }
    }
}

/// `object.hexadecimal-nanoseconds`; names that cannot be part of an object's name (`system:node`) leave only
/// the number.
fn event_name(object: &str, now: Timestamp) -> String {
    let fits = object.len() <= 230
        && object.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && object
            .chars()
            .all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-' || one == '.');
    let nanos = now.as_nanosecond();
    if fits { format!("{object}.{nanos:x}") } else { format!("{nanos:x}-{:08x}", rand::random::<u32>()) }
}

async fn send_all(api: Arc<dyn ObjectApi>, mut receiver: mpsc::Receiver<Event>) {
    let mut correlator = Correlator::default();
    let mut pace = Pace { tokens: BURST, at: Instant::now() };
    while let Some(event) = receiver.recv().await {
        let step = correlator.correlate(event, Timestamp::now());
        if matches!(step, EventStep::Drop) {
            continue;
        }
        pace.wait().await;
        match deliver(&*api, &step).await {
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "an event was refused by the server and is dropped"),
        }
    }
}

/// A token bucket.
struct Pace {
    tokens: f64,
    at: Instant,
}

impl Pace {
    async fn wait(&mut self) {
        let now = Instant::now();
        self.tokens = (self.tokens + (now - self.at).as_secs_f64() * RATE).min(BURST);
        self.at = now;
        self.tokens -= 1.0;
        if self.tokens < 0.0 {
            tokio::time::sleep(Duration::from_secs_f64(-self.tokens / RATE)).await;
        }
    }
}

/// Writes one event, again while the server is not there.
async fn deliver(api: &dyn ObjectApi, step: &EventStep) -> Result<(), ApiError> {
    let mut delay = FIRST_RETRY;
    let mut tries = 1;
    loop {
        match write(api, step).await {
            Err(error) if matches!(error.code(), 429 | 503 | 504) && tries < TRIES => {
                tokio::time::sleep(delay.mul_f64(rand::random_range(0.5..1.0))).await;
                delay *= 2;
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

async fn write(api: &dyn ObjectApi, step: &EventStep) -> Result<(), ApiError> {
    let (event, repeated) = match step {
        EventStep::Create(event) => (event, false),
        EventStep::Repeat(event) => (event, true),
        EventStep::Drop => return Ok(()),
    };
    let namespace = event.metadata.namespace.as_deref();
    if repeated {
        let name = event.metadata.name.as_deref().unwrap_or("");
        let body =
            json!({"count": event.count, "lastTimestamp": event.last_timestamp, "message": event.message});
        let patch = Patch::merge(body);
        match api.patch(Event::row(), ObjectRef::new(namespace, name), patch, &UpdateOptions::default()).await
        {
            // It has expired meanwhile: write it anew.
            Err(error) if error.is_not_found() => {}
            outcome => return outcome.map(|_| ()),
        }
    }
    let body = event.to_tree().map_err(|error| ApiError::internal(format!("encoding: {error}")))?;
    match api.create(Event::row(), namespace, body, &CreateOptions::default()).await {
        Err(error) if error.is_already_exists() => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}

/// A reference to an object for events and endpoints.
pub fn reference_to<K: Kinded>(object: &K) -> ObjectReference {
    let metadata = object.metadata();
    ObjectReference {
        api_version: Some(K::row().api_version()),
        kind: Some(K::row().kind.to_string()),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    }
}
