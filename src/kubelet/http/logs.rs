//! `/containerLogs/NAMESPACE/POD/CONTAINER`: the log of a container's present or previous instance.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use supervisor::OnExit;
use tokio::sync::mpsc;

use super::body::{Body, text};
use super::{Service, query};
use crate::files;
use crate::logs::cri_log::{LogOptions, Writer};
use crate::logs::tail::{LogFile, Watch};
use crate::runtime::state::PodRuntime;
use crate::runtime::{Runtime, RuntimeError};
use crate::spec::PodExt;

/// How often a follower looks whether the container still runs, when its log is silent.
const CHECK: Duration = Duration::from_millis(500);

fn refuse(status: StatusCode, message: String) -> Response<Body> {
    text(status, message)
}

pub(super) async fn answer(
    service: &Service,
    [namespace, name, container]: [&str; 3],
    query_text: &str,
) -> Response<Body> {
    let options = match parse(query_text, Timestamp::now()) {
        Ok(options) => options,
        Err(error) => return refuse(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
    };
    let Some(pod) = service.pods.get(namespace, name) else {
        return refuse(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist"));
    };
    if pod.any_container(container).is_none() {
        return refuse(StatusCode::NOT_FOUND, format!("container {container:?} not found in pod {name:?}"));
    }
    let status = service.status.latest(&pod);
    let id = match instance(&status, name, container, options.previous) {
        Ok(id) => id,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let path = match log_path(&*service.runtime, &pod, &id).await {
        Ok(path) => path,
        Err(error) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let (sender, receiver) = mpsc::channel(8);
    let task = stream(service.runtime.clone(), path, id, options, sender);
    service.stage.spawn_cancellable("log stream", OnExit::Done, task);
    let frames = tokio_stream::wrappers::ReceiverStream::new(receiver).map(|chunk| chunk.map(Frame::data));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let kind = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

/// An option of a request that cannot be what it is.
#[derive(Debug, thiserror::Error)]
enum OptionsError {
    #[error("invalid value {value:?} for {name}")]
    Value { name: String, value: String },
    #[error("{name} must {must}")]
    Range { name: &'static str, must: &'static str },
}

fn parse(text: &str, now: Timestamp) -> Result<LogOptions, OptionsError> {
    let mut options = LogOptions::default();
    for (name, value) in query::parse(text) {
        let truth = || value.is_empty() || value == "true" || value == "1";
        let invalid = || OptionsError::Value { name: name.clone(), value: value.clone() };
        let number = || value.parse::<i64>().map_err(|_| invalid());
        let range = |name, must| OptionsError::Range { name, must };
        match name.as_str() {
            "follow" => options.follow = truth(),
            "previous" => options.previous = truth(),
            "timestamps" => options.timestamps = truth(),
            "tailLines" if !value.is_empty() && value != "all" => {
                let negative = |_| range("tailLines", "not be negative");
                options.tail = Some(usize::try_from(number()?).map_err(negative)?);
            }
            "limitBytes" if !value.is_empty() => {
                let limit = usize::try_from(number()?).ok().filter(|one| *one > 0);
                options.limit = Some(limit.ok_or_else(|| range("limitBytes", "be positive"))?);
            }
            "sinceSeconds" if !value.is_empty() => {
                let seconds = number()?;
                if seconds < 1 {
                    return Err(range("sinceSeconds", "be greater than 0"));
                }
                options.since = now.checked_sub(SignedDuration::from_secs(seconds)).ok();
            }
            "sinceTime" if !value.is_empty() => {
                options.since = Some(value.parse().map_err(|_| invalid())?);
            }
            "stream" => {
                options.stream = match value.as_str() {
                    "Stdout" => Some("stdout"),
                    "Stderr" => Some("stderr"),
                    _ => None,
                };
            }
            _ => {}
        }
    }
    Ok(options)
}

/// Why there is no log, in upstream's words.
#[derive(Debug, thiserror::Error)]
enum NoLog {
    #[error("container {container:?} in pod {pod:?} is not available")]
    NotAvailable { pod: String, container: String },
    #[error("previous terminated container {container:?} in pod {pod:?} not found")]
    NoPrevious { pod: String, container: String },
    #[error("container {container:?} in pod {pod:?} has no id")]
    NoId { pod: String, container: String },
    #[error("container {container:?} in pod {pod:?} is waiting to start{why}")]
    Waiting { pod: String, container: String, why: String },
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("unable to retrieve container logs for containerd://{0}")]
    Forgotten(String),
}

/// Id of the instance whose log is asked for.
fn instance(status: &PodStatus, pod: &str, container: &str, previous: bool) -> Result<String, NoLog> {
    let lists =
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let found = lists.into_iter().flat_map(|list| list.iter().flatten()).find(|one| one.name == container);
    let names = || (pod.to_string(), container.to_string());
    let status = found.ok_or_else(|| {
        let (pod, container) = names();
        NoLog::NotAvailable { pod, container }
    })?;
    let bare = |id: &str| id.strip_prefix("containerd://").unwrap_or(id).to_string();
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let last = last.and_then(|end| end.container_id.as_deref()).filter(|id| !id.is_empty());
    if previous {
        let missing = || {
            let (pod, container) = names();
            NoLog::NoPrevious { pod, container }
        };
        return last.map(bare).ok_or_else(missing);
    }
    current(status, pod, container, last).map(|id| bare(&id))
}

fn current(
    status: &ContainerStatus,
    pod: &str,
    container: &str,
    last: Option<&str>,
) -> Result<String, NoLog> {
    let state = status.state.clone().unwrap_or_default();
    let (pod, container) = (pod.to_string(), container.to_string());
    if state.running.is_some() {
        return status.container_id.clone().ok_or(NoLog::NoId { pod, container });
    }
    if let Some(id) = state.terminated.and_then(|end| end.container_id).filter(|id| !id.is_empty()) {
        return Ok(id);
    }
    if let Some(last) = last {
        return Ok(last.to_string());
    }
    let why = match state.waiting.and_then(|waiting| waiting.reason).as_deref() {
        Some("ErrImagePull") => ": image can't be pulled".to_string(),
        Some("ImagePullBackOff") => ": trying and failing to pull image".to_string(),
        Some(reason) => format!(": {reason}"),
        None => " - no logs yet".to_string(),
    };
    Err(NoLog::Waiting { pod, container, why })
}

async fn log_path(runtime: &dyn Runtime, pod: &Pod, id: &str) -> Result<PathBuf, NoLog> {
    let status = runtime.container(id).await;
    match status {
        Ok(status) => Ok(PathBuf::from(status.log_path)),
        // Gone from the runtime; the file may be there still, but only the runtime knew which it was.
        Err(_) => {
            let state = PodRuntime::read(runtime, pod.uid()).await?;
            let known = state.containers.into_iter().find(|one| one.id == id);
            known.map(|one| PathBuf::from(one.log_path)).ok_or_else(|| NoLog::Forgotten(id.to_string()))
        }
    }
}

type Chunk = Result<Bytes, std::io::Error>;

/// Sends the log; ends at its end, or when a followed container has ended, or when nobody listens.
async fn stream(
    runtime: Arc<dyn Runtime>,
    path: PathBuf,
    id: String,
    options: LogOptions,
    sender: mpsc::Sender<Chunk>,
) {
    let follow = options.follow;
    let watch = if follow { Watch::on(&path).ok() } else { None };
    let (file, tail) = (path.clone(), options.tail);
    let opened = files::blocking(move || LogFile::open(&file, tail)).await;
    let mut reader = match opened {
        Ok(log) => Reader { log, writer: Writer::new(options) },
        Err(error) => {
            let error = std::io::Error::new(
                error.kind(),
                format!("failed to open log file {}: {error}", path.display()),
            );
            let _ = sender.send(Err(error)).await;
            return;
        }
    };
    let mut ended = false;
    loop {
        let (out, more);
        (reader, out, more) = files::blocking(move || reader.read()).await;
        if !out.is_empty() && sender.send(Ok(Bytes::from(out))).await.is_err() {
            return;
        }
        match more {
            Err(error) => {
                let _ = sender.send(Err(error)).await;
                return;
            }
            Ok(_) if reader.writer.is_full() => return,
            Ok(true) => {}
            // What was written before the container ended has been read since it was seen to have ended.
            Ok(false) if !follow || ended => return,
            Ok(false) => {
                ended = wait(&*runtime, &id, watch.as_ref(), &sender).await;
            }
        }
    }
}

/// A log and what becomes of its lines.
struct Reader {
    log: LogFile,
    writer: Writer,
}

impl Reader {
    /// The next piece, and whether there may be more. Gives itself back, since it is used on another thread.
    fn read(mut self) -> (Self, Vec<u8>, std::io::Result<bool>) {
        let mut out = Vec::new();
        let more = self.log.lines(|line| self.writer.write(line, &mut out));
        (self, out, more)
    }
}

/// Waits for more; true once the container has ended or nobody listens.
async fn wait(runtime: &dyn Runtime, id: &str, watch: Option<&Watch>, sender: &mpsc::Sender<Chunk>) -> bool {
    let changed = async {
        match watch {
            Some(watch) => watch.changed(CHECK).await,
            None => {
                tokio::time::sleep(CHECK).await;
                false
            }
        }
    };
    let written = tokio::select! {
        written = changed => written,
        () = sender.closed() => return true,
    };
    if written {
        return false;
    }
    let running = k8s_cri::v1::ContainerState::ContainerRunning as i32;
    !runtime.container(id).await.is_ok_and(|status| status.state == running)
}

#[cfg(test)]
mod tests;
