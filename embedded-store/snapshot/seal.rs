//! Seals what the holder of a snapshot must not be able to read: the cluster's keys.
//!
//! AES-256-GCM under a key derived from a passphrase or token by PBKDF2-HMAC-SHA256. The name that a sealed
//! value is stored under is authenticated with it, so values cannot be swapped.

use std::num::NonZeroU32;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};

const MAGIC: &[u8] = b"mk8s-sealed-1";
const SALT: usize = 16;
/// OWASP's figure for PBKDF2-HMAC-SHA256.
const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).expect("it is not zero");

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the machine gives no randomness")]
    Randomness,
    /// The secret is another one, or the value was changed.
    #[error("it was not sealed with this secret, or it is damaged")]
    Wrong,
}

fn key(secret: &[u8], salt: &[u8]) -> Result<LessSafeKey, SealError> {
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt, secret, &mut key);
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).map_err(|_| SealError::Wrong)?))
}

/// Seals a value that will be stored as `name`.
pub fn seal(secret: &[u8], name: &str, value: &[u8]) -> Result<Vec<u8>, SealError> {
    let random = SystemRandom::new();
    let (mut salt, mut nonce) = ([0; SALT], [0; NONCE_LEN]);
    random.fill(&mut salt).map_err(|_| SealError::Randomness)?;
    random.fill(&mut nonce).map_err(|_| SealError::Randomness)?;
    let mut sealed = value.to_vec();
    key(secret, &salt)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut sealed)
        .map_err(|_| SealError::Wrong)?;
    Ok([MAGIC, &salt, &nonce, &sealed].concat())
}

/// Gives back what [`seal`] was given.
pub fn unseal(secret: &[u8], name: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let rest = sealed.strip_prefix(MAGIC).ok_or(SealError::Wrong)?;
    let (salt, rest) = rest.split_at_checked(SALT).ok_or(SealError::Wrong)?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Wrong)?;
    let mut value = rest.to_vec();
    let length = key(secret, salt)?
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name), &mut value)
        .map_err(|_| SealError::Wrong)?
        .len();
    value.truncate(length);
    Ok(value)
}
