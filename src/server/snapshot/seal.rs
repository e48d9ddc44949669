//! Sealing with a secret: AES-256-GCM under a key that PBKDF2-HMAC-SHA-256 makes of the secret.
//!
//! Layout: magic and version, salt, nonce, ciphertext with tag. The header is authenticated with the content. The number of
//! rounds is OWASP's for a passphrase; a server token has 128 random bits and would need none.

use std::num::NonZeroU32;

use rand::RngCore;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2;

const MAGIC: &[u8; 8] = b"mk8seal1";
const SALT: usize = 16;
const HEADER: usize = MAGIC.len() + SALT + NONCE_LEN;
#[cfg(not(test))]
const ROUNDS: u32 = 600_000;
#[cfg(test)]
const ROUNDS: u32 = 10;

#[derive(Debug, thiserror::Error)]
pub(super) enum SealError {
    #[error("the sealed keys are damaged")]
    Damaged,
    #[error("the secret does not open the sealed keys, or they are damaged")]
    Secret,
    #[error("the keys cannot be sealed")]
    Cipher,
}

pub(super) fn seal(content: &[u8], secret: &str) -> Result<Vec<u8>, SealError> {
    let mut sealed = MAGIC.to_vec();
    sealed.resize(HEADER, 0);
    rand::rng().fill_bytes(&mut sealed[MAGIC.len()..]);
    let (key, nonce) = key_and_nonce(&sealed, secret)?;
    let mut body = content.to_vec();
    key.seal_in_place_append_tag(nonce, Aad::from(&sealed[..]), &mut body).map_err(|_| SealError::Cipher)?;
    sealed.extend_from_slice(&body);
    Ok(sealed)
}

pub(super) fn open(sealed: &[u8], secret: &str) -> Result<Vec<u8>, SealError> {
    let (header, body) = sealed.split_at_checked(HEADER).ok_or(SealError::Damaged)?;
    if !header.starts_with(MAGIC) {
        return Err(SealError::Damaged);
    }
    let (key, nonce) = key_and_nonce(header, secret)?;
    let mut body = body.to_vec();
    let content = key.open_in_place(nonce, Aad::from(header), &mut body).map_err(|_| SealError::Secret)?;
    Ok(content.to_vec())
}

fn key_and_nonce(header: &[u8], secret: &str) -> Result<(LessSafeKey, Nonce), SealError> {
    let (salt, nonce) = header[MAGIC.len()..].split_at(SALT);
    let rounds = NonZeroU32::new(ROUNDS).ok_or(SealError::Cipher)?;
    let mut key = [0u8; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, secret.as_bytes(), &mut key);
    let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| SealError::Cipher)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Cipher)?;
    Ok((LessSafeKey::new(key), nonce))
}
