//! What the server does for commands on the same machine, which reach it through its admin socket.

use agent::status::report::Report;
use agent::{Problem, admin};
use serde::{Deserialize, Serialize};
use supervisor::Stage;

use crate::snapshot::{Saved, Wish};
use crate::status::Source;

/// [`agent::status::report::Request`] with what only a server can do; the same words mean the same.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Request {
    Status,
    SaveSnapshot(Box<Wish>),
}

/// What was asked for, as the asker knows it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Done {
    Status(Box<Report>),
    Saved(Saved),
}

/// Serves the socket until the stage stops.
pub(crate) fn start(source: Source, stage: &Stage) -> Result<(), Problem> {
    let folder = source.process.instance.server_dir();
    admin::serve(&folder, stage, move |request| carry_out(request, source.clone()))
}

async fn carry_out(request: Request, source: Source) -> Result<Done, Problem> {
    match request {
        Request::Status => source.report().await.map(|report| Done::Status(Box::new(report))),
        Request::SaveSnapshot(wish) => source.saver.save(*wish).await.map(Done::Saved),
    }
}
