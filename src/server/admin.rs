//! What the server does for commands on the same machine, which reach it through its admin socket.

use std::sync::Arc;
use std::time::Duration;

use agent::admin::{AskError, ask};
use agent::image::{self, ImageAnswer};
use agent::status::report::{ImageRequest, Report, Server};
use agent::{Instance, Problem, admin};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use supervisor::Stage;

use crate::encryption::{self, EncryptionRequest, Secrets};
use crate::group::{Servers, ServersRequest};
use crate::kubeconfig::{self, Kubeconfigs};
use crate::snapshot::{SaveRequest, Saved};
use crate::status::Source;
use crate::tokens::{self, Tokens};

/// [`agent::status::report::Request`] with what only a server can do; the same words mean the same.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Request {
    Status,
    SaveSnapshot(Box<SaveRequest>),
    Token(tokens::TokenRequest),
    Kubeconfig(kubeconfig::KubeconfigRequest),
    Servers(ServersRequest),
    Encryption(EncryptionRequest),
    Images(ImageRequest),
}

/// What was asked for, as the asker knows it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Done {
    Status(Box<Report>),
    Saved(Saved),
    Token(tokens::Done),
    Kubeconfig(String),
    Servers(Vec<Server>),
    Encryption(encryption::Done),
    Images(ImageAnswer),
}

/// The parts of the server that requests are about.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) source: Source,
    pub(crate) tokens: Tokens,
    pub(crate) kubeconfigs: Kubeconfigs,
    pub(crate) servers: Arc<Servers>,
    pub(crate) encryption: Secrets,
}

/// Serves the socket until the stage stops.
pub(crate) fn start(served: Served, stage: &Stage) -> Result<(), Problem> {
    let folder = served.source.process.instance.server_dir();
    admin::serve(&folder, stage, move |request| carry_out(request, served.clone()))
}

async fn carry_out(request: Request, served: Served) -> Result<Done, Problem> {
    match request {
        Request::Status => served.source.report().await.map(|report| Done::Status(Box::new(report))),
        Request::SaveSnapshot(request) => served.source.saver.save(*request).await.map(Done::Saved),
        Request::Token(request) => served.tokens.carry_out(request).await.map(Done::Token),
        Request::Kubeconfig(request) => served.kubeconfigs.make(&request).map(Done::Kubeconfig),
        Request::Encryption(request) => served.encryption.carry_out(request).await.map(Done::Encryption),
        Request::Images(request) => {
            image::carry_out(request, served.source.node.get()).await.map(Done::Images)
        }
        Request::Servers(request) => served.servers.carry_out_command(request).await.map(Done::Servers),
    }
}

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Asks the server of this instance for something that takes no time.
pub(crate) async fn ask_server<A: DeserializeOwned>(
    instance: &Instance,
    request: &Request,
) -> Result<A, Problem> {
    match ask(&instance.server_dir(), request, REQUEST_TIMEOUT).await {
        Ok(answer) => Ok(answer),
        Err(error) => Err(unreached(instance, error).await),
    }
}

/// Why there is no answer, for the command's user.
pub(crate) async fn unreached(instance: &Instance, error: AskError) -> Problem {
    if matches!(error, AskError::NotRunning)
        && let Some(url) = agent::status::agent_of(instance).await
    {
        let why = format!("this machine is an agent of {url}");
        return Problem::new("do that here", why, "run it on a server");
    }
    match error {
        AskError::Failed(why) => Problem::plain(why),
        error => {
            let what = format!("reach the server of {}", instance.data_dir().display());
            let start = agent::service::start_hint(instance);
            Problem::new(
                what,
                error,
                format!("{start}, run this as the user it runs as, or give its --data-dir"),
            )
        }
    }
}
