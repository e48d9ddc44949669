//! The configuration that the cluster keeps in its own store (`--secrets-encryption`), sealed with a key that
//! lies in a file of every server and in no value.
//!
//! Every server takes a change from the log, before it sees any value that was written after it. So a key is
//! known everywhere before the first value comes that it has encrypted, and no server has to be asked. Keys
//! that were in use stay readable until the second rotation after: values of the present state are written
//! anew at once, but the history of the store still has the old ones.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use embedded_store::{Compare, Event, Op, RangeRequest, StoreError, Txn};
use rand::RngCore;

use super::Encryption;
use super::cipher::Gcm;
use super::configuration::{Configuration, EncryptionError, Identity, Key, Keys, ProviderRule, ResourceRule};
use super::kms::Plugins;
use super::store::EncryptedStore;
use super::transform::{Rules, Transformers};

/// Where it lies: no kind is stored below it, since it names no resource.
pub(super) const KEPT: &str = "/registry/encryption/configuration";
const MAGIC: &[u8] = b"mk8s-encryption-1:";

/// Why the kept configuration does not change.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("a file says what is encrypted (--encryption-provider-config): change that instead")]
    File,
    #[error("secrets are encrypted already")]
    Enabled,
    #[error("secrets are not encrypted")]
    Disabled,
    #[error("somebody else changes it at the same time")]
    Raced,
    #[error("{left} values are still written in an older way: 'secrets-encrypt reencrypt' comes first")]
    Stale { left: usize },
    #[error(transparent)]
    Configuration(#[from] EncryptionError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Seals the configuration.
pub(super) struct Seal(Gcm);

impl Seal {
    pub(super) fn new(key: [u8; 32]) -> Seal {
        Seal(Gcm::of_256(&key))
    }

    fn seal(&self, configuration: &Configuration) -> Bytes {
        let text = serde_json::to_vec(configuration).unwrap_or_default();
        [MAGIC, &self.0.seal(KEPT.as_bytes(), &text)].concat().into()
    }

    fn open(&self, sealed: &[u8]) -> Result<Configuration, EncryptionError> {
        let sealed = sealed.strip_prefix(MAGIC).ok_or(EncryptionError::Sealed)?;
        let text = self.0.open(KEPT.as_bytes(), sealed).map_err(|_| EncryptionError::Sealed)?;
        Configuration::parse(&text)
    }
}

/// What is kept, as far as this server knows.
#[derive(Default)]
pub(super) struct Kept {
    /// 0: nothing.
    pub(super) revision: u64,
    pub(super) configuration: Option<Configuration>,
}

impl Kept {
    pub(super) fn rules(&self, plugins: &Plugins) -> Result<Option<Arc<Rules>>, EncryptionError> {
        let rules = self.configuration.as_ref().map(|configuration| Rules::new(configuration, plugins));
        Ok(rules.transpose()?.map(Arc::new))
    }

    /// Names of the keys, the one that writes first.
    pub(super) fn keys(&self) -> Vec<String> {
        let rules = self.configuration.iter().flat_map(|configuration| &configuration.resources);
        let keys = rules.flat_map(|rule| &rule.providers).flat_map(|rule| &rule.secretbox);
        keys.flat_map(|keys| &keys.keys).map(|key| key.name.clone()).collect()
    }

    fn all_keys(&self) -> Vec<Key> {
        let rules = self.configuration.iter().flat_map(|configuration| &configuration.resources);
        let keys = rules.flat_map(|rule| &rule.providers).flat_map(|rule| &rule.secretbox);
        keys.flat_map(|keys| keys.keys.clone()).collect()
    }

    pub(super) fn encrypts(&self) -> bool {
        let rule = self.configuration.as_ref().and_then(|configuration| configuration.resources.first());
        rule.and_then(|rule| rule.providers.first()).is_some_and(|first| first.identity.is_none())
    }
}

/// Secrets with these keys, the first of which writes if anything is to be encrypted.
fn secrets(keys: Vec<Key>, encrypt: bool) -> Configuration {
    let sealed = ProviderRule { secretbox: Some(Keys { keys }), ..ProviderRule::default() };
    let plain = ProviderRule { identity: Some(Identity {}), ..ProviderRule::default() };
    let providers = if encrypt { vec![sealed, plain] } else { vec![plain, sealed] };
    Configuration::new(vec![ResourceRule { resources: vec!["secrets".to_string()], providers }])
}

/// A key with the next number.
fn fresh_key(others: &[Key]) -> Key {
    let number = |key: &Key| key.name.strip_prefix("key").and_then(|number| number.parse::<u64>().ok());
    let next = others.iter().filter_map(number).max().unwrap_or(0) + 1;
    let mut secret = [0; 32];
    rand::rng().fill_bytes(&mut secret);
    Key { name: format!("key{next}"), secret: STANDARD.encode(secret) }
}

impl Encryption {
    /// Takes a kept configuration as it was stored at a revision.
    fn keep(&self, revision: u64, sealed: Option<&[u8]>) -> Result<(), EncryptionError> {
        let mut state = self.state.lock();
        if revision <= state.kept.revision {
            return Ok(());
        }
        let configuration = match (sealed, &self.seal) {
            (None, _) => None,
            (Some(_), None) => return Err(EncryptionError::NoKey),
            (Some(sealed), Some(seal)) => Some(seal.open(sealed)?),
        };
        let kept = Kept { revision, configuration };
        let rules = kept.rules(&self.plugins)?;
        state.kept = kept;
        self.replace(Transformers { file: self.transformers.load().file.clone(), kept: rules });
        Ok(())
    }

    fn observe(&self, events: &[Event]) {
        for event in events.iter().filter(|event| event.key == KEPT) {
            let sealed = event.new.as_ref().map(|kv| &*kv.value);
            if let Err(error) = self.keep(event.revision, sealed) {
                tracing::error!(%error, "the cluster's encryption configuration is not taken: the one before stays");
            }
        }
    }
}

impl EncryptedStore {
    /// Takes the kept configuration, and every change of it from then on. Before the caches do: they are told
    /// of each change after this.
    pub(crate) fn follow_kept(&self) -> Result<(), ChangeError> {
        let encryption = self.encryption.clone();
        self.stored.observe(Arc::new(move |events, _| encryption.observe(events)));
        let request = RangeRequest { key: KEPT.into(), ..RangeRequest::default() };
        let found = self.stored.range(&request)?.kvs.pop();
        if let Some(kv) = found {
            self.encryption.keep(kv.mod_revision, Some(&kv.value))?;
        }
        Ok(())
    }

    /// Puts another configuration in the place of the present one.
    async fn change(&self, configuration: &Configuration) -> Result<(), ChangeError> {
        let seal = self.encryption.seal.as_ref().ok_or(EncryptionError::NoKey)?;
        let known = self.encryption.state.lock().kept.revision;
        let put = Op::Put { key: KEPT.into(), value: seal.seal(configuration), lease: 0 };
        let txn = Txn {
            compares: vec![Compare::mod_revision(KEPT, known)],
            success: vec![put],
            may_use_reserve: true,
            ..Txn::default()
        };
        // What observers are told is in effect when the write is acknowledged.
        match self.stored.txn(txn).await?.succeeded {
            true => Ok(()),
            false => Err(ChangeError::Raced),
        }
    }

    fn check_kept(&self) -> Result<(), ChangeError> {
        let by_file = self.encryption.transformers.load().file.is_some();
        if by_file { Err(ChangeError::File) } else { Ok(()) }
    }

    /// From now on Secrets are written encrypted.
    pub(crate) async fn enable(&self) -> Result<(), ChangeError> {
        self.check_kept()?;
        let configuration = {
            let state = self.encryption.state.lock();
            if state.kept.encrypts() {
                return Err(ChangeError::Enabled);
            }
            let mut keys = state.kept.all_keys();
            if keys.is_empty() {
                keys.push(fresh_key(&[]));
            }
            secrets(keys, true)
        };
        self.change(&configuration).await
    }

    /// From now on Secrets are written in plain text.
    pub(crate) async fn disable(&self) -> Result<(), ChangeError> {
        self.check_kept()?;
        let configuration = {
            let state = self.encryption.state.lock();
            if !state.kept.encrypts() {
                return Err(ChangeError::Disabled);
            }
            secrets(state.kept.all_keys(), false)
        };
        self.change(&configuration).await
    }

    /// From now on Secrets are written with a new key. The key before it can be read with, older ones cannot
    /// any more: nothing is written with them, or this is refused.
    pub(crate) async fn rotate(&self) -> Result<(), ChangeError> {
        self.check_kept()?;
        let left = self.survey().stale;
        let configuration = {
            let state = self.encryption.state.lock();
            if !state.kept.encrypts() {
                return Err(ChangeError::Disabled);
            }
            if left > 0 {
                return Err(ChangeError::Stale { left });
            }
            let mut keys = state.kept.all_keys();
            keys.insert(0, fresh_key(&keys));
            keys.truncate(2);
            secrets(keys, true)
        };
        self.change(&configuration).await
    }
}

#[cfg(test)]
mod tests;
