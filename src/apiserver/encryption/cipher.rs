//! The ciphers of encryption at rest, in the forms that upstream's API server writes: what one of the two has
//! written the other reads.
//!
//! Absent: a cipher of our own. NaCl's secretbox is put together here from XSalsa20 and Poly1305, because the
//! crate that has it whole stands on older traits than all others.

use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{AesGcm, Nonce};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use poly1305::Poly1305;
use rand::RngCore;
use salsa20::XSalsa20;
use salsa20::cipher::StreamCipher;

/// Why a value cannot be opened. Neither says more than it may: the texts hold nothing of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CipherError {
    #[error("the stored data was shorter than the required size")]
    Short,
    /// The key is another one, the value was changed, or it was written for another object.
    #[error("message authentication failed: the key is another one, or the value is damaged")]
    Wrong,
    #[error("invalid padding on input: the key is another one, or the value is damaged")]
    Padding,
}

/// A cipher with its key.
pub(super) enum Cipher {
    Secretbox(Box<[u8; 32]>),
    Gcm(Gcm),
    Cbc(AesKey),
}

/// AES-GCM by the length of its key.
pub(super) enum Gcm {
    Of128(Box<AesGcm<Aes128, U12>>),
    Of192(Box<AesGcm<Aes192, U12>>),
    Of256(Box<AesGcm<Aes256, U12>>),
}

/// A key of AES by its length.
pub(super) enum AesKey {
    Of128([u8; 16]),
    Of192([u8; 24]),
    Of256([u8; 32]),
}

const XNONCE: usize = 24;
const TAG: usize = 16;
const GCM_NONCE: usize = 12;
const BLOCK: usize = 16;

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

impl Cipher {
    /// Of a key of 32 bytes.
    pub(super) fn secretbox(key: &[u8]) -> Option<Cipher> {
        Some(Cipher::Secretbox(Box::new(key.try_into().ok()?)))
    }

    /// Of a key of 16, 24 or 32 bytes.
    pub(super) fn gcm(key: &[u8]) -> Option<Cipher> {
        Gcm::new(key).map(Cipher::Gcm)
    }

    /// Of a key of 16, 24 or 32 bytes.
    pub(super) fn cbc(key: &[u8]) -> Option<Cipher> {
        Some(Cipher::Cbc(match key.len() {
            16 => AesKey::Of128(key.try_into().ok()?),
            24 => AesKey::Of192(key.try_into().ok()?),
            32 => AesKey::Of256(key.try_into().ok()?),
            _ => return None,
        }))
    }

    /// Encrypts a value that will be stored under this key of the store.
    pub(super) fn seal(&self, place: &[u8], plain: &[u8]) -> Vec<u8> {
        match self {
            Cipher::Secretbox(key) => seal_box(key, plain),
            Cipher::Gcm(gcm) => gcm.seal(place, plain),
            Cipher::Cbc(key) => {
                let iv = random::<BLOCK>();
                let padded = match key {
                    AesKey::Of128(key) => cbc::Encryptor::<Aes128>::new(key.into(), &iv.into())
                        .encrypt_padded_vec::<Pkcs7>(plain),
                    AesKey::Of192(key) => cbc::Encryptor::<Aes192>::new(key.into(), &iv.into())
                        .encrypt_padded_vec::<Pkcs7>(plain),
                    AesKey::Of256(key) => cbc::Encryptor::<Aes256>::new(key.into(), &iv.into())
                        .encrypt_padded_vec::<Pkcs7>(plain),
                };
                [&iv[..], &padded].concat()
            }
        }
    }

    /// Gives back what [`Cipher::seal`] was given for the same place.
    pub(super) fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CipherError> {
        match self {
            Cipher::Secretbox(key) => open_box(key, sealed),
            Cipher::Gcm(gcm) => gcm.open(place, sealed),
            Cipher::Cbc(key) => {
                let (iv, sealed) = sealed.split_first_chunk::<BLOCK>().ok_or(CipherError::Short)?;
                let plain = match key {
                    AesKey::Of128(key) => cbc::Decryptor::<Aes128>::new(key.into(), iv.into())
                        .decrypt_padded_vec::<Pkcs7>(sealed),
                    AesKey::Of192(key) => cbc::Decryptor::<Aes192>::new(key.into(), iv.into())
                        .decrypt_padded_vec::<Pkcs7>(sealed),
                    AesKey::Of256(key) => cbc::Decryptor::<Aes256>::new(key.into(), iv.into())
                        .decrypt_padded_vec::<Pkcs7>(sealed),
                };
                plain.map_err(|_| CipherError::Padding)
            }
        }
    }
}

impl Gcm {
    pub(super) fn new(key: &[u8]) -> Option<Gcm> {
        Some(match key.len() {
            16 => Gcm::Of128(Box::new(AesGcm::new_from_slice(key).ok()?)),
            24 => Gcm::Of192(Box::new(AesGcm::new_from_slice(key).ok()?)),
            32 => Gcm::Of256(Box::new(AesGcm::new_from_slice(key).ok()?)),
            _ => return None,
        })
    }

    pub(super) fn of_256(key: &[u8; 32]) -> Gcm {
        Gcm::Of256(Box::new(AesGcm::new(key.into())))
    }

    /// The place is authenticated with the value: a value that is copied to another place does not open.
    pub(super) fn seal(&self, place: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce = random::<GCM_NONCE>();
        let message = Payload { msg: plain, aad: place };
        let by = Nonce::from(nonce);
        let sealed = match self {
            Gcm::Of128(aead) => aead.encrypt(&by, message),
            Gcm::Of192(aead) => aead.encrypt(&by, message),
            Gcm::Of256(aead) => aead.encrypt(&by, message),
        };
        // It fails for messages of 64 GiB only.
        [&nonce[..], &sealed.unwrap_or_default()].concat()
    }

    pub(super) fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CipherError> {
        let (nonce, sealed) = sealed.split_first_chunk::<GCM_NONCE>().ok_or(CipherError::Short)?;
        let (by, message) = (Nonce::from(*nonce), Payload { msg: sealed, aad: place });
        let plain = match self {
            Gcm::Of128(aead) => aead.decrypt(&by, message),
            Gcm::Of192(aead) => aead.decrypt(&by, message),
            Gcm::Of256(aead) => aead.decrypt(&by, message),
        };
        plain.map_err(|_| CipherError::Wrong)
    }
}

/// The stream whose first 32 bytes are the key of the authenticator, and the authenticator.
fn box_stream(key: &[u8; 32], nonce: &[u8; XNONCE]) -> (XSalsa20, Poly1305) {
    let mut stream = XSalsa20::new(key.into(), nonce.into());
    let mut first = [0; 32];
    stream.apply_keystream(&mut first);
    let authenticator = Poly1305::new(&first.into());
    (stream, authenticator)
}

fn seal_box(key: &[u8; 32], plain: &[u8]) -> Vec<u8> {
    seal_box_with(key, &random(), plain)
}

/// Nonce, tag, ciphertext.
fn seal_box_with(key: &[u8; 32], nonce: &[u8; XNONCE], plain: &[u8]) -> Vec<u8> {
    let (mut stream, authenticator) = box_stream(key, nonce);
    let mut sealed = Vec::with_capacity(XNONCE + TAG + plain.len());
    sealed.extend_from_slice(nonce);
    sealed.extend_from_slice(&[0; TAG]);
    sealed.extend_from_slice(plain);
    stream.apply_keystream(&mut sealed[XNONCE + TAG..]);
    let tag = authenticator.compute_unpadded(&sealed[XNONCE + TAG..]);
    sealed[XNONCE..XNONCE + TAG].copy_from_slice(&tag);
    sealed
}

fn open_box(key: &[u8; 32], sealed: &[u8]) -> Result<Vec<u8>, CipherError> {
    let (nonce, rest) = sealed.split_first_chunk::<XNONCE>().ok_or(CipherError::Short)?;
    let (tag, ciphertext) = rest.split_first_chunk::<TAG>().ok_or(CipherError::Short)?;
    let (mut stream, authenticator) = box_stream(key, nonce);
    let expected = authenticator.compute_unpadded(ciphertext);
    // Compared as a whole, so that the time tells nothing of where they differ.
    let differ = expected.iter().zip(tag).fold(0, |differ, (one, other)| differ | (one ^ other));
    if std::hint::black_box(differ) != 0 {
        return Err(CipherError::Wrong);
    }
    let mut plain = ciphertext.to_vec();
    stream.apply_keystream(&mut plain);
    Ok(plain)
}

#[cfg(test)]
mod tests;
