//! Credentials that come from elsewhere and can change while a client runs: from a plugin or a provider of
//! identities.

use std::fmt::Debug;
use std::sync::Arc;

use super::ClientCertificate;
use crate::BoxFuture;

/// What a request is authenticated with: a bearer token, a client certificate, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credential {
    pub token: Option<String>,
    pub certificate: Option<ClientCertificate>,
}

/// Why there are no credentials, in client-go's words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct CredentialError(pub String);

/// Where credentials come from.
pub trait CredentialSource: Debug + Send + Sync {
    /// Those to use now; obtained anew if they have expired.
    fn current(&self) -> BoxFuture<'_, Result<Arc<Credential>, CredentialError>>;

    /// The server did not accept these: the next request needs others.
    fn refused(&self, credential: &Arc<Credential>);
}
