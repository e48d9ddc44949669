//! `kubectl proxy`: the API on a local port, with this kubeconfig's credentials.
//!
//! Paths go through as they are, trailing slashes included. Requests for other host names are refused, so
//! that a web page cannot reach the API through a name it controls. Absent: static files, UNIX sockets,
//! upgrades (exec, attach).

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use client::HttpsApi;
use client::https::ResponseBody;
use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use supervisor::{OnExit, Supervisor};
use tokio::net::TcpListener;

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
    #[arg(long, hide = true, default_value = "0s")]
    keepalive: String,
    #[arg(short = 'w', long, hide = true)]
    www: Option<String>,
    #[arg(short = 'u', long, hide = true)]
    unix_socket: Option<String>,
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

pub(crate) async fn run(env: &Env, args: ProxyArgs) -> Result<()> {
    if args.www.is_some() || args.unix_socket.is_some() {
        return Err(Error::message("--www and --unix-socket are not offered by this kubectl"));
    }
    let filter = Arc::new(Filter::new(&args)?);
    let prefix: Arc<str> = format!("/{}", args.api_prefix.trim_matches('/')).trim_end_matches('/').into();
    let api = env.rest().await?.https().clone();
    let host = args.address.trim_matches(['[', ']']);
    let listener = TcpListener::bind((host, args.port))
        .await
        .map_err(|error| Error::message(format!("listen tcp {}:{}: {error}", args.address, args.port)))?;
    print_line(&format!("Starting to serve on {}", listener.local_addr()?))?;
    let supervisor = Supervisor::new();
    let stage = supervisor.stage("proxy");
    loop {
        let (stream, _): (_, SocketAddr) = listener.accept().await?;
        let (api, filter, prefix) = (api.clone(), filter.clone(), prefix.clone());
        stage.spawn_cancellable("connection", OnExit::Done, async move {
            let service = service_fn(|request| {
                let (api, filter, prefix) = (api.clone(), filter.clone(), prefix.clone());
                async move { Ok::<_, std::convert::Infallible>(forward(&api, &filter, &prefix, request).await) }
            });
            let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = serving.await {
                tracing::debug!(%error, "proxied connection");
            }
        });
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

async fn forward(api: &HttpsApi, filter: &Filter, prefix: &str, request: Request<Incoming>) -> Answer {
    let host =
        request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_string();
    let path = request.uri().path();
    if !filter.allows(request.method().as_str(), path, host_of(&host)) {
        return plain(StatusCode::FORBIDDEN, "Forbidden");
    }
    if request.headers().contains_key(UPGRADE) {
        return plain(
            StatusCode::NOT_IMPLEMENTED,
            "this proxy does not pass upgrades (exec, attach, port-forward) on",
        );
    }
    let full = request.uri().path_and_query().map_or("/", |one| one.as_str());
    let Some(below) =
        full.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    else {
        return plain(StatusCode::NOT_FOUND, "404 page not found");
    };
    let below = if below.starts_with('/') { below.to_string() } else { format!("/{below}") };
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

#[cfg(test)]
mod tests;
