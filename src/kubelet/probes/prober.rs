//! Making one probe: a command in the container, an HTTP request ([`http`]), a TCP connection or a gRPC
//! health check. Output and wording are Go's, because that is what people search for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use client::BoxFuture;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::{Container, ExecAction, GRPCAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use super::http;
use crate::runtime::Runtime;
use crate::spec::env;

/// What is probed.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) container: Container,
    pub(crate) id: String,
    /// The pod's address; none for pods in the node's network.
    pub(crate) ip: Option<IpAddr>,
}

pub(crate) enum Finding {
    Success,
    /// Good, but worth a word.
    Warning(String),
    Failure(String),
    Unknown(String),
}

/// Where a probe of a pod in the node's network goes if it names no host.
const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Bytes of output that are kept.
pub(super) const MOST_OUTPUT: usize = 10 * 1024;

/// Who makes probes: the node, or a script.
pub(crate) trait Prober: Send + Sync {
    fn probe<'a>(&'a self, probe: &'a Probe, target: &'a Target, timeout: Duration)
    -> BoxFuture<'a, Finding>;
}

/// Probes from the node: in the container through the runtime, else through the pod's network.
pub(crate) struct NodeProber(pub(crate) Arc<dyn Runtime>);

impl Prober for NodeProber {
    fn probe<'a>(
        &'a self,
        probe: &'a Probe,
        target: &'a Target,
        timeout: Duration,
    ) -> BoxFuture<'a, Finding> {
        Box::pin(make(&*self.0, probe, target, timeout))
    }
}

async fn make(runtime: &dyn Runtime, probe: &Probe, target: &Target, timeout: Duration) -> Finding {
    if let Some(action) = &probe.exec {
        return exec(runtime, action, target, timeout).await;
    }
    if let Some(action) = &probe.http_get {
        return match http::get(action, target, "kube-probe", timeout).await {
            Ok((status, _)) if (200..300).contains(&status) => Finding::Success,
            Ok((status, body)) if (300..400).contains(&status) => {
                Finding::Warning(format!("Probe terminated redirects, Response body: {body}"))
            }
            Ok((status, _)) => Finding::Failure(format!("HTTP probe failed with statuscode: {status}")),
            Err(error @ (RequestError::NoPort(_) | RequestError::Port(_))) => {
                Finding::Unknown(error.to_string())
            }
            Err(error) => Finding::Failure(error.to_string()),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        return tcp(action, target, timeout).await;
    }
    if let Some(action) = &probe.grpc {
        return grpc(action, target, timeout).await;
    }
    Finding::Unknown(format!("missing probe handler for container {}", target.container.name))
}

async fn exec(runtime: &dyn Runtime, action: &ExecAction, target: &Target, timeout: Duration) -> Finding {
    // Only what the specification says itself: what comes from elsewhere is not looked up again.
    let env = target.container.env.iter().flatten();
    let env = env.map(|one| (one.name.clone(), one.value.clone().unwrap_or_default())).collect();
    let command: Vec<String> =
        action.command.iter().flatten().map(|word| env::expand(word, &[&env])).collect();
    match runtime.exec(&target.id, &command, timeout).await {
        Ok(reply) if reply.exit_code == 0 => Finding::Success,
        Ok(reply) => {
            let mut output = reply.stdout;
            output.extend(reply.stderr);
            output.truncate(MOST_OUTPUT);
            Finding::Failure(String::from_utf8_lossy(&output).into_owned())
        }
        Err(error) if error.is_timeout() => {
            Finding::Failure(format!("command timed out: {command:?} timed out after {}s", timeout.as_secs()))
        }
        Err(error) => Finding::Unknown(error.to_string()),
    }
}

/// Why a probe's request had no answer, as Go's clients say it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("couldn't find port: {0}")]
    NoPort(String),
    #[error("invalid port number: {0}")]
    Port(i32),
    #[error("dial tcp {to}: {}", connect_error(.source))]
    Connect { to: String, source: io::Error },
    #[error("dial tcp {0}: i/o timeout")]
    ConnectTimeout(String),
    #[error("Get {url:?}: {source}")]
    Get { url: String, source: Box<RequestError> },
    #[error("Get {0:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)")]
    GetTimeout(String),
    #[error("failed to parse Location header {location:?}: {source}")]
    Location { location: String, source: url::ParseError },
    #[error("stopped after 10 redirects")]
    TooManyRedirects,
    #[error("unsupported protocol scheme {0:?}")]
    Scheme(String),
    #[error(transparent)]
    Request(#[from] ::http::Error),
    #[error(transparent)]
    ServerName(#[from] rustls::pki_types::InvalidDnsNameError),
    #[error(transparent)]
    Tls(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("timeout: failed to connect service \"{to}\" within {seconds}s: context deadline exceeded")]
    RpcConnect { to: String, seconds: u64 },
    #[error("error: health rpc failed: {0}")]
    Rpc(Box<tonic::Status>),
}

/// The number of a port that may be one of the container's names.
pub(crate) fn port_number(port: &IntOrString, container: &Container) -> Result<u16, RequestError> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => name.parse().ok().or_else(|| {
            let named = container.ports.iter().flatten().find(|one| one.name.as_deref() == Some(name));
            named.map(|one| one.container_port)
        }),
    };
    let number = number.ok_or_else(|| match port {
        IntOrString::String(name) => RequestError::NoPort(name.clone()),
        IntOrString::Int(number) => RequestError::Port(*number),
    })?;
    u16::try_from(number).ok().filter(|port| *port > 0).ok_or(RequestError::Port(number))
}

pub(super) async fn connect(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, RequestError> {
    let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(RequestError::Connect { to: shown, source }),
        Err(_) => Err(RequestError::ConnectTimeout(shown)),
    }
}

fn connect_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_string(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_string(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_string(),
        _ => format!("connect: {error}"),
    }
}

pub(super) fn host_of(host: Option<&str>, target: &Target) -> String {
    match host.filter(|host| !host.is_empty()) {
        Some(host) => host.to_string(),
        None => target.ip.unwrap_or(LOOPBACK).to_string(),
    }
}

async fn tcp(action: &TCPSocketAction, target: &Target, timeout: Duration) -> Finding {
    let port = match port_number(&action.port, &target.container) {
        Ok(port) => port,
        Err(error) => return Finding::Unknown(error.to_string()),
    };
    match connect(&host_of(action.host.as_deref(), target), port, timeout).await {
        Ok(_) => Finding::Success,
        Err(error) => Finding::Failure(error.to_string()),
    }
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`; 1 is SERVING.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

async fn grpc(action: &GRPCAction, target: &Target, timeout: Duration) -> Finding {
    let Ok(port) = u16::try_from(action.port) else {
        return Finding::Unknown(format!("invalid port number: {}", action.port));
    };
    let address = SocketAddr::new(target.ip.unwrap_or(LOOPBACK), port);
    match tokio::time::timeout(
        timeout,
        check_health(address, action.service.clone().unwrap_or_default(), timeout),
    )
    .await
    {
        Ok(Ok(1)) => Finding::Success,
        Ok(Ok(status)) => {
            let word = match status {
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "UNKNOWN",
            };
            Finding::Failure(format!("service unhealthy (responded with {word:?})"))
        }
        Ok(Err(error)) => Finding::Failure(error.to_string()),
        Err(_) => {
            Finding::Failure(format!("timeout: health rpc did not complete within {}s", timeout.as_secs()))
        }
    }
}

async fn check_health(address: SocketAddr, service: String, timeout: Duration) -> Result<i32, RequestError> {
    // Go's client keeps trying until the time is over, and says only that.
    let failed = |_: tonic::transport::Error| RequestError::RpcConnect {
        to: address.to_string(),
        seconds: timeout.as_secs(),
    };
    let endpoint = tonic::transport::Endpoint::try_from(format!("http://{address}")).map_err(failed)?;
    let channel = endpoint.executor(TokioExecutor::new()).connect().await.map_err(failed)?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(failed)?;
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = ::http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let reply = client.unary(tonic::Request::new(HealthCheckRequest { service }), path, codec).await;
    match reply {
        Ok(reply) => Ok(reply.into_inner().status),
        Err(status) => Err(RequestError::Rpc(Box::new(status))),
    }
}
