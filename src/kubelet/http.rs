//! The kubelet's HTTP service: one hyper service behind two doors, TLS on the node's port and memory for
//! the server that runs in the same process. Memory is the API server's alone; at the port it shows its
//! certificate, and others a token ([`access`]).

pub(crate) mod access;
mod body;
mod logs;
pub(crate) mod measured;
mod query;
mod streams;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::api::core::v1::Pod;
use supervisor::{Admission, ConnectionLimiter, OnExit, Stage, Standing, WriteTimeout};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use serde_json::{Value, json};

use access::{Access, Denied};
use body::{Body, text};

use crate::config::Endpoint;
use crate::error::StartError;
use crate::pods::statics::NodePods;
use crate::probes::ProbeManager;
use crate::runtime::{Runtime, labels};
use crate::stats::Stats;
use crate::status::sender::StatusSender;

/// Bytes in flight on an in-memory connection, each way.
const DUPLEX: usize = 64 * 1024;
/// How long a client may take for TLS, for the headers of a request, and to read something of what it asked
/// for. Logs are paged through by people, behind the API server.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(32);
const STALLED: Duration = Duration::from_secs(900);

/// What the service answers from. Clones are the same service.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) stage: Stage,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) status: StatusSender,
    pub(crate) pods: NodePods,
    pub(crate) probes: ProbeManager,
    pub(crate) stats: Stats,
    pub(crate) access: Access,
    /// What `/configz` shows.
    pub(crate) configuration: Arc<Value>,
    pub(crate) more_metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    ApiServer,
    /// Somebody who has to show a token with each request.
    Stranger,
}

impl Service {
    pub(crate) fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(DUPLEX);
        self.serve(ours, None, Caller::ApiServer);
        theirs
    }

    /// Opens the TLS door and accepts until the stage stops.
    pub(crate) async fn listen(&self, endpoint: &Endpoint) -> Result<u16, StartError> {
        let address = SocketAddr::new(endpoint.bind_address, endpoint.port);
        let failed = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let acceptor = TlsAcceptor::from(endpoint.tls.clone());
        let limiter = ConnectionLimiter::new(endpoint.connections);
        let service = self.clone();
        self.stage.spawn_cancellable("kubelet port", OnExit::Stop, async move {
            loop {
                let Ok((stream, address)) = listener.accept().await else {
                    // Out of file descriptors: those who have some must get a chance to give them back.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let Some(admission) = limiter.admit(address.ip()) else { continue };
                let task = service.clone().accept(acceptor.clone(), stream, admission);
                service.stage.spawn_cancellable("kubelet handshake", OnExit::Done, task);
            }
        });
        Ok(port)
    }

    /// Lets in who speaks TLS in time; the API server is known by its certificate.
    async fn accept(self, acceptor: TlsAcceptor, stream: TcpStream, admission: Admission) {
        let stream = WriteTimeout::new(stream, STALLED, Arc::default());
        let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream));
        let done = tokio::select! {
            done = handshake => done,
            () = admission.cut() => return,
        };
        match done {
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates();
                if certificates.is_none_or(<[_]>::is_empty) {
                    self.serve(stream, Some(admission), Caller::Stranger);
                } else if admission.identify("API server", Standing::Reserved) {
                    self.serve(stream, Some(admission), Caller::ApiServer);
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake with the kubelet's port failed"),
            Err(_) => tracing::debug!("TLS handshake with the kubelet's port took too long"),
        }
    }

    /// Both doors speak HTTP/1.1: TLS offers nothing else.
    fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        admission: Option<Admission>,
        caller: Caller,
    ) {
        let service = self.clone();
        self.stage.spawn_cancellable("kubelet connection", OnExit::Done, async move {
            // A stream that a connection turns into keeps its place.
            let admission = admission.map(Arc::new);
            let handler = hyper::service::service_fn(move |request| {
                let (service, admission) = (service.clone(), admission.clone());
                async move { Ok::<_, Infallible>(service.admit(request, admission, caller).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .serve_connection(TokioIo::new(stream), handler)
                .with_upgrades();
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to the kubelet ended");
            }
        });
    }

    /// Answers the API server, and others if they may ask.
    async fn admit(
        &self,
        request: Request<Incoming>,
        admission: Option<Arc<Admission>>,
        caller: Caller,
    ) -> Response<Body> {
        if caller == Caller::Stranger {
            let checked = self.access.check(request.method(), request.uri().path(), request.headers()).await;
            let user = match checked {
                Ok(user) => user,
                Err(Denied(code, message)) => return text(code, message),
            };
            if admission.as_ref().is_some_and(|one| !one.identify(&user, Standing::Ordinary)) {
                return text(StatusCode::TOO_MANY_REQUESTS, "too many connections");
            }
        }
        self.answer(request, admission).await
    }

    async fn answer(&self, request: Request<Incoming>, admission: Option<Arc<Admission>>) -> Response<Body> {
        let path = request.uri().path().to_string();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        if let [word, rest @ ..] = parts.as_slice()
            && let Some(kind) = streams::Kind::of(word)
        {
            return match *request.method() {
                Method::GET | Method::POST => {
                    let (stage, runtime, pods) = (&self.stage, &*self.runtime, &self.pods);
                    let streams = streams::Streams { stage, runtime, pods };
                    streams::answer(&streams, kind, rest, request, admission).await
                }
                _ => text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"),
            };
        }
        match (request.method().as_str(), parts.as_slice()) {
            ("GET" | "HEAD", ["healthz"]) => text(StatusCode::OK, "ok"),
            ("GET", ["pods"]) => self.list_pods(),
            ("GET", ["runningpods"]) => self.list_running_pods().await,
            ("GET", ["stats", "summary"]) => {
                measured::summary(self, request.uri().query().unwrap_or("")).await
            }
            ("GET", ["metrics"]) => measured::metrics(self, "").await,
            ("GET", ["metrics", page]) => measured::metrics(self, page).await,
            ("GET", ["configz"]) => measured::json_answer(&self.configuration),
            ("GET", ["containerLogs", namespace, pod, container]) => {
                let query = request.uri().query().unwrap_or("");
                logs::answer(self, [*namespace, *pod, *container], query).await
            }
            (
                _,
                ["healthz" | "pods" | "runningpods" | "metrics" | "configz"]
                | ["containerLogs", _, _, _]
                | ["stats", "summary"]
                | ["metrics", _],
            ) => text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"),
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    /// The pods of this node with the newest status that was sent.
    fn list_pods(&self) -> Response<Body> {
        let items: Vec<Pod> = self
            .pods
            .list()
            .into_iter()
            .map(|pod| Pod { status: Some((*self.status.latest(&pod)).clone()), ..(*pod).clone() })
            .collect();
        measured::json_answer(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
    }

    /// What the runtime runs, whether or not the API knows of it.
    async fn list_running_pods(&self) -> Response<Body> {
        let label = self.stats.settings.instance_label.clone();
        let mine = [(labels::INSTANCE.to_string(), label)].into();
        let found = match self.runtime.containers(mine).await {
            Ok(found) => found,
            Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
        let running = k8s_cri::v1::ContainerState::ContainerRunning as i32;
        let mut pods: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
        for one in found.into_iter().filter(|one| one.state == running) {
            let label = |key: &str| one.labels.get(key).cloned().unwrap_or_default();
            let metadata = json!({
                "name": label(labels::POD_NAME), "namespace": label(labels::POD_NAMESPACE),
                "uid": label(labels::POD_UID),
            });
            let container =
                json!({"name": label(labels::CONTAINER_NAME), "image": one.image_ref, "resources": {}});
            pods.entry(label(labels::POD_UID)).or_insert((metadata, Vec::new())).1.push(container);
        }
        let item = |(metadata, containers)| json!({"metadata": metadata, "spec": {"containers": containers}, "status": {}});
        let items: Vec<Value> = pods.into_values().map(item).collect();
        measured::json_answer(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
    }
}
