//! Requests to servers that objects of the cluster name: webhooks and extension API servers.
//!
//! A server is named by a URL or by a service. A service is looked up in the caches and reached at one of its
//! endpoints, without DNS and without the service proxy, which this machine may not have; its certificate
//! must be for `NAME.NAMESPACE.svc`. Connections are HTTP/1.1, are kept and shared by all who trust the same
//! authorities with the same identity. Every request has a deadline, which is also that of reading the
//! answer; a large one is read in a turn of heavy work ([`crate::heavy`]), and only what is wanted of it is
//! kept ([`select`]).
//!
//! Absent: HTTP/2, proxies from the environment.

mod connect;
mod resolve;
mod select;
mod tls;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use api::ApiError;
use api::json::text;
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use serde_json::Value;

use crate::cache::Caches;
use crate::heavy::Turns;
use connect::Connector;
pub(crate) use resolve::{Unresolved, addresses};
pub(crate) use select::{Wanted, select};
pub(crate) use tls::{ClientIdentity, Trust};

/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(90);
/// Connections to one server that are kept when nobody uses them.
const KEPT: usize = 25;
/// Clients that are kept. They are cheap to make anew.
const CLIENTS: usize = 128;
/// What an answer may have at least; more if the question was larger.
const ANSWER: usize = 16 << 20;

type HttpClient<B> = Client<Connector, B>;
/// By what is trusted.
type Clients<B> = Mutex<HashMap<[u8; 32], HttpClient<B>>>;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Url(String),
    Service { namespace: String, name: String, port: u16, path: String },
}

impl Target {
    /// From a `clientConfig` of a webhook.
    pub(crate) fn of(config: &Value) -> Target {
        if let Some(url) = config["url"].as_str() {
            return Target::Url(url.to_string());
        }
        let service = &config["service"];
        Target::Service {
            namespace: text(service, "namespace").to_string(),
            name: text(service, "name").to_string(),
            port: service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            path: text(service, "path").trim_start_matches('/').to_string(),
        }
    }

    fn url(&self) -> String {
        match self {
            Target::Url(url) => url.clone(),
            Target::Service { namespace, name, port, path } => {
                format!("https://{name}.{namespace}.svc:{port}/{path}")
            }
        }
    }
}

/// The certificates of a `caBundle`, or none where the system's authorities are trusted.
pub(crate) fn bundle(config: &Value) -> Option<Bytes> {
    let bytes = STANDARD.decode(text(config, "caBundle")).unwrap_or_default();
    (!bytes.trim_ascii().is_empty()).then(|| bytes.into())
}

/// Why there is no answer that can be used. The words are those that upstream's client has.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboundError {
    #[error("{verb} {url:?}: {source}")]
    Unreached { verb: &'static str, url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{verb} {url:?}: context deadline exceeded")]
    Timeout { verb: &'static str, url: String },
    #[error("{0}")]
    Setup(String),
    #[error("{message}")]
    Refused { message: String },
    #[error("couldn't get version/kind; json parse error: {0}")]
    NotJson(serde_json::Error),
    #[error("{0}")]
    Undecodable(ApiError),
}

/// All connections to such servers.
pub(crate) struct Outbound {
    caches: Arc<Caches>,
    /// For reading large answers. Those of one URL are read one after the other.
    turns: Arc<Turns>,
    clients: Clients<Full<Bytes>>,
    /// For requests that are handed on with their bodies as they come.
    proxies: Clients<Body>,
}

impl Outbound {
    pub(crate) fn new(caches: Arc<Caches>, turns: Arc<Turns>) -> Arc<Self> {
        Arc::new(Outbound { caches, turns, clients: Mutex::default(), proxies: Mutex::default() })
    }

    /// The client for servers that are trusted in this way.
    fn client<B>(&self, clients: &Clients<B>, trust: &Trust) -> Result<HttpClient<B>, OutboundError>
    where
        B: http_body::Body + Send,
        B::Data: Send,
    {
        let key = trust.key();
        let mut clients = clients.lock();
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let tls = trust.tls_config().map_err(|error| OutboundError::Setup(error.to_string()))?;
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(IDLE).pool_max_idle_per_host(KEPT).pool_timer(TokioTimer::new());
        let client = builder.build(Connector::new(Arc::new(tls), self.caches.clone()));
        if clients.len() >= CLIENTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }

    /// Hands a request on, as it is; its URI names the server.
    pub(crate) async fn pass(
        &self,
        trust: &Trust,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, OutboundError> {
        let client = self.client(&self.proxies, trust)?;
        let url = request.uri().to_string();
        client.request(request).await.map_err(|error| unreached("Proxy", &url, &error))
    }

    /// Asks for a document of a server. `read` makes of its bytes what is wanted.
    pub(crate) async fn get<T, E: From<OutboundError>>(
        &self,
        trust: &Trust,
        request: http::request::Builder,
        limit: Duration,
        read: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<T, E> {
        let url = request.uri_ref().map(ToString::to_string).unwrap_or_default();
        let read = |status: StatusCode, body: &[u8]| {
            if !status.is_success() {
                let message = format!("bad status from {url}: {}", status.as_u16());
                return Err(OutboundError::Refused { message }.into());
            }
            read(body)
        };
        self.read(trust, request, limit, read).await
    }

    /// The same of an answer with any status.
    pub(crate) async fn read<T, E: From<OutboundError>>(
        &self,
        trust: &Trust,
        request: http::request::Builder,
        limit: Duration,
        read: impl FnOnce(StatusCode, &[u8]) -> Result<T, E>,
    ) -> Result<T, E> {
        let request = request.method("GET").body(Full::default());
        let request = request.map_err(|error| OutboundError::Setup(error.to_string()))?;
        self.exchange("Get", trust, request, (limit, ANSWER), read).await
    }

    /// Posts JSON, and has the answer read within a time that the server is told.
    pub(crate) async fn post<T, E: From<OutboundError>>(
        &self,
        target: &Target,
        trust: &Trust,
        body: Vec<u8>,
        limit: Duration,
        read: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<T, E> {
        let seconds = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
        let url = target.url();
        let separator = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{separator}timeout={seconds}s");
        let uri: Uri = url.parse().map_err(|error| OutboundError::Setup(format!("{url:?}: {error}")))?;
        let most = ANSWER.max(2 * body.len());
        let request = Request::post(uri)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| OutboundError::Setup(error.to_string()))?;
        let read = |status: StatusCode, body: &[u8]| {
            if status.is_success() { read(body) } else { Err(refused(status, body).into()) }
        };
        self.exchange("Post", trust, request, (limit, most), read).await
    }

    /// One request and what is read of an answer of at most so many bytes, all within the time.
    async fn exchange<T, E: From<OutboundError>>(
        &self,
        verb: &'static str,
        trust: &Trust,
        request: Request<Full<Bytes>>,
        (limit, most): (Duration, usize),
        read: impl FnOnce(StatusCode, &[u8]) -> Result<T, E>,
    ) -> Result<T, E> {
        let client = self.client(&self.clients, trust)?;
        let url = request.uri().to_string();
        let answer = async {
            let response = client.request(request).await.map_err(|error| unreached(verb, &url, &error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), most).collect().await;
            let body = body.map_err(|source| OutboundError::Unreached { verb, url: url.clone(), source })?;
            let body = body.to_bytes();
            self.turns.run(&url, body.len(), pin!(async { read(status, &body) })).await
        };
        let timeout = || OutboundError::Timeout { verb, url: url.clone() };
        tokio::time::timeout(limit, answer).await.map_err(|_| timeout())?
    }
}

/// What lies at the bottom: the outer error says only that a client failed.
pub(crate) fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(inner) = deepest.source() {
        deepest = inner;
    }
    deepest.to_string()
}

fn unreached(verb: &'static str, url: &str, error: &hyper_util::client::legacy::Error) -> OutboundError {
    OutboundError::Unreached { verb, url: url.to_string(), source: cause(error).into() }
}

fn refused(status: StatusCode, body: &[u8]) -> OutboundError {
    let wanted = Wanted::Members(&[("kind", Wanted::Whole), ("message", Wanted::Whole)]);
    let told = select(body, wanted).ok().filter(|body| body["kind"] == "Status");
    let told = told.map(|body| text(&body, "message").to_string()).filter(|message| !message.is_empty());
    let message = told.unwrap_or_else(|| match status.as_u16() {
        404 => "the server could not find the requested resource".to_string(),
        401 => "the server has asked for the client to provide credentials".to_string(),
        403 => "unknown".to_string(),
        code if code >= 500 => {
            let text: String = String::from_utf8_lossy(body).chars().take(256).collect();
            let text = if text.trim().is_empty() { "unknown" } else { text.trim() };
            format!("an error on the server ({text:?}) has prevented the request from succeeding")
        }
        code => {
            format!("the server responded with the status code {code} but did not return more information")
        }
    });
    OutboundError::Refused { message }
}
