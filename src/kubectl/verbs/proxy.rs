//! `kubectl proxy`: the API on a local port, with this kubeconfig's credentials.
//!
//! Paths go through as they are, trailing slashes included. Requests for other host names are refused, so
//! that a web page cannot reach the API through a name it controls. Upgrades (exec, port-forward) go through,
//! files of a directory can be served beside the API, and a UNIX socket can take the place of the port.

mod files;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use client::HttpsApi;
use client::https::{ResponseBody, Switch};
use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use supervisor::{OnExit, Stage, Supervisor};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use crate::env::{Env, print_line};
use crate::error::{Error, Result};

/// Run a proxy to the Kubernetes API server
#[derive(Args)]
pub(crate) struct ProxyArgs {
    /// Port to listen on; 0 picks one
    #[arg(short = 'p', long, default_value_t = 8001)]
    port: u16,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    address: String,
    /// Prefix below which the API is served
    #[arg(long, default_value = "/")]
    api_prefix: String,
    /// Host names that requests may carry, as regular expressions
    #[arg(long, default_value = r"^localhost$,^127\.0\.0\.1$,^\[::1\]$")]
    accept_hosts: String,
    /// Paths that are let through
    #[arg(long, default_value = "^.*")]
    accept_paths: String,
    /// Paths that are refused
    #[arg(long, default_value = "^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach")]
    reject_paths: String,
    /// Methods that are refused
    #[arg(long, default_value = "^$")]
    reject_methods: String,
    /// Let everything through
    #[arg(long)]
    disable_filter: bool,
    /// Accepted for compatibility; connections are kept alive
    #[arg(long, default_value = "0s")]
    keepalive: String,
    /// Directory of files to serve beside the API
    #[arg(short = 'w', long)]
    www: Option<PathBuf>,
    /// Prefix below which the files are served
    #[arg(short = 'P', long, default_value = "/static/")]
    www_prefix: String,
    /// UNIX socket to listen on instead of a port
    #[arg(short = 'u', long)]
    unix_socket: Option<PathBuf>,
    /// Accepted for compatibility; the path of the server's URL always counts
    #[arg(long)]
    append_server_path: bool,
}

/// Largest body that is passed on; the API server takes 3 MiB.
const MAX_BODY: usize = 16 << 20;

type Answer = Response<Either<ResponseBody, Full<Bytes>>>;

struct Filter {
    hosts: Vec<regex::Regex>,
    accept_paths: Vec<regex::Regex>,
    reject_paths: Vec<regex::Regex>,
    reject_methods: Vec<regex::Regex>,
    disabled: bool,
}

/// What every connection is served with.
struct Served {
    api: HttpsApi,
    filter: Filter,
    /// Prefix of the API, without a slash at its end.
    prefix: String,
    /// Prefix of files, with slashes, and their directory.
    files: Option<(String, PathBuf)>,
    /// Where upgraded connections go on.
    stage: Stage,
}

pub(crate) async fn run(env: &Env, args: ProxyArgs) -> Result<()> {
    let supervisor = Supervisor::new();
    let stage = supervisor.stage("proxy");
    let slashed = |prefix: &str| match prefix.trim_matches('/') {
        "" => "/".to_string(),
        bare => format!("/{bare}/"),
    };
    let files = args.www.clone().map(|directory| (slashed(&args.www_prefix), directory));
    if let Some((_, directory)) = files.as_ref().filter(|(_, directory)| !directory.is_dir()) {
        let shown = directory.display();
        return Err(Error::message(format!("{shown} is not a directory")));
    }
    let served = Arc::new(Served {
        api: env.rest().await?.https().clone(),
        filter: Filter::new(&args)?,
        prefix: slashed(&args.api_prefix).trim_end_matches('/').to_string(),
        files,
        stage: stage.clone(),
    });
    if let Some(path) = &args.unix_socket {
        let failed = |error| Error::message(format!("listen unix {}: {error}", path.display()));
        let listener = UnixListener::bind(path).map_err(failed)?;
        print_line(&format!("Starting to serve on {}", path.display()))?;
        loop {
            let (stream, _) = listener.accept().await?;
            stage.spawn_cancellable("connection", OnExit::Done, connection(stream, served.clone()));
        }
    }
    let host = args.address.trim_matches(['[', ']']);
    let listener = TcpListener::bind((host, args.port))
        .await
        .map_err(|error| Error::message(format!("listen tcp {}:{}: {error}", args.address, args.port)))?;
    print_line(&format!("Starting to serve on {}", listener.local_addr()?))?;
    loop {
        let (stream, _): (_, SocketAddr) = listener.accept().await?;
        stage.spawn_cancellable("connection", OnExit::Done, connection(stream, served.clone()));
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, served: Arc<Served>) {
    let service = service_fn(|request| {
        let served = served.clone();
        async move { Ok::<_, std::convert::Infallible>(answer(&served, request).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.with_upgrades().await {
        tracing::debug!(%error, "proxied connection");
    }
}

/// A file, or what the API says.
async fn answer(served: &Served, request: Request<Incoming>) -> Answer {
    match served.files.as_ref().and_then(|(prefix, directory)| {
        request.uri().path().strip_prefix(prefix.as_str()).map(|below| files::answer(directory, below))
    }) {
        Some(response) => response.map(|body| Either::Right(Full::new(body))),
        None => forward(served, request).await,
    }
}

impl Filter {
    fn new(args: &ProxyArgs) -> Result<Self> {
        let compile = |list: &str| -> Result<Vec<regex::Regex>> {
            let one = |text: &str| {
                regex::Regex::new(text)
                    .map_err(|error| Error::message(format!("invalid regular expression {text:?}: {error}")))
            };
            list.split(',').filter(|text| !text.is_empty()).map(one).collect()
        };
        Ok(Filter {
            hosts: compile(&args.accept_hosts)?,
            accept_paths: compile(&args.accept_paths)?,
            reject_paths: compile(&args.reject_paths)?,
            reject_methods: compile(&args.reject_methods)?,
            disabled: args.disable_filter,
        })
    }

    fn allows(&self, method: &str, path: &str, host: &str) -> bool {
        let any = |list: &[regex::Regex], text: &str| list.iter().any(|one| one.is_match(text));
        self.disabled
            || (any(&self.hosts, host)
                && any(&self.accept_paths, path)
                && !any(&self.reject_paths, path)
                && !any(&self.reject_methods, method))
    }
}

fn plain(code: StatusCode, text: &str) -> Answer {
    let mut response = Response::new(Either::Right(Full::new(Bytes::from(format!("{text}\n")))));
    *response.status_mut() = code;
    response
}

/// The host of a `Host` header, without its port.
fn host_of(header: &str) -> &str {
    if header.starts_with('[') {
        return header.rfind(']').map_or(header, |end| &header[..=end]);
    }
    header.split(':').next().unwrap_or_default()
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    const NAMES: [&str; 6] =
        ["keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "proxy-connection"];
    *name == CONNECTION || *name == TRANSFER_ENCODING || *name == UPGRADE || NAMES.contains(&name.as_str())
}

async fn forward(served: &Served, request: Request<Incoming>) -> Answer {
    let Served { api, filter, prefix, .. } = served;
    let host =
        request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_string();
    let path = request.uri().path();
    if !filter.allows(request.method().as_str(), path, host_of(&host)) {
        return plain(StatusCode::FORBIDDEN, "Forbidden");
    }
    let full = request.uri().path_and_query().map_or("/", |one| one.as_str());
    let Some(below) =
        full.strip_prefix(prefix.as_str()).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    else {
        return plain(StatusCode::NOT_FOUND, "404 page not found");
    };
    let below = if below.starts_with('/') { below.to_string() } else { format!("/{below}") };
    if request.headers().contains_key(UPGRADE) {
        return upgrade(served, &below, request).await;
    }
    let is_stream = below.contains("watch=") || below.contains("follow=") || below.contains("/watch/");
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "the request body is too large or broke off");
    };
    let mut outgoing = Request::new(body.to_bytes());
    *outgoing.method_mut() = head.method;
    match below.parse() {
        Ok(uri) => *outgoing.uri_mut() = uri,
        Err(error) => return plain(StatusCode::BAD_REQUEST, &format!("invalid path: {error}")),
    }
    for (name, value) in &head.headers {
        // The proxy's own identity speaks, never the caller's.
        if !is_hop_by_hop(name) && *name != HOST && *name != AUTHORIZATION && *name != USER_AGENT {
            outgoing.headers_mut().append(name.clone(), value.clone());
        }
    }
    let answer = if is_stream { api.stream(outgoing).await } else { api.request(outgoing).await };
    match answer {
        Ok(mut response) => {
            let connection: Vec<HeaderName> =
                response.headers().keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
            for name in connection {
                response.headers_mut().remove(name);
            }
            *response.version_mut() = http::Version::HTTP_11;
            response.map(Either::Left)
        }
        Err(error) => plain(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

/// Passes a request for another protocol on; from then on bytes go through as they are.
async fn upgrade(served: &Served, below: &str, mut request: Request<Incoming>) -> Answer {
    let mut outgoing = Request::new(Bytes::new());
    *outgoing.method_mut() = request.method().clone();
    match below.parse() {
        Ok(uri) => *outgoing.uri_mut() = uri,
        Err(error) => return plain(StatusCode::BAD_REQUEST, &format!("invalid path: {error}")),
    }
    for (name, value) in request.headers() {
        if *name != HOST && *name != AUTHORIZATION && *name != USER_AGENT {
            outgoing.headers_mut().append(name.clone(), value.clone());
        }
    }
    let (headers, mut far) = match served.api.switch(outgoing).await {
        Ok(Switch::Done { headers, stream }) => (headers, stream),
        Ok(Switch::Refused { status, body }) => {
            let mut response = Response::new(Either::Right(Full::new(body)));
            *response.status_mut() = status;
            return response;
        }
        Err(error) => return plain(StatusCode::BAD_GATEWAY, &error.to_string()),
    };
    let near = hyper::upgrade::on(&mut request);
    served.stage.spawn_cancellable("upgraded connection", OnExit::Done, async move {
        match near.await {
            Ok(near) => {
                let copied = tokio::io::copy_bidirectional(&mut TokioIo::new(near), &mut far).await;
                if let Err(error) = copied {
                    tracing::debug!(%error, "upgraded connection");
                }
            }
            Err(error) => tracing::debug!(%error, "upgrade"),
        }
    });
    let mut response = Response::new(Either::Right(Full::default()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests;
