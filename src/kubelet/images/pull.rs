//! Brings a container's image, by its pull policy, with back-off; says in upstream's words what happens.

use std::sync::Arc;

use client::events::EventType;
use jiff::Timestamp;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use parking_lot::Mutex;
use supervisor::Stage;

use super::credentials;
use super::name::ImageName;
use super::settle::Settled;
use crate::events::PodEvents;
use crate::pods::backoff::Backoff;
use crate::pods::turns::Turn;
use crate::runtime::{Runtime, RuntimeError};
use crate::sources::Sources;
use crate::spec::PodExt;
use crate::spec::security::ImageUser;

/// Clones share what is known.
#[derive(Clone)]
pub(crate) struct ImageManager {
    runtime: Arc<dyn Runtime>,
    stage: Stage,
    events: PodEvents,
    sources: Sources,
    state: Arc<Mutex<State>>,
    settled: Settled,
}

#[derive(Default)]
struct State {
    backoff: Backoff,
    /// When and why a pull failed last, by pod and image.
    failures: std::collections::HashMap<String, (Timestamp, String)>,
}

/// An image that is there.
#[derive(Clone, Debug)]
pub(crate) struct PulledImage {
    /// The runtime's own name for it.
    pub(crate) reference: String,
    pub(crate) user: ImageUser,
}

/// Why a container waits: reason, message, and when to try again.
#[derive(Clone, Debug)]
pub(crate) struct NotPulled {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) retry: Option<Timestamp>,
}

fn policy<'a>(container: &'a Container, name: &ImageName) -> &'a str {
    match container.image_pull_policy.as_deref() {
        Some(policy) if !policy.is_empty() => policy,
        _ if name.digest.is_none() && name.tag.as_deref().is_none_or(|tag| tag == "latest") => "Always",
        _ => "IfNotPresent",
    }
}

fn found(image: cri::Image) -> PulledImage {
    let user = ImageUser { uid: image.uid.map(|uid| uid.value), name: image.username };
    PulledImage { reference: image.id, user }
}

impl ImageManager {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, stage: Stage, events: PodEvents, sources: Sources) -> Self {
        let (state, settled) = (Arc::default(), Settled::default());
        ImageManager { runtime, stage, events, sources, state, settled }
    }

    /// Pulls that failed may be tried at once, as after an import.
    pub(crate) fn forget_failures(&self) {
        *self.state.lock() = State::default();
    }

    /// A container has been made of the image with this reference.
    pub(crate) fn used(&self, reference: &str) {
        self.settled.used(&self.runtime, &self.stage, reference);
    }

    /// The image with this reference was removed.
    pub(crate) fn removed(&self, reference: &str) {
        self.settled.forget(reference);
    }

    pub(crate) async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        sandbox: &cri::PodSandboxConfig,
        turn: Option<&Turn>,
    ) -> Result<PulledImage, NotPulled> {
        let image = container.image.as_deref().unwrap_or("");
        let event = |kind, reason: &str, message: String| {
            self.events.container(pod, &container.name, kind, reason, message);
        };
        let name = ImageName::parse(image).map_err(|error| {
            let message = format!("Failed to apply default image tag {image:?}: {error}");
            event(EventType::Warning, "InspectFailed", message.clone());
            NotPulled { reason: "InvalidImageName", message, retry: None }
        })?;
        let present = self.runtime.image(image).await.map_err(|error| {
            let message = format!("Failed to inspect image {image:?}: {error}");
            event(EventType::Warning, "InspectFailed", message.clone());
            let retry = Some(Timestamp::now() + jiff::SignedDuration::from_secs(2));
            NotPulled { reason: "ImageInspectError", message, retry }
        })?;
        let policy = policy(container, &name);
        match present {
            Some(image_found) if policy != "Always" => {
                let message = format!(
                    "Container image {image:?} already present on machine and can be accessed by the pod"
                );
                event(EventType::Normal, "Pulled", message);
                return Ok(found(image_found));
            }
            None if policy == "Never" => {
                let message = format!("Container image {image:?} is not present with pull policy of Never");
                event(EventType::Warning, "ErrImageNeverPull", message.clone());
                let retry = Some(Timestamp::now() + jiff::SignedDuration::from_secs(10));
                return Err(NotPulled { reason: "ErrImageNeverPull", message, retry });
            }
            _ => {}
        }
        // Pulling waits for others' machines.
        if let Some(turn) = turn {
            turn.give_up();
        }
        self.pull(pod, container, image, &name, sandbox).await
    }

    async fn pull(
        &self,
        pod: &Pod,
        container: &Container,
        image: &str,
        name: &ImageName,
        sandbox: &cri::PodSandboxConfig,
    ) -> Result<PulledImage, NotPulled> {
        let event = |kind, reason: &str, message: String| {
            self.events.container(pod, &container.name, kind, reason, message);
        };
        let key = format!("{}_{image}", pod.uid());
        let now = Timestamp::now();
        let waiting = {
            let state = self.state.lock();
            state.failures.get(&key).and_then(|(at, why)| {
                state.backoff.remaining(&key, *at, now).map(|left| (now + left, why.clone()))
            })
        };
        if let Some((retry, why)) = waiting {
            event(EventType::Normal, "BackOff", format!("Back-off pulling image {image:?}"));
            let message = format!("Back-off pulling image {image:?}: ErrImagePull: {why}");
            return Err(NotPulled { reason: "ImagePullBackOff", message, retry: Some(retry) });
        }
        event(EventType::Normal, "Pulling", format!("Pulling image {image:?}"));
        let began = std::time::Instant::now();
        match self.pull_with_credentials(pod, image, name, sandbox).await {
            Ok(reference) => {
                self.succeeded(&key);
                let pulled = self.runtime.image(image).await.ok().flatten();
                let size = pulled.as_ref().map_or(0, |one| one.size);
                let took = go_duration(began.elapsed());
                event(
                    EventType::Normal,
                    "Pulled",
                    format!(
                        "Successfully pulled image {image:?} in {took} ({took} including waiting). Image size: {size} bytes."
                    ),
                );
                Ok(pulled.map_or_else(|| PulledImage { reference, user: ImageUser::default() }, found))
            }
            Err(error) => {
                event(EventType::Warning, "Failed", format!("Failed to pull image {image:?}: {error}"));
                let now = Timestamp::now();
                let mut state = self.state.lock();
                state.backoff.next(&key, now);
                state.failures.insert(key.clone(), (now, error.to_string()));
                let retry = Some(now + state.backoff.delay(&key));
                Err(NotPulled { reason: "ErrImagePull", message: error.to_string(), retry })
            }
        }
    }

    /// The pod is gone.
    pub(crate) fn forget_pod(&self, uid: &str) {
        let mut state = self.state.lock();
        state.backoff.forget_all(uid);
        state.failures.retain(|key, _| !key.starts_with(uid));
    }

    fn succeeded(&self, key: &str) {
        let mut state = self.state.lock();
        state.backoff.forget(key);
        state.failures.remove(key);
    }

    /// Tries each credential that fits, then none; the last failure counts.
    async fn pull_with_credentials(
        &self,
        pod: &Pod,
        image: &str,
        name: &ImageName,
        sandbox: &cri::PodSandboxConfig,
    ) -> Result<String, RuntimeError> {
        let mut secrets = Vec::new();
        for reference in pod.spec_ref().image_pull_secrets.iter().flatten() {
            match self.sources.get::<Secret>(pod.uid(), pod.namespace(), &reference.name).await {
                Ok(Some(secret)) => secrets.push(secret),
                _ => {
                    let message = format!(
                        "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                        reference.name
                    );
                    self.events.pod(pod, EventType::Warning, "FailedToRetrieveImagePullSecret", message);
                }
            }
        }
        let secrets: Vec<&Secret> = secrets.iter().map(AsRef::as_ref).collect();
        let mut credentials: Vec<Option<cri::AuthConfig>> =
            credentials::matching(&secrets, name).into_iter().map(Some).collect();
        if credentials.is_empty() {
            credentials.push(None);
        }
        let mut outcome = Err(RuntimeError::from(tonic::Status::internal("no pull was tried")));
        for auth in credentials {
            outcome = self.runtime.pull_image(image, auth, Some(sandbox.clone())).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

/// A duration to the millisecond, as Go prints it.
fn go_duration(duration: std::time::Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let seconds = format!("{:.3}", (millis % 60_000) as f64 / 1000.0);
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.').to_string();
    if millis < 60_000 { format!("{seconds}s") } else { format!("{}m{seconds}s", millis / 60_000) }
}
