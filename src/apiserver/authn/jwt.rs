//! JSON Web Tokens signed with ES256, the only algorithm this cluster's keys are made for.
//!
//! Verification costs far more than the rest of a read, so tokens whose signature was good are remembered by
//! their digest, in a bounded map; claims are checked anew each time.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::service_account::Refused;
use crate::ServiceAccountKeys;

/// DER of a P-256 SubjectPublicKeyInfo up to the point itself.
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const REMEMBERED: usize = 4096;
/// Clocks of a cluster differ a little.
const LEEWAY_SECONDS: i64 = 60;

/// What a service account token says.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub(super) struct Claims {
    #[serde(default, deserialize_with = "one_or_many")]
    pub(super) aud: Vec<String>,
    pub(super) exp: i64,
    #[serde(default)]
    pub(super) iat: i64,
    pub(super) iss: String,
    #[serde(default)]
    pub(super) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(super) kubernetes: Private,
    #[serde(default)]
    pub(super) nbf: i64,
    pub(super) sub: String,
}

/// The part of the claims that is Kubernetes' own: the account and what the token is bound to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub(super) struct Private {
    pub(super) namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<Reference>,
    pub(super) serviceaccount: Reference,
    /// When a token whose life was extended should have been replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) warnafter: Option<i64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub(super) struct Reference {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) uid: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("not a PEM file of the expected kind")]
    Pem(#[from] rustls_pki_types::pem::Error),
    #[error("not an ECDSA P-256 key")]
    Kind,
    #[error("encoding the token")]
    Encode(#[from] serde_json::Error),
    #[error("signing the token")]
    Sign,
}

/// The key that signs and all keys that verify, by key id.
pub(super) struct Keys {
    signer: EcdsaKeyPair,
    id: String,
    verifiers: HashMap<String, UnparsedPublicKey<Vec<u8>>>,
    random: SystemRandom,
    verified: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

impl Keys {
    pub(super) fn new(keys: &ServiceAccountKeys) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let der = PrivatePkcs8KeyDer::from_pem_slice(keys.private_key_pem.as_bytes())?;
        let signer =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random)
                .map_err(|_| KeyError::Kind)?;
        let own = signer.public_key().as_ref().to_vec();
        let id = key_id(&own);
        let mut verifiers = HashMap::new();
        for pem in &keys.public_keys_pem {
            let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes())?;
            let point = der.strip_prefix(&P256_SPKI).ok_or(KeyError::Kind)?.to_vec();
            verifiers.insert(key_id(&point), UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point));
        }
        verifiers.insert(id.clone(), UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, own));
        Ok(Keys { signer, id, verifiers, random, verified: Mutex::default() })
    }

    pub(super) fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        let header = json!({"alg": "ES256", "kid": self.id});
        let mut token = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header)?);
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims)?));
        let signature = self.signer.sign(&self.random, token.as_bytes()).map_err(|_| KeyError::Sign)?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }

    /// The claims of a token with a good signature of a known key. Nothing in them is checked yet.
    pub(super) fn verify(&self, token: &str) -> Result<Arc<Claims>, Refused> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = self.verified.lock().get(&digest) {
            return Ok(claims.clone());
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Refused::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Refused::Malformed)?;
        let header: Header = decode(header)?;
        if header.alg != "ES256" {
            return Err(Refused::Signature);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Refused::Malformed)?;
        let fits = |key: &UnparsedPublicKey<Vec<u8>>| key.verify(signed.as_bytes(), &signature).is_ok();
        let good = match self.verifiers.get(&header.kid) {
            Some(key) => fits(key),
            None => header.kid.is_empty() && self.verifiers.values().any(fits),
        };
        if !good {
            return Err(Refused::Signature);
        }
        let claims: Arc<Claims> = Arc::new(decode(payload)?);
        let mut verified = self.verified.lock();
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(digest, claims.clone());
        Ok(claims)
    }

    pub(super) fn jwks(&self) -> Value {
        let mut ids: Vec<&String> = self.verifiers.keys().collect();
        ids.sort();
        let key = |id: &String| {
            let point: &[u8] = self.verifiers[id].as_ref();
            let (x, y) = point[1..].split_at(32);
            json!({"use": "sig", "kty": "EC", "kid": id, "crv": "P-256", "alg": "ES256",
                "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
        };
        json!({"keys": ids.into_iter().map(key).collect::<Vec<_>>()})
    }
}

impl Claims {
    /// Issuer, audience and dates.
    pub(super) fn check(&self, issuer: &str, audiences: &[String], now: Timestamp) -> Result<(), Refused> {
        let now = now.as_second();
        if self.iss != issuer {
            return Err(Refused::Issuer);
        }
        if !self.aud.iter().any(|one| audiences.contains(one)) {
            return Err(Refused::Audience);
        }
        if now > self.exp.saturating_add(LEEWAY_SECONDS) {
            return Err(Refused::Expired);
        }
        if now < self.nbf.saturating_sub(LEEWAY_SECONDS) {
            return Err(Refused::NotYetValid);
        }
        Ok(())
    }
}

/// RFC 7638 is not what upstream does: its key id is the digest of the key's DER form.
fn key_id(point: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update(P256_SPKI);
    digest.update(point);
    URL_SAFE_NO_PAD.encode(digest.finalize())
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, Refused> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Refused::Malformed)
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(decoder: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(decoder)? {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    })
}
