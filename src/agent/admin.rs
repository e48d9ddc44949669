//! The admin socket: how commands on the same machine reach a running server or agent.
//!
//! A Unix socket in a private directory, so that reaching it takes being root (or whoever runs the process).
//! One request and one answer per connection, each a line of JSON. A peer that says nothing, or nothing
//! sensible, costs a place for a few seconds and disturbs nobody else.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use supervisor::{OnExit, Stage};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::Problem;

/// Name of the socket in its directory.
pub(crate) const SOCKET: &str = "admin.sock";

const LONGEST_REQUEST: u64 = 64 * 1024;
const LONGEST_ANSWER: u64 = 16 << 20;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may take to read its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that are served at the same time.
const PLACES: usize = 16;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Answer<T> {
    Done(T),
    /// One line, ready to be shown.
    Failed(String),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens: nothing runs there.
    #[error("nothing is running on it")]
    NotRunning,
    #[error("{0}")]
    Denied(io::Error),
    #[error("what listens on the admin socket is no minik8s of this version: {0}")]
    Nonsense(String),
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// The process says so.
    #[error("{0}")]
    Failed(String),
}

/// The socket by way of its directory's descriptor: a socket's path may have 107 bytes, a data directory's
/// any number.
fn place(folder: &Path) -> io::Result<(File, PathBuf)> {
    let folder = File::open(folder)?;
    let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(SOCKET);
    Ok((folder, path))
}

/// Serves the socket in `folder` until the stage stops.
pub fn serve<Q, A, F>(
    folder: &Path,
    stage: &Stage,
    handler: impl Fn(Q) -> F + Clone + Send + Sync + 'static,
) -> Result<(), Problem>
where
    Q: DeserializeOwned + Send + 'static,
    A: Serialize + Send + 'static,
    F: Future<Output = Result<A, Problem>> + Send + 'static,
{
    let file = folder.join(SOCKET);
    let failed = |error| Problem::new(format!("listen on {}", file.display()), error, "check its directory");
    let (_folder, path) = place(folder).map_err(failed)?;
    // Left by a process that was killed; the instance's lock says that none is running.
    let _ = std::fs::remove_file(&file);
    let listener = UnixListener::bind(path).map_err(failed)?;
    let (places, tasks) = (Arc::new(Semaphore::new(PLACES)), stage.clone());
    stage.spawn_cancellable("admin socket", OnExit::Done, async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (handler, place) = (handler.clone(), places.clone().try_acquire_owned().ok());
                    tasks.spawn_cancellable("admin request", OnExit::Done, async move {
                        if let Err(error) = answer(stream, handler, place.is_some()).await {
                            tracing::debug!(%error, "admin request");
                        }
                    });
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

async fn answer<Q, A, F>(stream: UnixStream, handler: impl Fn(Q) -> F, has_place: bool) -> io::Result<()>
where
    Q: DeserializeOwned,
    A: Serialize,
    F: Future<Output = Result<A, Problem>>,
{
    let (reader, mut writer) = stream.into_split();
    let answer = match if has_place { request(reader).await } else { Err(RequestError::Busy) } {
        Ok(request) => match handler(request).await {
            Ok(done) => Answer::Done(done),
            Err(problem) => Answer::Failed(problem.to_string()),
        },
        Err(error) => Answer::Failed(error.to_string()),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    match tokio::time::timeout(ANSWER_TIMEOUT, writer.write_all(&line)).await {
        Ok(written) => written,
        Err(_) => Err(ErrorKind::TimedOut.into()),
    }
}

/// Why a request is not carried out.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("too many admin requests at once: try again")]
    Busy,
    #[error("no request came within {} s", REQUEST_TIMEOUT.as_secs())]
    Late,
    #[error("the request is longer than {LONGEST_REQUEST} bytes")]
    Long,
    #[error("the request cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("the request cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
}

async fn request<Q: DeserializeOwned>(reader: tokio::net::unix::OwnedReadHalf) -> Result<Q, RequestError> {
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(LONGEST_REQUEST));
    match tokio::time::timeout(REQUEST_TIMEOUT, reader.read_line(&mut line)).await {
        Err(_) => Err(RequestError::Late),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(_)) if !line.ends_with('\n') && line.len() as u64 >= LONGEST_REQUEST => Err(RequestError::Long),
        Ok(Ok(_)) => Ok(serde_json::from_str(&line)?),
    }
}

/// Asks the process that serves the socket in `folder`.
pub async fn ask<Q: Serialize, A: DeserializeOwned>(
    folder: &Path,
    request: &Q,
    timeout: Duration,
) -> Result<A, AskError> {
    let exchange = async {
        let (_folder, path) = place(folder).map_err(unreachable)?;
        let stream = UnixStream::connect(path).await.map_err(unreachable)?;
        let lost = |error: io::Error| AskError::Nonsense(error.to_string());
        let (reader, mut writer) = stream.into_split();
        let mut line = serde_json::to_vec(request).map_err(|error| lost(error.into()))?;
        line.push(b'\n');
        writer.write_all(&line).await.map_err(lost)?;
        let mut text = String::new();
        BufReader::new(reader.take(LONGEST_ANSWER)).read_line(&mut text).await.map_err(lost)?;
        if text.is_empty() {
            return Err(AskError::Nonsense("it closed the connection without an answer".to_string()));
        }
        match serde_json::from_str(&text) {
            Ok(Answer::Done(answer)) => Ok(answer),
            Ok(Answer::Failed(why)) => Err(AskError::Failed(why)),
            Err(error) => Err(AskError::Nonsense(error.to_string())),
        }
    };
    tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(AskError::Late(timeout)))
}

fn unreachable(error: io::Error) -> AskError {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::ConnectionRefused => AskError::NotRunning,
        _ => AskError::Denied(error),
    }
}

#[cfg(test)]
mod tests;
