//! `/exec`, `/attach` and `/portForward`: finds what is meant, asks the runtime where it serves the stream,
//! and joins the two.
//!
//! Clients that speak what the runtime speaks (SPDY, WebSockets up to v4) are joined with it byte by byte.
//! Newer ones are served here, as upstream's kubelet does where it may: v5 of the remote command protocol is
//! translated ([`remote`]), SPDY in a WebSocket is unwrapped. The runtime's own idle time-out (4 h) ends
//! silent streams. Absent: `/run`, which nothing asks for that `exec` does not give.

mod remote;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::streams::websocket::{self, Tunnel};
use client::streams::{
    PORT_FORWARD, PROTOCOL_VERSION, REMOTE_COMMAND_V4, REMOTE_COMMAND_V5, SPDY, TUNNELLED,
};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::Pod;
use supervisor::{Admission, OnExit, Stage};
use tokio::net::TcpStream;

use super::body::{Body, full, text};
use super::query;
use crate::pods::statics::NodePods;
use crate::runtime::{Runtime, RuntimeError, StreamRequest, labels};
use crate::spec::PodExt;
use remote::Wanted;

/// The most that is handed on of what a runtime says instead of switching.
const REFUSAL: usize = 64 * 1024;
/// Bytes under way in each direction.
const BUFFER: usize = 64 * 1024;
/// Headers of one hop.
const HOP: [HeaderName; 5] = [HOST, CONNECTION, UPGRADE, TRANSFER_ENCODING, CONTENT_LENGTH];
/// Headers of a WebSocket's handshake, which the runtime does not see if it is spoken to in SPDY.
const HANDSHAKE: [HeaderName; 4] =
    [SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_EXTENSIONS];

/// What is asked for, by the path's first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Exec,
    Attach,
    PortForward,
}

impl Kind {
    pub(super) fn of(word: &str) -> Option<Kind> {
        match word {
            "exec" => Some(Kind::Exec),
            "attach" => Some(Kind::Attach),
            "portForward" => Some(Kind::PortForward),
            _ => None,
        }
    }
}

/// How a client is joined with the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joint {
    /// Both speak the same.
    Plain,
    /// The client speaks v5, the runtime v4 on SPDY.
    Remote,
    /// The client speaks SPDY in a WebSocket, the runtime SPDY.
    Tunnel,
}

/// Why there is no stream; code and text are upstream's.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl From<RuntimeError> for Refusal {
    fn from(error: RuntimeError) -> Self {
        let code =
            if error.is_not_found() { StatusCode::NOT_FOUND } else { StatusCode::INTERNAL_SERVER_ERROR };
        Refusal(code, error.to_string())
    }
}

fn failed(text: impl ToString) -> Refusal {
    Refusal(StatusCode::INTERNAL_SERVER_ERROR, text.to_string())
}

/// What streams are made from.
pub(super) struct Streams<'a> {
    pub(super) stage: &'a Stage,
    pub(super) runtime: &'a dyn Runtime,
    pub(super) pods: &'a NodePods,
}

/// Answers with a switch of protocols, or with why there is none. `rest` is the path after its first word.
pub(super) async fn answer(
    service: &Streams<'_>,
    kind: Kind,
    rest: &[&str],
    request: Request<Incoming>,
    admission: Option<Arc<Admission>>,
) -> Response<Body> {
    match join(service, kind, rest, request, admission).await {
        Ok(response) => response,
        Err(Refusal(code, message)) => text(code, message),
    }
}

async fn join(
    service: &Streams<'_>,
    kind: Kind,
    rest: &[&str],
    mut request: Request<Incoming>,
    admission: Option<Arc<Admission>>,
) -> Result<Response<Body>, Refusal> {
    let (namespace, name, uid, container) = match (kind, rest) {
        (Kind::PortForward, [namespace, name]) => (*namespace, *name, None, ""),
        (Kind::PortForward, [namespace, name, uid]) => (*namespace, *name, Some(*uid), ""),
        (Kind::Exec | Kind::Attach, [namespace, name, container]) => (*namespace, *name, None, *container),
        (Kind::Exec | Kind::Attach, [namespace, name, uid, container]) => {
            (*namespace, *name, Some(*uid), *container)
        }
        _ => return Err(Refusal(StatusCode::NOT_FOUND, "404 page not found\n".to_string())),
    };
    let query = query::parse(request.uri().query().unwrap_or(""));
    let wanted = if kind == Kind::PortForward { None } else { Some(wanted(&query)?) };
    let joint = joint(kind, request.headers());
    let ports = if kind == Kind::PortForward && joint == Joint::Plain {
        ports(&query, websocket::is_wanted(request.headers()))?
    } else {
        Vec::new()
    };
    let pod = service.pods.get(namespace, name);
    let pod = pod.ok_or_else(|| Refusal(StatusCode::NOT_FOUND, "pod does not exist".to_string()))?;
    if uid.is_some_and(|uid| uid != pod.uid()) {
        return Err(Refusal(StatusCode::NOT_FOUND, "pod not found".to_string()));
    }
    if !request.headers().contains_key(UPGRADE) {
        return Err(Refusal(StatusCode::BAD_REQUEST, "Upgrade request required".to_string()));
    }
    let asked = match (kind, wanted) {
        (Kind::Exec, Some(wanted)) => exec(service, &pod, container, wanted, &query).await?,
        (Kind::Attach, Some(wanted)) => attach(service, &pod, container, wanted).await?,
        _ => port_forward(service, &pod, ports).await?,
    };
    let url = service.runtime.stream(asked).await?;
    let client = hyper::upgrade::on(&mut request);
    let headers = request.headers();
    let mut answered = dial(service, &url, request.method(), &runtime_headers(joint, headers)?).await?;
    if answered.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(refused(answered).await);
    }
    let response = switched(joint, headers, answered.headers())?;
    let runtime = hyper::upgrade::on(&mut answered);
    let carry = carry(joint, wanted, client, runtime);
    service.stage.spawn_cancellable("stream into a pod", OnExit::Done, async move {
        let cut = async {
            match &admission {
                Some(admission) => admission.cut().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = carry => {}
            () = cut => {}
        }
    });
    Ok(response)
}

/// Upstream's reading of the options: only `1` is true, and a terminal has no standard error of its own.
fn wanted(query: &[(String, String)]) -> Result<Wanted, Refusal> {
    let flag = |name: &str| query.iter().find(|(key, _)| key == name).is_some_and(|(_, value)| value == "1");
    let tty = flag("tty");
    let wanted = Wanted { stdin: flag("input"), stdout: flag("output"), stderr: flag("error") && !tty, tty };
    if !wanted.stdin && !wanted.stdout && !wanted.stderr {
        let message = "you must specify at least 1 of stdin, stdout, stderr";
        return Err(Refusal(StatusCode::BAD_REQUEST, message.to_string()));
    }
    Ok(wanted)
}

/// The ports to forward. WebSockets name them beforehand; SPDY does with each connection.
fn ports(query: &[(String, String)], is_needed: bool) -> Result<Vec<i32>, Refusal> {
    let bad = |message: String| Refusal(StatusCode::BAD_REQUEST, message);
    if !is_needed {
        return Ok(Vec::new());
    }
    let named = query.iter().filter(|(key, _)| key == "port").flat_map(|(_, value)| value.split(','));
    let mut ports = Vec::new();
    for text in named {
        let port = text.parse::<u16>().map_err(|_| bad(format!("invalid port {text:?}")))?;
        if port == 0 {
            return Err(bad("port must be > 0".to_string()));
        }
        ports.push(i32::from(port));
    }
    if ports.is_empty() {
        return Err(bad("query parameter \"port\" is required".to_string()));
    }
    Ok(ports)
}

fn joint(kind: Kind, headers: &HeaderMap) -> Joint {
    if !websocket::is_wanted(headers) {
        return Joint::Plain;
    }
    let offers = |wanted: &dyn Fn(&str) -> bool| websocket::offered(headers).any(wanted);
    match kind {
        Kind::Exec | Kind::Attach if offers(&|one| one == REMOTE_COMMAND_V5) => Joint::Remote,
        Kind::PortForward if offers(&|one| one.strip_prefix(TUNNELLED) == Some(PORT_FORWARD)) => {
            Joint::Tunnel
        }
        _ => Joint::Plain,
    }
}

/// The id of a container that runs.
async fn running(service: &Streams<'_>, pod: &Pod, container: &str) -> Result<Option<String>, Refusal> {
    let selector = [(labels::POD_UID, pod.uid()), (labels::CONTAINER_NAME, container)];
    let selector = selector.into_iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let state = cri::ContainerState::ContainerRunning as i32;
    let found = service.runtime.containers(selector).await?.into_iter().filter(|one| one.state == state);
    Ok(found.max_by_key(|one| one.created_at).map(|one| one.id))
}

async fn exec(
    service: &Streams<'_>,
    pod: &Pod,
    container: &str,
    wanted: Wanted,
    query: &[(String, String)],
) -> Result<StreamRequest, Refusal> {
    let found = running(service, pod, container).await?;
    let container_id = found.ok_or_else(|| failed(format!("container not found ({container:?})")))?;
    let words = query.iter().filter(|(key, _)| key == "command");
    let Wanted { stdin, stdout, stderr, tty } = wanted;
    let cmd = words.map(|(_, value)| value.clone()).collect();
    Ok(StreamRequest::Exec(cri::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr }))
}

/// Whether there is a terminal was decided when the container was made.
async fn attach(
    service: &Streams<'_>,
    pod: &Pod,
    container: &str,
    wanted: Wanted,
) -> Result<StreamRequest, Refusal> {
    let missing = || {
        let full = format!("{}_{}", pod.name(), pod.namespace());
        failed(format!("container {container} not found in pod {full}"))
    };
    let container_id = running(service, pod, container).await?.ok_or_else(missing)?;
    let tty = pod.any_container(container).ok_or_else(missing)?.tty.unwrap_or(false);
    let Wanted { stdin, stdout, stderr, .. } = wanted;
    let stderr = stderr && !tty;
    Ok(StreamRequest::Attach(cri::AttachRequest { container_id, stdin, tty, stdout, stderr }))
}

async fn port_forward(service: &Streams<'_>, pod: &Pod, port: Vec<i32>) -> Result<StreamRequest, Refusal> {
    let selector = [(labels::POD_UID.to_string(), pod.uid().to_string())].into();
    let ready = cri::PodSandboxState::SandboxReady as i32;
    let found = service.runtime.sandboxes(selector).await?.into_iter().filter(|one| one.state == ready);
    let newest = found.max_by_key(|one| one.created_at);
    let full = format!("{}_{}", pod.name(), pod.namespace());
    let sandbox = newest.ok_or_else(|| failed(format!("pod not found ({full:?})")))?;
    Ok(StreamRequest::PortForward(cri::PortForwardRequest { pod_sandbox_id: sandbox.id, port }))
}

/// The headers for the runtime.
fn runtime_headers(joint: Joint, client: &HeaderMap) -> Result<HeaderMap, Refusal> {
    let mut headers = client.clone();
    HOP.iter().for_each(|name| drop(headers.remove(name)));
    let upgrade = match joint {
        Joint::Plain => client.get(UPGRADE).cloned().unwrap_or_else(|| HeaderValue::from_static(SPDY)),
        Joint::Remote | Joint::Tunnel => {
            HANDSHAKE.iter().for_each(|name| drop(headers.remove(name)));
            let protocol = if joint == Joint::Remote { REMOTE_COMMAND_V4 } else { PORT_FORWARD };
            headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(protocol));
            HeaderValue::from_static(SPDY)
        }
    };
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, upgrade);
    Ok(headers)
}

/// Asks the runtime's streaming server to switch.
async fn dial(
    service: &Streams<'_>,
    url: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response<Incoming>, Refusal> {
    let parsed: Uri = url.parse().map_err(|error| failed(format!("streaming URL {url:?}: {error}")))?;
    let (Some("http"), Some(authority)) = (parsed.scheme_str(), parsed.authority()) else {
        return Err(failed(format!("streaming URL {url:?} is not one of HTTP")));
    };
    let address = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80));
    let unreachable = |error: &dyn std::fmt::Display| failed(format!("error dialing backend: {error}"));
    let stream = TcpStream::connect(address).await.map_err(|error| unreachable(&error))?;
    stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| unreachable(&error))?;
    // It ends with the switch, or with the answer once nobody reads it.
    service.stage.spawn_cancellable("streaming server", OnExit::Done, async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to the streaming server ended");
        }
    });
    let path = parsed.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::new(Empty::<bytes::Bytes>::new());
    // What is translated is a request of our own.
    let is_websocket = websocket::is_wanted(headers);
    *request.method_mut() = if is_websocket { Method::GET } else { method_of(method) };
    *request.uri_mut() = path.parse().map_err(failed)?;
    *request.headers_mut() = headers.clone();
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str()).map_err(failed)?);
    sender.send_request(request).await.map_err(|error| unreachable(&error))
}

/// SPDY is asked for with POST, as clients do; a GET that wants it keeps its method.
fn method_of(method: &Method) -> Method {
    if method == Method::GET { Method::GET } else { Method::POST }
}

/// The runtime's answer, if it does not switch.
async fn refused(answered: Response<Incoming>) -> Response<Body> {
    let code = answered.status();
    match Limited::new(answered.into_body(), REFUSAL).collect().await {
        Ok(body) => text(code, body.to_bytes()),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("the runtime's answer: {error}")),
    }
}

/// What tells the client that it may speak.
fn switched(joint: Joint, client: &HeaderMap, runtime: &HeaderMap) -> Result<Response<Body>, Refusal> {
    let mut response = Response::new(full(bytes::Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    if joint == Joint::Plain {
        *response.headers_mut() = runtime.clone();
        return Ok(response);
    }
    let key = client.get(SEC_WEBSOCKET_KEY).ok_or_else(|| {
        Refusal(StatusCode::BAD_REQUEST, "websocket: missing Sec-WebSocket-Key header".to_string())
    })?;
    let protocol = match joint {
        Joint::Remote => REMOTE_COMMAND_V5.to_string(),
        _ => format!("{TUNNELLED}{PORT_FORWARD}"),
    };
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accept = websocket::accept_key(key.as_bytes());
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).map_err(failed)?);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(&protocol).map_err(failed)?);
    Ok(response)
}

/// Carries what both ends say until one of them is done.
async fn carry(joint: Joint, wanted: Option<Wanted>, client: OnUpgrade, runtime: OnUpgrade) {
    let (client, runtime): (Upgraded, Upgraded) = match tokio::try_join!(client, runtime) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "a stream into a pod did not come about");
            return;
        }
    };
    let (mut client, mut runtime) = (TokioIo::new(client), TokioIo::new(runtime));
    let outcome = match (joint, wanted) {
        (Joint::Remote, Some(wanted)) => {
            remote::carry(websocket::accepted(client).await, runtime, wanted).await;
            return;
        }
        (Joint::Tunnel, _) => {
            let mut tunnel = Tunnel::new(websocket::accepted(client).await);
            let done =
                tokio::io::copy_bidirectional_with_sizes(&mut tunnel, &mut runtime, BUFFER, BUFFER).await;
            let cause = done.as_ref().err().and_then(|error| error.get_ref()?.downcast_ref());
            if cause.is_some_and(websocket::is_too_large) {
                websocket::refuse_too_large(tunnel.into_socket()).await;
            }
            done
        }
        _ => tokio::io::copy_bidirectional_with_sizes(&mut client, &mut runtime, BUFFER, BUFFER).await,
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a stream into a pod ended");
    }
}
