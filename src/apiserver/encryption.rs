//! Encryption at rest: what lies between the registry and the store.
//!
//! [`EncryptedStore`] is the store as the registry has it. What it writes is encrypted as the configuration
//! says, so the log, checkpoints, snapshots and etcd's API hold upstream's `k8s:enc:…`; what it reads is
//! decrypted. The watch cache is fed by the store itself and decrypts each value once, when it takes it in,
//! so reads of the present state stay what they are: reads from memory.
//!
//! The configuration is a file in upstream's form, or one that the cluster keeps in its store, sealed
//! (`kept`). Both can change while the server runs. A value that cannot be read is not served and not
//! forgotten: requests for it say why, and the registry tries it again (`registry::unreadable`).

mod cipher;
mod configuration;
mod kept;
mod kms;
mod metrics;
mod store;
mod sweep;
mod transform;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

pub use configuration::EncryptionError;
pub use kept::ChangeError;
pub use sweep::{EncryptionStatus, Origin};

pub(crate) use store::EncryptedStore;
pub(crate) use transform::TransformError;

use configuration::Configuration;
use kept::{Kept, Seal};
use kms::Plugins;
use metrics::Metrics;
use transform::{ENCRYPTED, Rules, Transformers};

/// What is encrypted how. Without a file and without anything kept, nothing is.
#[derive(Default)]
pub struct Encryption {
    transformers: ArcSwap<Transformers>,
    /// Whether there is any configuration; looked at for every value.
    active: AtomicBool,
    plugins: Plugins,
    seal: Option<Seal>,
    /// Held while the configuration changes.
    state: Mutex<State>,
    metrics: Metrics,
}

#[derive(Default)]
struct State {
    /// SHA-256 of the file, to tell a change from a touch.
    file: Option<[u8; 32]>,
    kept: Kept,
}

impl Encryption {
    /// As the file says, if there is one. With a key, the cluster can keep a configuration of its own. Waits
    /// for the plugins' first answers.
    pub fn new(file: Option<&[u8]>, key: Option<[u8; 32]>) -> Result<Encryption, EncryptionError> {
        let encryption = Encryption { seal: key.map(Seal::new), ..Encryption::default() };
        if let Some(text) = file {
            encryption.reload(text)?;
        }
        Ok(encryption)
    }

    /// Takes a file that has changed; what is wrong with it changes nothing. Whether there was anything new.
    /// Blocks while new plugins are asked.
    pub fn reload(&self, text: &[u8]) -> Result<bool, EncryptionError> {
        let hash: [u8; 32] = Sha256::digest(text).into();
        let known = self.state.lock().file;
        if known == Some(hash) {
            return Ok(false);
        }
        // Not under the lock: the store's thread may want it, and plugins take their time.
        let rules =
            Configuration::parse(text).and_then(|configuration| Rules::new(&configuration, &self.plugins));
        if known.is_some() {
            self.metrics.reloaded(rules.is_ok());
        }
        let file = Some(Arc::new(rules?));
        let mut state = self.state.lock();
        state.file = Some(hash);
        self.replace(Transformers { file, kept: self.transformers.load().kept.clone() });
        Ok(true)
    }

    fn replace(&self, transformers: Transformers) {
        self.active.store(transformers.is_active(), Ordering::Release);
        self.transformers.store(Arc::new(transformers));
        self.plugins.recovered.notify_one();
    }

    fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// Told when values that could not be read may be readable.
    pub(crate) fn hope(&self) -> &Notify {
        &self.plugins.recovered
    }

    /// A value as it is to be stored under this key.
    fn write(&self, key: &[u8], plain: &Bytes) -> Result<Bytes, TransformError> {
        let began = Instant::now();
        let written = self.transformers.load().write(key, plain);
        self.metrics.transformed(metrics::Direction::ToStorage, key, &written, began.elapsed());
        written
    }

    /// A stored value as it was written.
    pub(crate) fn read(&self, key: &[u8], value: &Bytes) -> Result<Bytes, TransformError> {
        if !self.is_active() && !value.starts_with(ENCRYPTED) {
            return Ok(value.clone());
        }
        let began = Instant::now();
        let opened = self.transformers.load().read(key, value).map(|opened| opened.value);
        self.metrics.read(key, value, opened.as_ref().err(), began.elapsed());
        opened
    }

    /// Whether all plugins are well: upstream's check `kms-providers`. None without plugins.
    pub(crate) fn plugins_are_well(&self) -> Option<bool> {
        let transformers = self.transformers.load();
        let mut plugins = transformers.plugins().peekable();
        plugins.peek()?;
        Some(plugins.all(|plugin| plugin.ailment().is_none()))
    }

    pub(crate) fn render_metrics(&self, text: &mut String) {
        self.metrics.render(text);
    }
}

/// What a request is told that asks for a value that cannot be read.
pub(crate) fn unreadable(key: &[u8], why: &TransformError) -> String {
    format!("unable to transform key {:?}: {why}", String::from_utf8_lossy(key))
}
