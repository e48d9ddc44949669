//! Why an API server does not start.

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("reading the store")]
    Store(#[from] embedded_store::StoreError),
    #[error("encryption at rest")]
    Encryption(#[from] crate::encryption::ChangeError),
    #[error("configuration: {0}")]
    Config(String),
    /// What every cluster has could not be created.
    #[error("creating {what}")]
    Bootstrap { what: String, source: api::ApiError },
}
