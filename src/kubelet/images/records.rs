//! Who may use an image that this node has pulled (upstream's `KubeletEnsureSecretPulledImages` with its
//! default policy, `NeverVerifyPreloadedImages`).
//!
//! An image that was pulled with a pod's secret is there for all pods of the node, but only those that have
//! such a secret may have it without asking the registry. What was pulled without credentials is everybody's,
//! and so is what the node has not pulled itself: archives, and what other programs brought. Records are
//! files of upstream's form and place (`image_manager/pulling` and `pulled` below the kubelet's directory),
//! so they outlive the process; an image whose pull was begun and never recorded counts as pulled by nobody.
//! Absent: the other policies, and service accounts, which belong to credential providers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::credentials::Credential;
use super::name::ImageName;
use crate::files;
use crate::host::Host;
use crate::runtime::Runtime;

const VERSION: &str = "kubelet.config.k8s.io/v1beta1";

/// A record does not grow for ever by secrets that are looked at only (upstream's bound).
const MOST_SECRETS: usize = 100;

/// Clones share the records.
#[derive(Clone)]
pub(crate) struct PullRecords {
    runtime: Arc<dyn Runtime>,
    host: Arc<dyn Host>,
    directory: PathBuf,
    state: Arc<Mutex<Option<State>>>,
}

#[derive(Default)]
struct State {
    /// By the runtime's name of the image.
    pulled: HashMap<String, PulledRecord>,
    /// Files that could not be read: what they speak of is nobody's.
    unreadable: HashSet<String>,
    /// Pulls under way, and those that were cut off, by the name that was pulled.
    pulling: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PulledRecord {
    kind: String,
    api_version: String,
    last_updated_time: Timestamp,
    image_ref: String,
    #[serde(default)]
    credential_mapping: BTreeMap<String, Holders>,
}

/// Who has had credentials for an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Holders {
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    kubernetes_secrets: BTreeSet<PullSecret>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    node_pods_accessible: bool,
}

/// A secret, and a hash of the credentials in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PullSecret {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) credential_hash: String,
}

impl PullSecret {
    fn is_of_the_same_object(&self, other: &PullSecret) -> bool {
        (&self.namespace, &self.name, &self.uid) == (&other.namespace, &other.name, &other.uid)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PullIntent {
    kind: String,
    api_version: String,
    image: String,
}

/// Whether a pod may use an image that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Everybody,
    /// Whoever has a secret that it was pulled with.
    Holders,
    /// The registry is to be asked.
    Nobody,
}

/// What a name is called as a file.
fn file_name(name: &str) -> String {
    Sha256::digest(name).iter().fold("sha256-".to_string(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl PullRecords {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, host: Arc<dyn Host>, data_dir: &Path) -> Self {
        PullRecords { runtime, host, directory: data_dir.join("image_manager"), state: Arc::default() }
    }

    fn pulled_dir(&self) -> PathBuf {
        self.directory.join("pulled")
    }

    fn pulling_dir(&self) -> PathBuf {
        self.directory.join("pulling")
    }

    /// Calls with the records, which are read when they are needed first.
    async fn with<T>(&self, call: impl AsyncFnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().await;
        let state = match &mut *state {
            Some(state) => state,
            None => state.insert(self.load().await),
        };
        call(state).await
    }

    async fn load(&self) -> State {
        let (host, pulled, pulling) = (self.host.clone(), self.pulled_dir(), self.pulling_dir());
        let mut state = files::blocking(move || read(&*host, &pulled, &pulling)).await;
        if !state.pulling.is_empty() {
            self.adopt(&mut state).await;
        }
        state
    }

    /// Images whose pulls the last process did not see end: they are there, and nobody is known to have
    /// credentials for them.
    async fn adopt(&self, state: &mut State) {
        let images = match self.runtime.images().await {
            Ok(images) => images,
            Err(error) => {
                tracing::debug!(%error, "pulls that were cut off are looked at again by the next process");
                return;
            }
        };
        for image in std::mem::take(&mut state.pulling).into_keys() {
            let canonical = ImageName::parse(&image).map(|name| name.canonical());
            let is_it =
                |known: &String| *known == image || canonical.as_ref().is_ok_and(|name| name == known);
            let found = images.iter().find(|one| one.repo_tags.iter().chain(&one.repo_digests).any(is_it));
            let Some(found) = found else {
                state.pulling.insert(image, 0);
                continue;
            };
            if self.note(state, &found.id, None).await.is_ok() {
                self.remove(self.pulling_dir().join(file_name(&image))).await;
            } else {
                state.pulling.insert(image, 1);
            }
        }
        // Those that are not there have nothing to guard.
        let over = state.pulling.iter().filter(|(_, count)| **count == 0).map(|(image, _)| image.clone());
        for image in over.collect::<Vec<_>>() {
            state.pulling.remove(&image);
            self.remove(self.pulling_dir().join(file_name(&image))).await;
        }
    }

    async fn write(&self, path: PathBuf, content: &impl Serialize) -> io::Result<()> {
        let data = serde_json::to_vec(content)?;
        let host = self.host.clone();
        files::blocking(move || host.replace_file(&path, &data, 0o600)).await
    }

    async fn remove(&self, path: PathBuf) {
        let host = self.host.clone();
        let shown = path.clone();
        match files::blocking(move || host.remove_file(&path)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %shown.display(), %error, "a record of pulled images is not removed");
            }
            _ => {}
        }
    }

    /// Who may use the image with this reference under this name without asking its registry.
    pub(crate) async fn access(&self, image: &str, name: &ImageName, reference: &str) -> Access {
        self.with(async |state| match state.pulled.get(reference) {
            Some(record) => match record.credential_mapping.get(&name.repository()) {
                Some(holders) if holders.node_pods_accessible => Access::Everybody,
                Some(holders) if !holders.kubernetes_secrets.is_empty() => Access::Holders,
                _ => Access::Nobody,
            },
            None if state.unreadable.contains(&file_name(reference)) => Access::Nobody,
            None if state.pulling.contains_key(image) => Access::Nobody,
            // The node has not pulled it.
            None => Access::Everybody,
        })
        .await
    }

    /// Whether one of these credentials is one that the image was pulled with: the same credentials, or a
    /// secret that has others by now.
    pub(crate) async fn admits(&self, name: &ImageName, reference: &str, credentials: &[Credential]) -> bool {
        self.with(async |state| {
            let Some(record) = state.pulled.get(reference) else { return false };
            let Some(holders) = record.credential_mapping.get(&name.repository()) else { return false };
            let known = &holders.kubernetes_secrets;
            let fitting = credentials.iter().map(|one| &one.secret).find(|secret| {
                let same = |known: &PullSecret| {
                    known.credential_hash == secret.credential_hash || known.is_of_the_same_object(secret)
                };
                known.iter().any(same)
            });
            let Some(secret) = fitting else { return false };
            if !known.contains(secret) && known.len() < MOST_SECRETS {
                let holder = (name.repository(), Some(secret.clone()));
                if let Err(error) = self.note(state, reference, Some(holder)).await {
                    tracing::warn!(reference, %error, "a record of pulled images is not written");
                }
            }
            true
        })
        .await
    }

    /// Notes that an image is about to be pulled; nothing may be pulled without.
    pub(crate) async fn begin(&self, image: &str) -> io::Result<()> {
        self.with(async |state| {
            if !state.pulling.contains_key(image) {
                let (kind, api_version) = ("ImagePullIntent".to_string(), VERSION.to_string());
                let intent = PullIntent { kind, api_version, image: image.to_string() };
                self.write(self.pulling_dir().join(file_name(image)), &intent).await?;
            }
            *state.pulling.entry(image.to_string()).or_default() += 1;
            Ok(())
        })
        .await
    }

    /// Notes that an image was pulled: with a secret, or with none.
    pub(crate) async fn pulled(
        &self,
        image: &str,
        name: &ImageName,
        reference: &str,
        secret: Option<PullSecret>,
    ) {
        self.with(async |state| match self.note(state, reference, Some((name.repository(), secret))).await {
            Ok(()) => self.end(state, image).await,
            // The intent stays, so the image is not taken for one that was there before.
            Err(error) => tracing::warn!(image, %error, "a record of pulled images is not written"),
        })
        .await;
    }

    /// Notes that a pull has failed.
    pub(crate) async fn failed(&self, image: &str) {
        self.with(async |state| self.end(state, image).await).await;
    }

    /// Notes that nobody waits for a pull any more, whose image was this one before. The runtime may have got
    /// as far as to have another: with whose credentials is not known.
    pub(crate) async fn abandoned(&self, image: &str, before: Option<&str>) {
        self.with(async |state| {
            let now = self.runtime.image(image).await.ok().flatten().map(|one| one.id);
            if let Some(new) = now.filter(|now| Some(now.as_str()) != before)
                && let Err(error) = self.note(state, &new, None).await
            {
                tracing::warn!(image, %error, "a record of pulled images is not written");
                return;
            }
            self.end(state, image).await;
        })
        .await;
    }

    async fn end(&self, state: &mut State, image: &str) {
        match state.pulling.get_mut(image) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                state.pulling.remove(image);
                self.remove(self.pulling_dir().join(file_name(image))).await;
            }
        }
    }

    /// Adds who has had an image, by repository and secret, to its record; without that there is just a
    /// record.
    async fn note(
        &self,
        state: &mut State,
        reference: &str,
        holder: Option<(String, Option<PullSecret>)>,
    ) -> io::Result<()> {
        let old = state.pulled.get(reference);
        let mut record = old.cloned().unwrap_or_else(|| PulledRecord {
            kind: "ImagePulledRecord".to_string(),
            api_version: VERSION.to_string(),
            last_updated_time: Timestamp::now(),
            image_ref: reference.to_string(),
            credential_mapping: BTreeMap::new(),
        });
        if let Some((repository, secret)) = holder {
            let holders = record.credential_mapping.entry(repository).or_default();
            match secret {
                None => *holders = Holders { node_pods_accessible: true, ..Holders::default() },
                Some(secret) if !holders.node_pods_accessible => {
                    holders.kubernetes_secrets.retain(|one| !one.is_of_the_same_object(&secret));
                    holders.kubernetes_secrets.insert(secret);
                }
                Some(_) => {}
            }
        }
        if old.is_some_and(|old| old.credential_mapping == record.credential_mapping) {
            return Ok(());
        }
        record.last_updated_time = Timestamp::now();
        let file = file_name(reference);
        self.write(self.pulled_dir().join(&file), &record).await?;
        state.unreadable.remove(&file);
        state.pulled.insert(reference.to_string(), record);
        Ok(())
    }

    /// Forgets images that are gone: those not among these, but for what was recorded since.
    pub(crate) async fn prune(&self, present: &HashSet<&str>, since: Timestamp) {
        self.with(async |state| {
            let is_gone = |record: &&PulledRecord| {
                record.last_updated_time < since && !present.contains(record.image_ref.as_str())
            };
            let gone = state.pulled.values().filter(is_gone).map(|record| record.image_ref.clone());
            for reference in gone.collect::<Vec<_>>() {
                state.pulled.remove(&reference);
                self.remove(self.pulled_dir().join(file_name(&reference))).await;
            }
        })
        .await;
    }
}

fn read(host: &dyn Host, pulled_dir: &Path, pulling_dir: &Path) -> State {
    let mut state = State::default();
    for file in host.list(pulled_dir).into_iter().filter(|file| file.starts_with("sha256-")) {
        let text = host.read_text(&pulled_dir.join(&file).to_string_lossy());
        match serde_json::from_str::<PulledRecord>(&text) {
            Ok(record) if file_name(&record.image_ref) == file => {
                state.pulled.insert(record.image_ref.clone(), record);
            }
            _ => {
                tracing::warn!(file, "a record of pulled images cannot be read: its image is pulled again");
                state.unreadable.insert(file);
            }
        }
    }
    for file in host.list(pulling_dir).into_iter().filter(|file| file.starts_with("sha256-")) {
        let text = host.read_text(&pulling_dir.join(&file).to_string_lossy());
        if let Ok(intent) = serde_json::from_str::<PullIntent>(&text) {
            state.pulling.insert(intent.image, 1);
        }
    }
    state
}

#[cfg(test)]
mod tests;
