//! Authentication: who makes a request.
//!
//! Three kinds of credentials: a client certificate (verified by the TLS layer against the client CA), a
//! service account token signed by this cluster, and tokens that are good for asking for a new node's
//! certificate only: the agents' one, and bootstrap tokens, which end. No header means anonymous, for whom
//! authorization then decides. A refusal never says why: the reason goes to the log.

mod bootstrap;
mod certificate;
mod jwt;
mod service_account;
mod token_request;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::{ApiError, Identity, Object};
pub(crate) use certificate::Certificate;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use crate::Config;
use crate::cache::Caches;

/// Decides who a caller is, from a client certificate or a bearer token.
pub(crate) struct Authenticator {
    caches: Arc<Caches>,
    keys: jwt::Keys,
    issuer: String,
    audiences: Vec<String>,
    join_token: Option<watch::Receiver<String>>,
    extend_expiration: bool,
    /// Uses of service account tokens, by whether they should have been replaced.
    pub(crate) uses: TokenUses,
}

/// Counters under upstream's names.
#[derive(Default)]
pub(crate) struct TokenUses {
    pub(crate) valid: AtomicU64,
    pub(crate) stale: AtomicU64,
}

impl Authenticator {
    pub(crate) fn new(config: &Config, caches: Arc<Caches>) -> Result<Self, crate::error::StartError> {
        let keys = jwt::Keys::new(&config.service_account_keys)
            .map_err(|error| crate::error::StartError::Config(format!("service account keys: {error}")))?;
        let audiences = match config.service_account_keys.audiences.as_slice() {
            [] => vec![config.service_account_keys.issuer.clone()],
            given => given.to_vec(),
        };
        Ok(Authenticator {
            caches,
            keys,
            issuer: config.service_account_keys.issuer.clone(),
            audiences,
            extend_expiration: config.service_account_keys.extend_expiration,
            uses: TokenUses::default(),
            join_token: config.join_token.clone(),
        })
    }

    /// The owner of a verified client certificate (DER, leaf first). It is read once per connection; its
    /// dates are looked at with every request.
    pub(crate) fn certificate(
        &self,
        chain: &[rustls_pki_types::CertificateDer<'_>],
    ) -> Result<Certificate, ApiError> {
        Certificate::of(chain).ok_or_else(ApiError::unauthorized)
    }

    /// The identity behind the value of an `Authorization` header. Schemes other than `Bearer` are no
    /// credentials here.
    pub(crate) fn authorization(&self, header: &str) -> Result<Identity, ApiError> {
        let Some((scheme, token)) = header.trim().split_once(' ') else { return Ok(Identity::anonymous()) };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Identity::anonymous());
        }
        self.token(token.trim(), &self.audiences).map(|(identity, _)| identity).map_err(|error| {
            tracing::debug!(%error, "refusing a bearer token");
            ApiError::unauthorized()
        })
    }

    /// The identity of a token, and which of the audiences it is meant for (none asks for the API server's
    /// own).
    pub(crate) fn review(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(Identity, Vec<String>), service_account::Refused> {
        let audiences = if audiences.is_empty() { &self.audiences } else { audiences };
        self.token(token, audiences)
    }

    /// Answers a TokenRequest for a service account: the request with its status filled in.
    pub(crate) fn issue_token(
        &self,
        account: &Object,
        request: Value,
        now: Timestamp,
    ) -> Result<Value, ApiError> {
        token_request::issue(self, account, request, now)
    }

    /// The public keys that verify service account tokens, as the JWK set of `/openid/v1/jwks`.
    pub(crate) fn jwks(&self) -> Value {
        self.keys.jwks()
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    fn token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(Identity, Vec<String>), service_account::Refused> {
        // These two are no JWTs, so they are looked for before one is verified.
        if let Some(identity) = self.join_identity(token) {
            return Ok((identity, Vec::new()));
        }
        let now = Timestamp::now();
        if let Some((id, secret)) = bootstrap::halves(secret_part(token)) {
            return Ok((bootstrap::identity(&self.caches, id, secret, now)?, Vec::new()));
        }
        let claims = self.keys.verify(token)?;
        claims.check(&self.issuer, audiences, now)?;
        let identity = service_account::identity(&claims, &self.caches, now)?;
        let is_stale = claims.kubernetes.warnafter.is_some_and(|after| now.as_second() > after);
        if is_stale {
            tracing::debug!(user = %identity.name, "a token is used that should have been read again from its file");
        }
        let uses = if is_stale { &self.uses.stale } else { &self.uses.valid };
        uses.fetch_add(1, Ordering::Relaxed);
        Ok((identity, audiences.iter().filter(|one| claims.aud.contains(one)).cloned().collect()))
    }

    /// The machine that shows the agents' token.
    fn join_identity(&self, token: &str) -> Option<Identity> {
        let known = self.join_token.as_ref()?.borrow();
        let known = Some(secret_part(&known)).filter(|known| !known.is_empty())?;
        let shown = secret_part(token);
        // The lengths of tokens are no secret; their bytes are compared in constant time.
        #[expect(deprecated, reason = "ring offers no other constant-time comparison")]
        ring::constant_time::verify_slices_are_equal(known.as_bytes(), shown.as_bytes()).ok()?;
        let user = format!("system:bootstrap:{}", bootstrap_id(known));
        Some(Identity::user(&user, ["system:bootstrappers", "system:bootstrappers:minik8s"]))
    }
}

/// The secret of a token in the form `K10<hash of the CA>::server:<secret>`; other tokens are secret as a
/// whole.
fn secret_part(token: &str) -> &str {
    match token.split_once("::") {
        Some((pin, rest)) if pin.starts_with("K10") => {
            rest.split_once(':').map_or(rest, |(_, secret)| secret)
        }
        _ => token,
    }
}

/// The public half of a token in kubeadm's form `abcdef.0123456789abcdef`; other tokens have none to show.
fn bootstrap_id(token: &str) -> &str {
    match token.split_once('.') {
        Some((id, secret)) if id.len() == 6 && secret.len() == 16 => id,
        _ => "minik8s",
    }
}
