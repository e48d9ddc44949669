//! Encryption at rest as an operator has it: the file and the key it begins with, what is done for
//! `minik8s secrets-encrypt`, and the flag that turns it on.
//!
//! The ciphers, and what becomes of every value, are the API server's. What is done here besides is to take
//! values that were in plain text out of the store's files.

use std::path::PathBuf;
use std::sync::Arc;

use agent::follow;
use agent::problem::chain;
use agent::{Problem, files};
use apiserver::{ApiServer, ChangeError, Encryption, EncryptionStatus, Origin};
use embedded_store::EmbeddedStore;
use serde::{Deserialize, Serialize};
use supervisor::{OnExit, Stage};

use crate::plan::ServerPlan;
use crate::secrets;

/// What encryption begins with: the key of this server and, if there is one, the file.
pub(crate) async fn open(plan: &Arc<ServerPlan>) -> Result<Arc<Encryption>, Problem> {
    let key = secrets::encryption_key(&plan.instance)?;
    let Some(path) = plan.arguments.encryption_provider_config.clone() else {
        return Encryption::new(None, Some(key)).map(Arc::new).map_err(|error| refused("the key", &error));
    };
    let name = path.display().to_string();
    let missing =
        || Problem::new(format!("read {name}"), "it is not there", "correct --encryption-provider-config");
    let text = files::read(&path)?.ok_or_else(missing)?;
    // Plugins are waited for.
    let opening = tokio::task::spawn_blocking(move || Encryption::new(Some(text.as_bytes()), Some(key)));
    let opened = opening.await.map_err(|error| Problem::new(format!("use {name}"), error, "see the log"))?;
    opened.map(Arc::new).map_err(|error| refused(&name, &error))
}

fn refused(what: &str, error: &apiserver::EncryptionError) -> Problem {
    Problem::new(format!("encrypt as {what} says"), chain(error), "correct --encryption-provider-config")
}

/// Takes the file again whenever it changes. What is wrong with it changes nothing.
pub(crate) fn follow(path: PathBuf, encryption: Arc<Encryption>, stage: &Stage) {
    let name = path.display().to_string();
    let following = follow::follow(path, move |text| {
        let (encryption, name) = (encryption.clone(), name.clone());
        async move {
            let reloaded = match text {
                Ok(text) => tokio::task::spawn_blocking(move || encryption.reload(&text)).await,
                Err(error) => {
                    tracing::error!(file = name, %error, "the encryption configuration is gone: the last one stays");
                    return;
                }
            };
            match reloaded {
                Ok(Ok(true)) => tracing::info!(file = name, "the encryption configuration is read anew"),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    let error = chain(&error);
                    tracing::error!(
                        file = name,
                        error,
                        "the encryption configuration is refused: the last one stays"
                    );
                }
                Err(error) => tracing::error!(%error, "reading the encryption configuration"),
            }
        }
    });
    stage.spawn_cancellable("the encryption configuration", OnExit::Stop, following);
}

/// What `minik8s secrets-encrypt` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum EncryptionRequest {
    Status,
    Enable,
    Rotate,
    Reencrypt,
    Disable,
}

/// How it stands, and how many values were written anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) status: EncryptionStatus,
    pub(crate) rewritten: usize,
}

/// Carries requests out.
#[derive(Clone)]
pub(crate) struct Secrets {
    pub(crate) server: Arc<ApiServer>,
    pub(crate) store: Arc<EmbeddedStore>,
}

impl Secrets {
    pub(crate) async fn carry_out(&self, request: EncryptionRequest) -> Result<Done, Problem> {
        let failed = |what: &str| {
            let what = what.to_string();
            move |error: ChangeError| {
                Problem::new(what, chain(&error), "see 'minik8s secrets-encrypt status'")
            }
        };
        match request {
            EncryptionRequest::Status => return Ok(Done { status: self.status().await?, rewritten: 0 }),
            EncryptionRequest::Enable => {
                self.server.enable_encryption().await.map_err(failed("encrypt Secrets"))?;
            }
            EncryptionRequest::Rotate => {
                self.server.rotate_encryption_key().await.map_err(failed("use a new key"))?;
            }
            EncryptionRequest::Disable => {
                self.server.disable_encryption().await.map_err(failed("stop encrypting Secrets"))?;
            }
            EncryptionRequest::Reencrypt => {}
        }
        let rewritten = self.server.reencrypt().await.map_err(failed("write Secrets anew"))?;
        self.forget().await?;
        Ok(Done { status: self.status().await?, rewritten })
    }

    /// For the flag: turns it on unless the cluster has decided already.
    pub(crate) async fn enable_at_start(&self) -> Result<(), Problem> {
        let failed = |error: ChangeError| {
            Problem::new("encrypt Secrets", chain(&error), "start without --secrets-encryption")
        };
        if self.server.encryption_origin() != Origin::Nobody {
            return Ok(());
        }
        match self.server.enable_encryption().await {
            // Another server of the group was faster.
            Ok(()) | Err(ChangeError::Raced | ChangeError::Enabled) => {}
            Err(error) => return Err(failed(error)),
        }
        if self.server.reencrypt().await.map_err(failed)? > 0 {
            self.forget().await?;
        }
        Ok(())
    }

    /// Takes the values that were replaced out of the files.
    async fn forget(&self) -> Result<(), Problem> {
        self.store.forget_old_values().await.map_err(|error| {
            let what = "take what was stored before out of the store's files";
            Problem::new(what, error, "see to it, then 'minik8s secrets-encrypt reencrypt'")
        })
    }

    async fn status(&self) -> Result<EncryptionStatus, Problem> {
        let server = self.server.clone();
        let looking = tokio::task::spawn_blocking(move || server.encryption_status());
        looking.await.map_err(|error| Problem::new("look through the store", error, "see the log"))
    }
}
