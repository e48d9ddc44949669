//! Key management plugins (KMS v2): the plugin encrypts a seed, and values are encrypted with keys that come
//! of the seed, so that the plugin is asked once in a server's life and once for each change of its key.
//!
//! A plugin is talked to by a thread of its own. Values are read where nothing may be awaited (on the store's
//! thread, for the watch cache), and a seed that is not known yet, such as one that another server has made,
//! must be decrypted there and then. That wait has the plugin's timeout and happens once for a seed.
//!
//! Absent: the first version of the API, seeds that are keys (they are read, never written).

mod client;
mod envelope;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use prost::Message;
use tokio::sync::{Notify, mpsc};

use client::{Client, DecryptRequest};
use envelope::{EncryptedObject, Seed};

use super::configuration::{EncryptionError, KmsRule};

/// How often a plugin is asked how it is: while it is well, and while it is not.
const ALIVE: Duration = Duration::from_secs(60);
const FAILING: Duration = Duration::from_secs(10);
/// How long a seed may be written with after the plugin was last known to be well.
const SEED_LIFE: Duration = Duration::from_secs(180);
/// Seeds that are remembered; each server's start makes one.
const SEEDS: usize = 4096;
/// Questions that wait for the plugin's thread.
const WAITING: usize = 64;

/// What goes wrong between the server, a plugin and a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KmsError {
    #[error("KMS provider {name}: got no encrypted seed of the plugin yet{why}")]
    NoSeed { name: String, why: String },
    #[error("KMS provider {name}: the seed has expired, the plugin is not well{why}")]
    Expired { name: String, why: String },
    #[error("failed to decrypt DEK, error: {0}")]
    Decrypt(String),
    #[error("the stored value is no encrypted object: {0}")]
    Object(String),
    #[error("the stored data is not what the seed has encrypted: it was changed, or is another object's")]
    Wrong,
}

/// Why a plugin is not well, or does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct Ailment(String);

impl From<tonic::Status> for Ailment {
    fn from(status: tonic::Status) -> Self {
        Ailment(status.to_string())
    }
}

/// What values are written with.
struct Current {
    seed: Arc<Seed>,
    /// The seed as the plugin has encrypted it, without a value.
    object: EncryptedObject,
    until: Instant,
}

/// A plugin.
pub(crate) struct Kms {
    name: String,
    /// Such as `k8s:enc:kms:v2:NAME:`.
    prefix: String,
    timeout: Duration,
    shared: Arc<Shared>,
    questions: mpsc::Sender<Question>,
}

/// What the plugin's thread knows and the others use.
#[derive(Default)]
struct Shared {
    current: RwLock<Option<Current>>,
    /// By their encrypted form.
    seeds: Mutex<HashMap<Vec<u8>, Arc<Seed>>>,
    /// Why the plugin is not well; empty while it is.
    ailment: Mutex<Option<Ailment>>,
}

/// A seed to be decrypted.
struct Question {
    object: EncryptedObject,
    answer: SyncSender<Result<Vec<u8>, Ailment>>,
}

/// All plugins that run. A configuration that is read anew goes on with those that it names again.
#[derive(Default)]
pub(super) struct Plugins {
    running: Mutex<HashMap<(String, String, Duration), Weak<Kms>>>,
    /// Told when a plugin is well again: what could not be read may be readable now.
    pub(super) recovered: Arc<Notify>,
}

impl Plugins {
    pub(super) fn of(&self, rule: &KmsRule) -> Result<Arc<Kms>, EncryptionError> {
        let timeout = rule.timeout().unwrap_or(FAILING);
        let key = (rule.name.clone(), rule.endpoint.clone(), timeout);
        let mut running = self.running.lock();
        if let Some(kms) = running.get(&key).and_then(Weak::upgrade) {
            return Ok(kms);
        }
        let socket = PathBuf::from(rule.socket().unwrap_or_default());
        let started = Kms::start(rule.name.clone(), socket, timeout, self.recovered.clone());
        let kms = started
            .map_err(|source| EncryptionError::Kms { name: rule.name.clone(), source })
            .map(Arc::new)?;
        running.retain(|_, kms| kms.strong_count() > 0);
        running.insert(key, Arc::downgrade(&kms));
        Ok(kms)
    }
}

impl Kms {
    /// Starts the plugin's thread, and waits for its first answer. A plugin that does not answer is no
    /// failure: it may come later.
    fn start(
        name: String,
        socket: PathBuf,
        timeout: Duration,
        recovered: Arc<Notify>,
    ) -> std::io::Result<Kms> {
        let (questions, asked) = mpsc::channel(WAITING);
        let (first, wait) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = Client::new(socket, timeout);
        let plugin = Plugin { name: name.clone(), client, shared: shared.clone(), recovered };
        std::thread::Builder::new()
            .name(format!("kms-{name}"))
            .spawn(move || runtime.block_on(plugin.run(asked, &first)))?;
        // The status and the seed are two calls.
        let _ = wait.recv_timeout(timeout * 2);
        Ok(Kms { prefix: format!("k8s:enc:kms:v2:{name}:"), name, timeout, shared, questions })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Why it is not well.
    pub(super) fn ailment(&self) -> Option<String> {
        self.shared.ailment.lock().as_ref().map(ToString::to_string)
    }

    fn because(&self) -> String {
        self.ailment().map_or(String::new(), |why| format!(": {why}"))
    }

    /// A value with everything that is before it.
    pub(super) fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, KmsError> {
        let (name, why) = (self.name.clone(), self.because());
        let current = self.shared.current.read();
        let Some(current) = &*current else { return Err(KmsError::NoSeed { name, why }) };
        if current.until < Instant::now() {
            return Err(KmsError::Expired { name, why });
        }
        let object =
            EncryptedObject { encrypted_data: current.seed.seal(place, plain), ..current.object.clone() };
        Ok([self.prefix.as_bytes(), &object.encode_to_vec()].concat())
    }

    /// A value without its prefix, and whether it was written with another key of the plugin than the
    /// present.
    pub(super) fn open(&self, place: &[u8], sealed: &[u8]) -> Result<(Vec<u8>, bool), KmsError> {
        let object = EncryptedObject::decode(sealed).map_err(|error| KmsError::Object(error.to_string()))?;
        object.check()?;
        let key = object.source_key();
        let known = self.shared.seeds.lock().get(&key).cloned();
        let seed = match known {
            Some(seed) => seed,
            None => self.decrypt(&object, key)?,
        };
        let plain = seed.open(place, &object.encrypted_data)?;
        let current = self.shared.current.read();
        let fresh = current.as_ref().is_some_and(|current| current.object.is_alike(&object));
        Ok((plain, !fresh))
    }

    /// Asks the plugin's thread for a seed. Blocks.
    fn decrypt(&self, object: &EncryptedObject, key: Vec<u8>) -> Result<Arc<Seed>, KmsError> {
        let (answer, wait) = sync_channel(1);
        let source = EncryptedObject { encrypted_data: Vec::new(), ..object.clone() };
        let busy = || KmsError::Decrypt("too many seeds are being decrypted".to_string());
        self.questions.try_send(Question { object: source, answer }).map_err(|_| busy())?;
        let late = || KmsError::Decrypt(format!("the plugin did not answer within {:?}", self.timeout));
        let seed =
            wait.recv_timeout(self.timeout).map_err(|_| late())?.map_err(|why| KmsError::Decrypt(why.0))?;
        let seed = Arc::new(Seed::new(object.source_type, seed)?);
        self.shared.remember(key, seed.clone());
        Ok(seed)
    }
}

impl Shared {
    fn remember(&self, key: Vec<u8>, seed: Arc<Seed>) {
        let mut seeds = self.seeds.lock();
        if seeds.len() >= SEEDS {
            // Those that are used are asked for again.
            seeds.clear();
        }
        seeds.insert(key, seed);
    }
}

/// The side of the plugin's thread.
struct Plugin {
    name: String,
    client: Client,
    shared: Arc<Shared>,
    recovered: Arc<Notify>,
}

impl Plugin {
    /// Ends with the last of those who may ask.
    async fn run(self, mut asked: mpsc::Receiver<Question>, first: &SyncSender<()>) {
        let mut well = self.look().await;
        let _ = first.try_send(());
        loop {
            let pause = tokio::time::sleep(if well { ALIVE } else { FAILING });
            tokio::pin!(pause);
            loop {
                let question = tokio::select! {
                    question = asked.recv() => question,
                    () = &mut pause => break,
                };
                let Some(Question { object, answer }) = question else { return };
                let decrypted = self.client.decrypt(DecryptRequest {
                    ciphertext: object.source,
                    uid: uuid::Uuid::new_v4().to_string(),
                    key_id: object.key_id,
                    annotations: object.annotations,
                });
                let decrypted = decrypted.await.map_err(Ailment::from);
                // Who has asked may have given up.
                let _ = answer.try_send(decrypted);
            }
            well = self.look().await;
        }
    }

    /// Asks how the plugin is, and makes a new seed if its key has changed.
    async fn look(&self) -> bool {
        let outcome = self.renew().await;
        let was = std::mem::replace(&mut *self.shared.ailment.lock(), outcome.as_ref().err().cloned());
        match (&outcome, was) {
            (Ok(()), Some(_)) => {
                tracing::info!(plugin = %self.name, "the KMS plugin is well again");
                self.recovered.notify_one();
            }
            (Err(why), was) if was.as_ref() != Some(why) => {
                tracing::warn!(plugin = %self.name, %why, "the KMS plugin is not well");
            }
            _ => {}
        }
        outcome.is_ok()
    }

    async fn renew(&self) -> Result<(), Ailment> {
        // From before it was asked: that is when it was certainly well.
        let until = Instant::now() + SEED_LIFE;
        let status = self.client.status().await?;
        let mut wrong = Vec::new();
        if status.healthz != "ok" {
            wrong.push(format!("got unexpected healthz status: {}", status.healthz));
        }
        if !matches!(&*status.version, "v2" | "v2beta1") {
            wrong.push(format!("expected KMSv2 API version v2, got {}", status.version));
        }
        if envelope::check_key_id(&status.key_id).is_err() {
            wrong.push("got invalid KMSv2 KeyID: it is empty or too long".to_string());
        }
        if !wrong.is_empty() {
            return Err(Ailment(wrong.join(", ")));
        }
        {
            let mut current = self.shared.current.write();
            if let Some(current) = current.as_mut().filter(|current| current.object.key_id == status.key_id) {
                current.until = until;
                return Ok(());
            }
        }
        let seed = envelope::fresh_seed();
        let sealed = self.client.encrypt(seed.to_vec(), uuid::Uuid::new_v4().to_string());
        let failed = |status: tonic::Status| Ailment(format!("failed to encrypt DEK, error: {status}"));
        let sealed = sealed.await.map_err(failed)?;
        let object = EncryptedObject::of_seed(sealed.ciphertext, sealed.key_id, sealed.annotations);
        let unusable = |error: KmsError| Ailment(error.to_string());
        object.check_source().map_err(unusable)?;
        if object.key_id != status.key_id {
            let why = "the plugin's key has changed between its status and the encryption of a seed";
            return Err(Ailment(why.to_string()));
        }
        let seed = Arc::new(Seed::new(object.source_type, seed.to_vec()).map_err(unusable)?);
        self.shared.remember(object.source_key(), seed.clone());
        *self.shared.current.write() = Some(Current { seed, object, until });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
