//! Bootstrap tokens (`abcdef.0123456789abcdef`): each is a Secret of `kube-system`, and most have an end.
//!
//! What the Secret must hold is kubeadm's contract (kubernetes.io/docs: Authenticating with Bootstrap
//! Tokens). One that has ended counts for nothing from that second on; a controller removes it.

use api::Identity;
use api::kinds::SECRET;
use base64::Engine as _;
use jiff::Timestamp;
use serde_json::Value;

use super::service_account::Refused;
use crate::cache::Caches;
use api::json::text;

const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";
const ID: usize = 6;
const SECRET_PART: usize = 16;

/// Both halves, if a token is of this form.
pub(super) fn halves(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    (id.len() == ID && secret.len() == SECRET_PART && plain(id) && plain(secret)).then_some((id, secret))
}

/// The identity of a caller who shows the token with these halves.
pub(super) fn identity(caches: &Caches, id: &str, shown: &str, now: Timestamp) -> Result<Identity, Refused> {
    let gone = || Refused::Gone("bootstrap token", id.to_string());
    let kept = caches.get(&SECRET, Some("kube-system"), &format!("bootstrap-token-{id}")).ok_or_else(gone)?;
    if kept.metadata().deletion_timestamp.is_some() {
        return Err(gone());
    }
    let tree = kept.tree().map_err(|_| Refused::Malformed)?;
    let field = |name: &str| decoded(&tree, name);
    if text(&tree, "type") != TYPE || field("token-id").as_deref() != Some(id) {
        return Err(Refused::Malformed);
    }
    let known = field("token-secret").filter(|secret| secret.len() == SECRET_PART);
    let known = known.ok_or(Refused::Malformed)?;
    #[expect(deprecated, reason = "ring offers no other constant-time comparison")]
    let same = ring::constant_time::verify_slices_are_equal(known.as_bytes(), shown.as_bytes()).is_ok();
    if !same {
        return Err(Refused::Signature);
    }
    if let Some(end) = field("expiration")
        // What cannot be read is taken for over.
        && !end.parse::<Timestamp>().is_ok_and(|end| now < end)
    {
        return Err(Refused::Expired);
    }
    if field("usage-bootstrap-authentication").as_deref() != Some("true") {
        return Err(Refused::Audience);
    }
    let more = field("auth-extra-groups").unwrap_or_default();
    let more: Vec<&str> = more.split(',').map(str::trim).filter(|group| !group.is_empty()).collect();
    if !more.iter().all(|group| is_bootstrap_group(group)) {
        return Err(Refused::Malformed);
    }
    let mut identity = Identity::user(&format!("system:bootstrap:{id}"), [GROUP]);
    identity.groups.splice(1..1, more.into_iter().map(str::to_string));
    Ok(identity)
}

fn decoded(tree: &Value, name: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(tree["data"][name].as_str()?).ok()?;
    String::from_utf8(bytes).ok().filter(|value| !value.is_empty())
}

/// `system:bootstrappers:` and up to 256 of `a-z0-9:-`, the last of which is a letter or a digit: no token
/// brings other groups.
fn is_bootstrap_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else { return false };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    rest.len() <= 256
        && rest.bytes().all(|byte| plain(byte) || byte == b':' || byte == b'-')
        && rest.bytes().next_back().is_some_and(plain)
}

#[cfg(test)]
mod tests;
