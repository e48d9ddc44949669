//! Passes over everything that is stored: how much is encrypted, and writing anew what is stale.
//!
//! A value is written anew under a compare on its version, with its lease, by the path of every write. So
//! reads and watches go on, whoever changes an object meanwhile wins, and a crash leaves each value in its
//! old form or its new one. Nothing remembers how far a pass has come: what is stale is seen in the values
//! themselves.

use bytes::Bytes;
use embedded_store::{Compare, KeyValue, Op, RangeRequest, Store, StoreError, Txn};
use serde::{Deserialize, Serialize};

use super::store::EncryptedStore;
use super::transform::{ENCRYPTED, ROOT};
use super::{ChangeError, unreadable};

/// Values that are looked at, and written, at a time.
const PAGE: usize = 500;
const AT_ONCE: usize = 64;
/// Passes after which values that become stale again and again are left to the next command.
const PASSES: usize = 20;
/// Unreadable values that are named.
const NAMED: usize = 20;

/// Who says what is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    #[default]
    Nobody,
    File,
    Cluster,
}

/// How encryption at rest stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EncryptionStatus {
    pub origin: Origin,
    /// Whether Secrets are written encrypted now.
    pub enabled: bool,
    /// Keys that the cluster keeps, the one that writes first.
    pub keys: Vec<String>,
    /// Stored values that are encrypted.
    pub encrypted: usize,
    /// Stored values that would be written otherwise now.
    pub stale: usize,
    /// Values that cannot be read, and why: the first ones.
    pub unreadable: Vec<String>,
    /// Plugins that are not well, and why.
    pub ailing: Vec<(String, String)>,
}

impl EncryptedStore {
    /// All that is stored below a key, as it is stored, a page after the other.
    fn page(&self, from: Bytes) -> Result<Vec<KeyValue>, StoreError> {
        let end = format!("{}0", &ROOT[..ROOT.len() - 1]);
        let request =
            RangeRequest { key: from, range_end: Some(end.into()), limit: PAGE, ..RangeRequest::default() };
        self.stored.range(&request).map(|found| found.kvs)
    }

    fn each(&self, mut look: impl FnMut(KeyValue)) -> Result<(), StoreError> {
        let mut from = Bytes::from(ROOT);
        loop {
            let page = self.page(from)?;
            let Some(last) = page.last() else { return Ok(()) };
            from = [&last.key[..], b"\0"].concat().into();
            page.into_iter().for_each(&mut look);
        }
    }

    pub(crate) fn origin(&self) -> Origin {
        let transformers = self.encryption.transformers.load();
        match (&transformers.file, &transformers.kept) {
            (Some(_), _) => Origin::File,
            (None, Some(_)) => Origin::Cluster,
            (None, None) => Origin::Nobody,
        }
    }

    /// How it stands. Looks at every value, and decrypts those that are encrypted.
    pub(crate) fn survey(&self) -> EncryptionStatus {
        let transformers = self.encryption.transformers.load_full();
        let keys = self.encryption.state.lock().kept.keys();
        let mut status = EncryptionStatus { origin: self.origin(), keys, ..EncryptionStatus::default() };
        let probe = transformers.write(b"/registry/secrets/default/x", &Bytes::from_static(b"{}"));
        status.enabled = probe.map_or(true, |written| written.starts_with(ENCRYPTED));
        let plugins = transformers.plugins();
        status.ailing =
            plugins.filter_map(|plugin| Some((plugin.name().into(), plugin.ailment()?))).collect();
        status.ailing.sort();
        status.ailing.dedup();
        let seen = self.each(|kv| {
            status.encrypted += usize::from(kv.value.starts_with(ENCRYPTED));
            match transformers.read(&kv.key, &kv.value) {
                Ok(opened) => status.stale += usize::from(opened.stale),
                Err(why) if status.unreadable.len() < NAMED => {
                    status.unreadable.push(unreadable(&kv.key, &why));
                }
                Err(_) => {}
            }
        });
        if let Err(error) = seen {
            tracing::error!(%error, "the store cannot be looked through");
        }
        status
    }

    /// Writes everything anew that is stale, and tells how many values that were.
    pub(crate) async fn reencrypt(&self) -> Result<usize, ChangeError> {
        let mut written = 0;
        for _ in 0..PASSES {
            let mut stale = Vec::new();
            let transformers = self.encryption.transformers.load_full();
            self.each(|kv| {
                if transformers.read(&kv.key, &kv.value).is_ok_and(|opened| opened.stale) {
                    stale.push(kv.key);
                }
            })?;
            if stale.is_empty() {
                return Ok(written);
            }
            for keys in stale.chunks(AT_ONCE) {
                written += self.rewrite(keys).await?;
            }
        }
        Err(ChangeError::Stale { left: self.survey().stale })
    }

    /// Writes these values anew, those that nobody changes meanwhile. Each in a transaction of its own: they
    /// share the syncs, and one that has changed does not hold the others up.
    async fn rewrite(&self, keys: &[Bytes]) -> Result<usize, StoreError> {
        let writes = keys.iter().map(|key| self.rewrite_one(key.clone()));
        let outcomes = futures::future::join_all(writes).await;
        outcomes.into_iter().try_fold(0, |count, outcome| Ok(count + usize::from(outcome?)))
    }

    /// Writes a value anew. Whether it was there and nobody has changed it meanwhile.
    pub(crate) async fn rewrite_one(&self, key: Bytes) -> Result<bool, StoreError> {
        let request = RangeRequest { key, ..RangeRequest::default() };
        let Some(kv) = self.range(&request)?.kvs.pop() else { return Ok(false) };
        let txn = Txn {
            compares: vec![Compare::mod_revision(kv.key.clone(), kv.mod_revision)],
            success: vec![Op::Put { key: kv.key, value: kv.value, lease: kv.lease }],
            may_use_reserve: true,
            ..Txn::default()
        };
        Ok(self.txn(txn).await?.succeeded)
    }
}
