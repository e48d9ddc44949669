//! Authentication: who makes a request.

use std::sync::Arc;

use api::{ApiError, Identity, Object};
use serde_json::Value;

use crate::Config;
use crate::cache::Caches;

/// Decides who a caller is, from a client certificate or a bearer token.
pub struct Authenticator {}

impl Authenticator {
    pub fn new(_config: &Config, _caches: Arc<Caches>) -> Result<Self, crate::StartError> {
        Ok(Authenticator {})
    }

    /// The identity of a verified client certificate (DER, leaf first); asked once per connection.
    pub fn certificate(&self, _chain: &[rustls_pki_types::CertificateDer<'_>]) -> Result<Identity, ApiError> {
        Err(ApiError::unauthorized())
    }

    /// The identity behind the value of an `Authorization` header.
    pub fn authorization(&self, _header: &str) -> Result<Identity, ApiError> {
        Err(ApiError::unauthorized())
    }

    /// Answers a TokenRequest for a service account: the request with its status filled in.
    pub fn issue_token(
        &self,
        _account: &Object,
        _request: Value,
        _now: jiff::Timestamp,
    ) -> Result<Value, ApiError> {
        Err(ApiError::internal("no signing key"))
    }
}
