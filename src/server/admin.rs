//! The admin socket: how commands on the same machine reach a running server.
//!
//! A Unix socket in the server's private directory, so that reaching it takes being root (or whoever runs the server). One request and one
//! answer per connection, each a line of JSON.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::{Instance, Problem};
use serde::{Deserialize, Serialize};
use supervisor::{OnExit, Stage};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::snapshot::{Saved, Saver};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Request {
    /// Save a snapshot to an absolute path, or under a name of its own.
    SaveSnapshot { path: Option<PathBuf>, passphrase: Option<String> },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer {
    Saved(Saved),
    /// One line, ready to be shown.
    Failed(String),
}

const NAME: &str = "admin.sock";
const LONGEST_REQUEST: u64 = 64 * 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The socket by way of its directory's descriptor: a socket's path may have 107 bytes, a data directory's any number.
fn place(instance: &Instance) -> std::io::Result<(std::fs::File, PathBuf)> {
    let folder = std::fs::File::open(instance.server_dir())?;
    let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(NAME);
    Ok((folder, path))
}

/// Serves the socket until the stage stops.
pub(crate) fn start(instance: &Instance, saver: Saver, stage: &Stage) -> Result<(), Problem> {
    let file = instance.server_dir().join(NAME);
    let failed = |error| Problem::new(format!("listen on {}", file.display()), error, "check its directory");
    let (_folder, path) = place(instance).map_err(failed)?;
    // Left by a server that was killed; the instance's lock says that none is running.
    let _ = std::fs::remove_file(&file);
    let listener = UnixListener::bind(path).map_err(failed)?;
    stage.spawn_cancellable("admin socket", OnExit::Done, async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    if let Err(error) = answer(stream, &saver).await {
                        tracing::debug!(%error, "admin request");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin socket cannot accept");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    });
    Ok(())
}

async fn answer(stream: UnixStream, saver: &Saver) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(LONGEST_REQUEST));
    tokio::time::timeout(REQUEST_TIMEOUT, reader.read_line(&mut line)).await??;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => carry_out(request, saver.clone()).await,
        Err(error) => Answer::Failed(format!("the request cannot be read: {error}")),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

async fn carry_out(request: Request, saver: Saver) -> Answer {
    let Request::SaveSnapshot { path, passphrase } = request;
    let done = tokio::task::spawn_blocking(move || saver.save(path, passphrase.as_deref()));
    match done.await {
        Ok(Ok(saved)) => Answer::Saved(saved),
        Ok(Err(problem)) => Answer::Failed(problem.to_string()),
        Err(error) => Answer::Failed(error.to_string()),
    }
}

/// Asks the instance's running server.
pub(crate) async fn ask(instance: &Instance, request: &Request) -> Result<Answer, Problem> {
    let failed = |error: std::io::Error| {
        let what = format!("reach the server of {}", instance.data_dir().display());
        Problem::new(what, error, "start it, run this as the user it runs as, or give its --data-dir")
    };
    let (_folder, path) = place(instance).map_err(failed)?;
    let stream = UnixStream::connect(path).await.map_err(failed)?;
    let (reader, mut writer) = stream.into_split();
    let mut line = serde_json::to_vec(request).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    writer.write_all(&line).await.map_err(failed)?;
    let mut text = String::new();
    BufReader::new(reader).read_line(&mut text).await.map_err(failed)?;
    serde_json::from_str(&text).map_err(|error| failed(error.into()))
}
