//! Brings a container's image, by its pull policy, with back-off; says in upstream's words what happens.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use client::events::EventType;
use jiff::Timestamp;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use parking_lot::Mutex;
use supervisor::{OnExit, Stage};

use super::credentials::{self, Credential};
use super::name::ImageName;
use super::records::{Access, PullRecords, PullSecret};
use super::registries::{self, RegistryFault};
use super::settle::Settled;
use crate::events::PodEvents;
use crate::files;
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
    records: PullRecords,
    registries_dir: PathBuf,
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

/// What is known before a pull.
struct There {
    /// The image that has the name.
    before: Option<String>,
    /// The pod's credentials for its registry, if they were looked up.
    credentials: Option<Vec<Credential>>,
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
    pub(crate) fn new(
        runtime: Arc<dyn Runtime>,
        stage: Stage,
        events: PodEvents,
        sources: Sources,
        records: PullRecords,
        registries_dir: PathBuf,
    ) -> Self {
        let (state, settled) = (Arc::default(), Settled::default());
        ImageManager { runtime, stage, events, sources, state, records, registries_dir, settled }
    }

    /// Forgets who has pulled images that are gone: all but these, which were there at that time.
    pub(crate) async fn prune_records(&self, present: &HashSet<&str>, since: Timestamp) {
        self.records.prune(present, since).await;
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
        let before = present.as_ref().map(|one| one.id.clone());
        let mut there = There { before, credentials: None };
        if let Some(image_found) = present.filter(|_| policy != "Always")
            && self.may_use(pod, image, &name, &image_found.id, &mut there).await
        {
            let message = format!(
                "Container image {image:?} already present on machine and can be accessed by the pod"
            );
            event(EventType::Normal, "Pulled", message);
            return Ok(found(image_found));
        }
        if policy == "Never" {
            // Nobody is told that it is there for others.
            let message = format!("Container image {image:?} is not present with pull policy of Never");
            event(EventType::Warning, "ErrImageNeverPull", message.clone());
            let retry = Some(Timestamp::now() + jiff::SignedDuration::from_secs(10));
            return Err(NotPulled { reason: "ErrImageNeverPull", message, retry });
        }
        // Pulling waits for others' machines.
        if let Some(turn) = turn {
            turn.give_up();
        }
        self.pull(pod, container, &name, there, sandbox).await
    }

    /// Whether a pod may have an image that is there without asking the registry. Credentials that were
    /// looked up for it are left for the pull.
    async fn may_use(
        &self,
        pod: &Pod,
        image: &str,
        name: &ImageName,
        reference: &str,
        there: &mut There,
    ) -> bool {
        match self.records.access(image, name, reference).await {
            Access::Everybody => true,
            Access::Nobody => false,
            Access::Holders => {
                let found = self.credentials(pod, name).await;
                let admitted = self.records.admits(name, reference, &found).await;
                there.credentials = Some(found);
                admitted
            }
        }
    }

    async fn pull(
        &self,
        pod: &Pod,
        container: &Container,
        name: &ImageName,
        there: There,
        sandbox: &cri::PodSandboxConfig,
    ) -> Result<PulledImage, NotPulled> {
        let image = container.image.as_deref().unwrap_or("");
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
        let credentials = match there.credentials {
            Some(credentials) => credentials,
            None => self.credentials(pod, name).await,
        };
        match self.pull_recorded(image, name, there.before, credentials, sandbox).await {
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

    /// What a pod's secrets have for an image's registry.
    async fn credentials(&self, pod: &Pod, name: &ImageName) -> Vec<Credential> {
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
        credentials::matching(&secrets, name)
    }

    /// Pulls, and keeps a record of who has.
    async fn pull_recorded(
        &self,
        image: &str,
        name: &ImageName,
        before: Option<String>,
        credentials: Vec<Credential>,
        sandbox: &cri::PodSandboxConfig,
    ) -> Result<String, PullError> {
        self.records.begin(image).await.map_err(PullError::Intent)?;
        let begun =
            Begun { records: &self.records, stage: &self.stage, image: Some(image.to_string()), before };
        let pulled = self.pull_with_credentials(image, credentials, sandbox).await;
        let image = begun.over();
        match pulled {
            Ok((reference, secret)) => {
                self.records.pulled(&image, name, &reference, secret).await;
                Ok(reference)
            }
            Err(error) => {
                self.records.failed(&image).await;
                let (directory, registry) = (self.registries_dir.clone(), name.domain.clone());
                match files::blocking(move || registries::fault(&directory, &registry)).await {
                    Some(fault) => Err(PullError::Registry { error, fault }),
                    None => Err(error.into()),
                }
            }
        }
    }

    /// Tries each credential that fits, or none if there is none; the last failure counts.
    async fn pull_with_credentials(
        &self,
        image: &str,
        credentials: Vec<Credential>,
        sandbox: &cri::PodSandboxConfig,
    ) -> Result<(String, Option<PullSecret>), RuntimeError> {
        let mut all: Vec<_> = credentials.into_iter().map(|one| (Some(one.auth), Some(one.secret))).collect();
        if all.is_empty() {
            all.push((None, None));
        }
        let mut outcome = Err(RuntimeError::from(tonic::Status::internal("no pull was tried")));
        for (auth, secret) in all {
            let pulled = self.runtime.pull_image(image, auth, Some(sandbox.clone())).await;
            outcome = pulled.map(|reference| (reference, secret));
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

/// Why an image was not pulled.
#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error("failed to record image pull intent: {0}")]
    Intent(std::io::Error),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("{error}; {fault}")]
    Registry { error: RuntimeError, fault: RegistryFault },
}

/// A pull under way, which may be given up at any time: the pod ends.
struct Begun<'a> {
    records: &'a PullRecords,
    stage: &'a Stage,
    image: Option<String>,
    /// The image that had the name before.
    before: Option<String>,
}

impl Begun<'_> {
    fn over(mut self) -> String {
        self.image.take().unwrap_or_default()
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Some(image) = self.image.take() {
            let (records, before) = (self.records.clone(), self.before.take());
            let ending = async move { records.abandoned(&image, before.as_deref()).await };
            self.stage.spawn_cancellable("end of a pull", OnExit::Done, ending);
        }
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
