//! The form of values that are encrypted with a plugin's help, and the seeds that encrypt them.
//!
//! A value's key comes of the seed and 32 random bytes that lie before the value (HKDF-Expand with SHA-256),
//! so no key encrypts two values and nonces cannot meet.

use std::collections::HashMap;

use rand::RngCore;
use ring::hkdf;

use super::KmsError;
use crate::encryption::cipher::Gcm;

const INFO: usize = 32;
const SEED: usize = 32;
const LONGEST_KEY_ID: usize = 1024;
const LONGEST_SOURCE: usize = 1024;
const LONGEST_ANNOTATIONS: usize = 32 * 1024;

/// Upstream's message of that name.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EncryptedObject {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) encrypted_data: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) key_id: String,
    /// The seed as the plugin has encrypted it.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) source: Vec<u8>,
    #[prost(map = "string, bytes", tag = "4")]
    pub(super) annotations: HashMap<String, Vec<u8>>,
    #[prost(enumeration = "SourceType", tag = "5")]
    pub(super) source_type: i32,
}

/// What the decrypted source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum SourceType {
    /// The key.
    Key = 0,
    /// The seed of keys.
    Seed = 1,
}

pub(super) fn check_key_id(id: &str) -> Result<(), KmsError> {
    match id.len() {
        0 => Err(KmsError::Object("keyID is empty".to_string())),
        length if length > LONGEST_KEY_ID => Err(KmsError::Object(format!(
            "keyID is {length} bytes, which exceeds the max size of {LONGEST_KEY_ID}"
        ))),
        _ => Ok(()),
    }
}

pub(super) fn fresh_seed() -> [u8; SEED] {
    let mut seed = [0; SEED];
    rand::rng().fill_bytes(&mut seed);
    seed
}

impl EncryptedObject {
    pub(super) fn of_seed(source: Vec<u8>, key_id: String, annotations: HashMap<String, Vec<u8>>) -> Self {
        let source_type = SourceType::Seed as i32;
        EncryptedObject { encrypted_data: Vec::new(), key_id, source, annotations, source_type }
    }

    pub(super) fn check(&self) -> Result<(), KmsError> {
        if self.encrypted_data.is_empty() {
            return Err(KmsError::Object("encrypted data is empty".to_string()));
        }
        self.check_source()
    }

    pub(super) fn check_source(&self) -> Result<(), KmsError> {
        let wrong = |why: String| Err(KmsError::Object(why));
        if SourceType::try_from(self.source_type).is_err() {
            return wrong(format!("unknown encryptedDEKSourceType: {}", self.source_type));
        }
        match self.source.len() {
            0 => return wrong("encrypted DEK source is empty".to_string()),
            length if length > LONGEST_SOURCE => {
                return wrong(format!(
                    "encrypted DEK source is {length} bytes, which exceeds the max size of {LONGEST_SOURCE}"
                ));
            }
            _ => {}
        }
        check_key_id(&self.key_id)?;
        let size: usize = self.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
        if size > LONGEST_ANNOTATIONS {
            return wrong(format!(
                "total size of annotations is {size}, which exceeds the max size of {LONGEST_ANNOTATIONS}"
            ));
        }
        Ok(())
    }

    /// What a seed is known by: everything that the plugin needs to decrypt it.
    pub(super) fn source_key(&self) -> Vec<u8> {
        let mut annotations: Vec<_> = self.annotations.iter().collect();
        annotations.sort();
        let mut key = self.source_type.to_le_bytes().to_vec();
        let parts = [self.source.as_slice(), self.key_id.as_bytes()];
        let all =
            parts.into_iter().chain(annotations.into_iter().flat_map(|(key, value)| [key.as_bytes(), value]));
        for part in all {
            key.extend_from_slice(&(part.len() as u64).to_le_bytes());
            key.extend_from_slice(part);
        }
        key
    }

    /// Whether it was written with the same key of the plugin, in the same way.
    pub(super) fn is_alike(&self, other: &EncryptedObject) -> bool {
        self.key_id == other.key_id && self.source_type == other.source_type
    }
}

/// A decrypted source.
pub(super) enum Seed {
    Key(Gcm),
    Seed(hkdf::Prk),
}

/// The length of a key, for HKDF.
struct KeyLength;

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
}

impl Seed {
    pub(super) fn new(source_type: i32, bytes: Vec<u8>) -> Result<Seed, KmsError> {
        let wrong =
            || KmsError::Decrypt(format!("invalid seed length {} used for key generation", bytes.len()));
        match SourceType::try_from(source_type) {
            Ok(SourceType::Key) => Gcm::new(&bytes).map(Seed::Key).ok_or_else(wrong),
            _ if bytes.len() < SEED => Err(wrong()),
            _ => Ok(Seed::Seed(hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &bytes))),
        }
    }

    fn derived(prk: &hkdf::Prk, info: &[u8]) -> Result<Gcm, KmsError> {
        let mut key = [0; 32];
        let info = [info];
        let expanded = prk.expand(&info, KeyLength).and_then(|key_material| key_material.fill(&mut key));
        expanded.map(|()| Gcm::of_256(&key)).map_err(|_| KmsError::Wrong)
    }

    pub(super) fn seal(&self, place: &[u8], plain: &[u8]) -> Vec<u8> {
        match self {
            Seed::Key(gcm) => gcm.seal(place, plain),
            Seed::Seed(prk) => {
                let mut info = [0; INFO];
                rand::rng().fill_bytes(&mut info);
                // Its lengths are fixed, so a key comes of every seed.
                let sealed = Self::derived(prk, &info).map(|gcm| gcm.seal(place, plain));
                [&info[..], &sealed.unwrap_or_default()].concat()
            }
        }
    }

    pub(super) fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, KmsError> {
        let opened = match self {
            Seed::Key(gcm) => gcm.open(place, sealed),
            Seed::Seed(prk) => {
                let (info, sealed) = sealed.split_at_checked(INFO).ok_or(KmsError::Wrong)?;
                Self::derived(prk, info)?.open(place, sealed)
            }
        };
        opened.map_err(|_| KmsError::Wrong)
    }
}

#[cfg(test)]
mod tests;
