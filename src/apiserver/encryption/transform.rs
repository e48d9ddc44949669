//! Values on their way to the store and back: which providers a resource has, and what they make of a value.
//!
//! The first provider writes; all of them read, found by the prefix of a value. A value of another provider
//! than the first, or of another key than its first, is stale: the next write replaces it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use api::kinds;
use bytes::Bytes;

use super::cipher::{Cipher, CipherError};
use super::configuration::{Configuration, EncryptionError, GroupResource, Key, ProviderRule};
use super::kms::{Kms, KmsError, Plugins};

/// What every encrypted value begins with.
pub(super) const ENCRYPTED: &[u8] = b"k8s:enc:";

/// Everything that the API server stores lies below this.
pub(super) const ROOT: &str = "/registry/";

/// Why a value cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TransformError {
    /// It is encrypted, and its resource is not.
    #[error("identity transformer tried to read encrypted data: no provider is configured for the resource")]
    Unexpected,
    #[error("no matching prefix found")]
    NoProvider,
    #[error("no matching key was found for the provided {provider} transformer")]
    NoKey { provider: &'static str },
    #[error(transparent)]
    Cipher(#[from] CipherErrorOf),
    #[error(transparent)]
    Kms(#[from] KmsError),
}

/// A cipher's failure, with the prefix of the provider and the key's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{prefix}: {why}")]
pub(crate) struct CipherErrorOf {
    prefix: String,
    why: CipherError,
}

/// A value that was read.
pub(super) struct Opened {
    pub(super) value: Bytes,
    /// It would be written otherwise now.
    pub(super) stale: bool,
}

enum Provider {
    Identity,
    Keyed(Keyed),
    Kms(Arc<Kms>),
}

struct Keyed {
    name: &'static str,
    /// Such as `k8s:enc:secretbox:v1:`.
    prefix: &'static str,
    /// With what a value's prefix goes on.
    keys: Vec<(String, Cipher)>,
}

/// The providers of some resources, in order.
pub(super) struct Providers(Vec<Provider>);

/// A configuration that can be used.
pub(super) struct Rules(HashMap<GroupResource, Vec<Arc<Providers>>>);

impl Rules {
    /// Plugins that run already are gone on with.
    pub(super) fn new(configuration: &Configuration, plugins: &Plugins) -> Result<Rules, EncryptionError> {
        let mut rules: HashMap<GroupResource, Vec<Arc<Providers>>> = HashMap::new();
        for rule in &configuration.resources {
            let providers: Result<Vec<Provider>, EncryptionError> =
                rule.providers.iter().map(|rule| Provider::new(rule, plugins)).collect();
            let providers = Arc::new(Providers(providers?));
            for resource in &rule.resources {
                rules.entry(GroupResource::parse(resource)).or_default().push(providers.clone());
            }
        }
        Ok(Rules(rules))
    }

    /// The providers of a resource; none if nothing is said of it.
    fn of(&self, resource: &GroupResource) -> Option<&[Arc<Providers>]> {
        let of_group = || self.0.get(&GroupResource::new(&resource.group, "*"));
        let all = || self.0.get(&GroupResource::new("*", "*"));
        self.0.get(resource).or_else(of_group).or_else(all).map(Vec::as_slice)
    }

    pub(super) fn plugins(&self) -> impl Iterator<Item = &Arc<Kms>> {
        self.0.values().flatten().flat_map(|providers| &providers.0).filter_map(|provider| match provider {
            Provider::Kms(kms) => Some(kms),
            _ => None,
        })
    }
}

impl Provider {
    fn new(rule: &ProviderRule, plugins: &Plugins) -> Result<Provider, EncryptionError> {
        type Make = fn(&[u8]) -> Option<Cipher>;
        let keyed = |name, prefix, keys: &[Key], make: Make| {
            let keys = keys.iter().filter_map(|key| Some((format!("{}:", key.name), make(&key.secret())?)));
            Provider::Keyed(Keyed { name, prefix, keys: keys.collect() })
        };
        Ok(if let Some(kms) = &rule.kms {
            Provider::Kms(plugins.of(kms)?)
        } else if let Some(aes) = &rule.aesgcm {
            keyed("AES", "k8s:enc:aesgcm:v1:", &aes.keys, Cipher::gcm)
        } else if let Some(aes) = &rule.aescbc {
            keyed("AES", "k8s:enc:aescbc:v1:", &aes.keys, Cipher::cbc)
        } else if let Some(secretbox) = &rule.secretbox {
            keyed("Secretbox", "k8s:enc:secretbox:v1:", &secretbox.keys, Cipher::secretbox)
        } else {
            Provider::Identity
        })
    }

    /// What its values begin with.
    fn prefix(&self) -> &str {
        match self {
            Provider::Identity => "",
            Provider::Keyed(keyed) => keyed.prefix,
            Provider::Kms(kms) => kms.prefix(),
        }
    }

    fn write(&self, place: &[u8], plain: &Bytes) -> Result<Bytes, TransformError> {
        match self {
            Provider::Identity => Ok(plain.clone()),
            Provider::Keyed(keyed) => {
                let (name, cipher) =
                    keyed.keys.first().ok_or(TransformError::NoKey { provider: keyed.name })?;
                let sealed = cipher.seal(place, plain);
                Ok([keyed.prefix.as_bytes(), name.as_bytes(), &sealed].concat().into())
            }
            Provider::Kms(kms) => Ok(kms.seal(place, plain)?.into()),
        }
    }

    /// Opens a value with its prefix.
    fn read(&self, place: &[u8], value: &Bytes) -> Result<Opened, TransformError> {
        match self {
            Provider::Identity if value.starts_with(ENCRYPTED) => Err(TransformError::Unexpected),
            Provider::Identity => Ok(Opened { value: value.clone(), stale: false }),
            Provider::Keyed(keyed) => keyed.read(place, value),
            Provider::Kms(kms) => {
                let (plain, stale) = kms.open(place, &value[kms.prefix().len()..])?;
                Ok(Opened { value: plain.into(), stale })
            }
        }
    }
}

impl Keyed {
    fn read(&self, place: &[u8], value: &[u8]) -> Result<Opened, TransformError> {
        let rest = &value[self.prefix.len()..];
        let mut failed = None;
        for (at, (name, cipher)) in self.keys.iter().enumerate() {
            let Some(sealed) = rest.strip_prefix(name.as_bytes()) else { continue };
            match cipher.open(place, sealed) {
                Ok(plain) => return Ok(Opened { value: plain.into(), stale: at > 0 }),
                // Several keys may have the same name.
                Err(why) => failed = Some(CipherErrorOf { prefix: format!("{}{name}", self.prefix), why }),
            }
        }
        Err(failed.map_or(TransformError::NoKey { provider: self.name }, TransformError::Cipher))
    }
}

impl Providers {
    fn read(&self, place: &[u8], value: &Bytes) -> Result<Opened, TransformError> {
        let mut failed = None;
        for (at, provider) in self.0.iter().enumerate() {
            if !value.starts_with(provider.prefix().as_bytes()) {
                continue;
            }
            match provider.read(place, value) {
                Ok(opened) => return Ok(Opened { stale: opened.stale || at > 0, ..opened }),
                // A value that is encrypted is no business of identity's: those after it may know it.
                Err(TransformError::Unexpected) => {}
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or(TransformError::NoProvider))
    }
}

/// The configurations that count: of the file, and the one that the cluster keeps. The file's says what is
/// written, if there is one; what the other has written can be read.
#[derive(Default)]
pub(super) struct Transformers {
    pub(super) file: Option<Arc<Rules>>,
    pub(super) kept: Option<Arc<Rules>>,
}

impl Transformers {
    pub(super) fn is_active(&self) -> bool {
        self.file.is_some() || self.kept.is_some()
    }

    pub(super) fn plugins(&self) -> impl Iterator<Item = &Arc<Kms>> {
        self.file.iter().chain(&self.kept).flat_map(|rules| rules.plugins())
    }

    fn writing(&self) -> Option<&Rules> {
        self.file.as_deref().or(self.kept.as_deref())
    }

    /// A value as it is to be stored.
    pub(super) fn write(&self, key: &[u8], plain: &Bytes) -> Result<Bytes, TransformError> {
        let resource = resource_of(key);
        let providers = self.writing().zip(resource).and_then(|(rules, resource)| rules.of(&resource));
        match providers.and_then(|all| all.first()).and_then(|providers| providers.0.first()) {
            Some(provider) => provider.write(key, plain),
            None => Ok(plain.clone()),
        }
    }

    /// A stored value as it was before.
    pub(super) fn read(&self, key: &[u8], value: &Bytes) -> Result<Opened, TransformError> {
        let resource = resource_of(key);
        let of = |rules: &Option<Arc<Rules>>| -> Vec<Arc<Providers>> {
            let found =
                rules.as_ref().zip(resource.as_ref()).and_then(|(rules, resource)| rules.of(resource));
            found.unwrap_or_default().to_vec()
        };
        let (file, kept) = (of(&self.file), of(&self.kept));
        let (first, others) = match self.file.is_some() {
            true => (file, kept),
            false => (kept, file),
        };
        if first.is_empty() && !value.starts_with(ENCRYPTED) {
            return Ok(Opened { value: value.clone(), stale: false });
        }
        let mut failed = None;
        let expected = first.len();
        for (at, providers) in first.iter().chain(&others).enumerate() {
            match providers.read(key, value) {
                Ok(opened) => return Ok(Opened { stale: opened.stale || at > 0 || expected == 0, ..opened }),
                // What the first says of the value is the answer, unless it knows nothing of it.
                Err(error) if matches!(failed, None | Some(TransformError::NoProvider)) => {
                    failed = Some(error)
                }
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or(TransformError::Unexpected))
    }
}

/// The resource that a key of the store is of; none for what is no object.
pub(super) fn resource_of(key: &[u8]) -> Option<GroupResource> {
    let path = std::str::from_utf8(key).ok()?.strip_prefix(ROOT)?;
    let (first, rest) = path.split_once('/')?;
    // Groups have a dot, and no built-in kind's path begins with one.
    if first.contains('.') {
        return Some(GroupResource::new(first, rest.split('/').next()?));
    }
    let second = rest.split_once('/').map_or(first.len(), |(second, _)| first.len() + 1 + second.len());
    let known = built_in();
    known.get(&path[..second]).or_else(|| known.get(first)).cloned()
}

/// Built-in resources by where they are stored.
fn built_in() -> &'static HashMap<&'static str, GroupResource> {
    static KNOWN: OnceLock<HashMap<&'static str, GroupResource>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let mut known = HashMap::new();
        for row in kinds::ALL {
            let Some(path) = row.storage.as_deref() else { continue };
            let resource = GroupResource::new(&row.group, &row.plural);
            // Events are of two groups, and are stored as those of the core group.
            known
                .entry(path)
                .and_modify(|known: &mut GroupResource| {
                    if resource.group.is_empty() {
                        *known = resource.clone();
                    }
                })
                .or_insert(resource.clone());
        }
        known
    })
}

#[cfg(test)]
mod tests;
