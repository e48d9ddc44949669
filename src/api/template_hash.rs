//! The `pod-template-hash`: tells apart the replica sets of one deployment.
//!
//! FNV-1a of 32 bits, printed in decimal and mapped to letters that spell no words, as upstream does.
//! Upstream hashes a dump of its Go structures, which nobody can depend on; we hash the template's JSON. An
//! existing replica set is recognised by its template, never by its hash, so both kinds can live in one
//! cluster.

use k8s_openapi::api::core::v1::PodTemplateSpec;

pub const LABEL: &str = "pod-template-hash";

const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The hash of a template; `collisions` is the deployment's `status.collisionCount`.
pub fn of(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut hash = Fnv::default();
    // A template is made of strings, numbers, lists and maps with string keys, which always encode.
    hash.write(&serde_json::to_vec(template).unwrap_or_default());
    if let Some(collisions) = collisions {
        hash.write(&i64::from(collisions).to_le_bytes());
    }
    safe_encode(&hash.0.to_string())
}

/// Maps each byte to a letter or digit that is safe in names.
pub(crate) fn safe_encode(text: &str) -> String {
    text.bytes().map(|byte| LETTERS[usize::from(byte) % LETTERS.len()] as char).collect()
}

struct Fnv(u32);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0x811c_9dc5)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

#[cfg(test)]
mod tests;
