//! `kubectl port-forward`: SPDY inside a WebSocket, two streams for each connection.
//!
//! Everything is one loop: listeners, connections and the SPDY connection's own task. Absent: SPDY without a
//! WebSocket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Bytes, BytesMut};
use clap::Args;
use client::streams::spdy::{Connection, StreamError, StreamReader, StreamWriter};
use client::streams::websocket::{self, Tunnel};
use client::streams::{PORT_FORWARD, TUNNELLED};
use client::{BoxFuture, ObjectRef};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use client::https::path_of;

use crate::env::{Env, print_line, tell};
use crate::error::{Error, Result};
use crate::{pods, remote};

/// The most that is read of an error, and at once of a connection.
const LARGEST_ERROR: usize = 64 * 1024;
const PIECE: usize = 32 * 1024;

/// Forward one or more local ports to a pod
#[derive(Args)]
pub(crate) struct PortForwardArgs {
    /// POD | TYPE/NAME, then [LOCAL_PORT:]REMOTE_PORT …
    arguments: Vec<String>,
    /// Addresses to listen on; localhost stands for 127.0.0.1 and ::1
    #[arg(long, value_delimiter = ',', default_value = "localhost")]
    address: Vec<String>,
    /// How long to wait until a pod runs
    #[arg(long, default_value = "1m0s")]
    pod_running_timeout: String,
}

/// A local port (0 for any) and the pod's port that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Forward {
    local: u16,
    remote: u16,
}

/// Why one connection, or all of them, end.
enum Ended {
    Connection,
    /// Told already; the whole session is over, as upstream's is.
    Session,
}

pub(crate) async fn run(env: &Env, args: PortForwardArgs) -> Result<()> {
    let [reference, ports @ ..] = &args.arguments[..] else { return Err(needs_arguments()) };
    if ports.is_empty() {
        return Err(needs_arguments());
    }
    let pod = pods::attachable(env, reference, &args.pod_running_timeout).await?;
    let service = service_of(env, reference).await?;
    let forwards: Vec<Forward> =
        ports.iter().map(|port| forward(port, service.as_ref(), &pod)).collect::<Result<_>>()?;
    let addresses = addresses(&args.address)?;
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    if phase != "Running" {
        let message = format!("unable to forward port because pod is not running. Current status={phase}");
        return Err(Error::message(message));
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
    let path = path_of(&api::kinds::POD, ObjectRef::new(Some(&namespace), &name).sub("portforward"));
    let protocol = format!("{TUNNELLED}{PORT_FORWARD}");
    let (stream, _) = remote::connect(env, &path, &protocol).await?;
    let (connection, driver) = Connection::new(Tunnel::new(websocket::connected(stream).await));
    tokio::select! {
        done = serve(&connection, &addresses, &forwards) => done,
        _ = driver.run() => Err(Error::message("lost connection to pod")),
        signal = tokio::signal::ctrl_c() => Ok(signal?),
    }
}

fn needs_arguments() -> Error {
    Error::usage("kubectl port-forward", "TYPE/NAME and list of ports are required for port-forward")
}

/// The service that was named, whose ports are not its pods'.
async fn service_of(env: &Env, reference: &str) -> Result<Option<Value>> {
    let Some((kind, name)) = reference.split_once('/') else { return Ok(None) };
    let row = env.resource(kind).await?;
    if row.kind != "Service" {
        return Ok(None);
    }
    let path = path_of(&api::kinds::SERVICE, ObjectRef::new(Some(&env.namespace), name));
    env.rest().await?.get(&path).await.map(Some)
}

/// `LOCAL:REMOTE`, where the remote one may be a name.
fn forward(text: &str, service: Option<&Value>, pod: &Value) -> Result<Forward> {
    let parts: Vec<&str> = text.split(':').collect();
    let (local, remote) = match parts[..] {
        [both] => (both, both),
        [local, remote] => (local, remote),
        _ => return Err(Error::message(format!("invalid port format '{text}'"))),
    };
    let number = match service {
        Some(service) => service_port(service, pod, remote)?,
        None => pod_port(pod, remote)?,
    };
    let local = match local {
        "" => 0,
        // A name that stands for both is the service's own port, or the pod's.
        _ if local == remote && local.parse::<u16>().is_err() => match service {
            Some(service) => number_of_service_port(service, remote)?,
            None => number,
        },
        local => local
            .parse()
            .map_err(|error| Error::message(format!("error parsing local port '{local}': {error}")))?,
    };
    if number == 0 {
        return Err(Error::message("remote port must be > 0"));
    }
    Ok(Forward { local, remote: number })
}

fn as_port(value: &Value) -> Option<u16> {
    value.as_i64().and_then(|number| u16::try_from(number).ok())
}

fn entries(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn refuse_udp(found: &Value, all: impl Iterator<Item = Value>, key: &str, shown: &str) -> Result<()> {
    // The same number may be there for TCP, too.
    let mut all = all;
    let is_tcp = |one: &Value| one["protocol"].as_str().is_none_or(|protocol| protocol == "TCP");
    if found["protocol"] == "UDP" && !all.any(|one| one[key] == found[key] && is_tcp(&one)) {
        return Err(Error::message(format!("UDP protocol is not supported for {shown}")));
    }
    Ok(())
}

fn pod_port(pod: &Value, remote: &str) -> Result<u16> {
    let ports =
        || entries(&pod["spec"]["containers"]).flat_map(|container| entries(&container["ports"])).cloned();
    let number = remote.parse::<u16>().ok();
    let found = ports().find(|port| match number {
        Some(number) => as_port(&port["containerPort"]) == Some(number),
        None => port["name"] == remote,
    });
    if let Some(found) = &found {
        refuse_udp(found, ports(), "containerPort", remote)?;
    }
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    match (number, found) {
        (Some(number), _) => Ok(number),
        (None, Some(found)) => as_port(&found["containerPort"])
            .ok_or_else(|| Error::message(format!("error parsing remote port '{remote}'"))),
        (None, None) if remote.is_empty() => Err(Error::message("remote port cannot be empty")),
        (None, None) if remote.bytes().all(|byte| byte.is_ascii_digit()) => Err(Error::message(format!(
            "error parsing remote port '{remote}': strconv.ParseUint: parsing \"{remote}\": value out of range"
        ))),
        (None, None) => Err(Error::message(format!("Pod '{name}' does not have a named port '{remote}'"))),
    }
}

fn number_of_service_port(service: &Value, remote: &str) -> Result<u16> {
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    let found = entries(&service["spec"]["ports"]).find(|port| port["name"] == remote);
    found
        .and_then(|port| as_port(&port["port"]))
        .ok_or_else(|| Error::message(format!("Service '{name}' does not have a named port '{remote}'")))
}

fn service_port(service: &Value, pod: &Value, remote: &str) -> Result<u16> {
    let number = match remote.parse::<u16>() {
        Ok(number) => number,
        Err(_) => number_of_service_port(service, remote)?,
    };
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    let found = entries(&service["spec"]["ports"]).find(|port| as_port(&port["port"]) == Some(number));
    let found = found
        .ok_or_else(|| Error::message(format!("Service {name} does not have a service port {number}")))?;
    refuse_udp(found, entries(&service["spec"]["ports"]).cloned(), "port", remote)?;
    if service["spec"]["clusterIP"] == "None" {
        return Ok(number);
    }
    match &found["targetPort"] {
        Value::String(target) => pod_port(pod, target),
        target => Ok(as_port(target).filter(|target| *target != 0).unwrap_or(number)),
    }
}

/// The addresses to listen on, each with whether another may fail in its stead.
fn addresses(texts: &[String]) -> Result<Vec<(IpAddr, bool)>> {
    let mut all: Vec<(IpAddr, bool)> = Vec::new();
    for text in texts {
        let more = match text.as_str() {
            "localhost" => {
                vec![(IpAddr::V4(Ipv4Addr::LOCALHOST), true), (IpAddr::V6(Ipv6Addr::LOCALHOST), true)]
            }
            text => {
                vec![(text.parse().map_err(|_| Error::message(format!("{text} is not a valid IP")))?, false)]
            }
        };
        for one in more {
            if !all.iter().any(|(address, _)| *address == one.0) {
                all.push(one);
            }
        }
    }
    Ok(all)
}

/// Listens and forwards until a connection says that the session is over.
async fn serve(connection: &Connection, addresses: &[(IpAddr, bool)], forwards: &[Forward]) -> Result<()> {
    let mut listeners = Vec::new();
    for forward in forwards {
        match listen(*forward, addresses).await {
            Ok(more) => listeners.extend(more),
            Err(errors) => tell(&format!(
                "Unable to listen on port {}: Listeners failed to create with the following errors: [{}]",
                forward.local,
                errors.join(" ")
            )),
        }
    }
    if listeners.is_empty() {
        let all: Vec<String> =
            forwards.iter().map(|one| format!("{{{} {}}}", one.local, one.remote)).collect();
        let message = format!("unable to listen on any of the requested ports: [{}]", all.join(" "));
        return Err(Error::message(message));
    }
    let mut requests = 0_u64;
    let mut accepts: FuturesUnordered<_> = listeners.iter().map(accept).collect();
    let mut open: FuturesUnordered<BoxFuture<'_, Ended>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some((listener, accepted)) = accepts.next() => {
                let (_, forward) = listener;
                match accepted {
                    Ok(stream) => {
                        print_line(&format!("Handling connection for {}", forward.local))?;
                        open.push(Box::pin(handle(connection, stream, *forward, requests)));
                        requests += 1;
                    }
                    Err(error) => tell(&format!("error accepting connection on port {}: {error}", forward.local)),
                }
                accepts.push(accept(listener));
            }
            Some(ended) = open.next(), if !open.is_empty() => {
                if matches!(ended, Ended::Session) {
                    return Err(Error::message("lost connection to pod"));
                }
            }
        }
    }
}

type Listener = (TcpListener, Forward);

async fn accept(listener: &Listener) -> (&Listener, io::Result<TcpStream>) {
    (listener, listener.0.accept().await.map(|(stream, _)| stream))
}

/// Opens a port on every address; of those that stand for localhost one is enough.
async fn listen(
    forward: Forward,
    addresses: &[(IpAddr, bool)],
) -> std::result::Result<Vec<Listener>, Vec<String>> {
    let (mut listeners, mut errors, mut is_fatal) = (Vec::new(), Vec::new(), false);
    let mut forward = forward;
    let mut spared = false;
    for (address, may_fail) in addresses {
        let bound = TcpListener::bind(SocketAddr::new(*address, forward.local)).await;
        match bound.and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((at, listener)) => {
                // The next address gets the same port.
                forward.local = at.port();
                let _ = print_line(&format!("Forwarding from {at} -> {}", forward.remote));
                listeners.push((listener, forward));
                spared |= *may_fail;
            }
            Err(error) => {
                errors.push(format!("unable to create listener: Error listen tcp {address}: {error}"));
                is_fatal |= !may_fail;
            }
        }
    }
    if is_fatal || (!errors.is_empty() && !spared) { Err(errors) } else { Ok(listeners) }
}

/// One connection, which upstream gives two streams: for errors and for data.
async fn handle(connection: &Connection, mut local: TcpStream, forward: Forward, request: u64) -> Ended {
    let Forward { local: from, remote: to } = forward;
    let headers = |kind: &str| {
        let [kind, port, id] = [kind.to_string(), to.to_string(), request.to_string()];
        vec![("streamtype", kind), ("port", port), ("requestid", id)]
    };
    let opened = async {
        let (errors, writer) = connection.open(headers("error")).await?;
        writer.close().await?;
        let data = connection.open(headers("data")).await?;
        Ok::<_, StreamError>((errors, data))
    };
    let (mut errors, (mut reader, writer)) = match opened.await {
        Ok(streams) => streams,
        Err(error) => {
            tell(&format!("error creating forwarding stream for port {from} -> {to}: {error}"));
            return Ended::Connection;
        }
    };
    carry(&mut local, &mut reader, &writer).await;
    // What was not sent is of no use any more, and must not stand in the way of the error.
    let _ = writer.reset().await;
    drop(reader);
    match errors.read_to_end(LARGEST_ERROR).await {
        Ok(text) if text.is_empty() => Ended::Connection,
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            tell(&format!("an error occurred forwarding {from} -> {to}: {text}"));
            Ended::Session
        }
        Err(error) => {
            tell(&format!("error reading from error stream for port {from} -> {to}: {error}"));
            Ended::Session
        }
    }
}

/// Carries bytes until the pod has said everything, or the local end fails.
async fn carry(local: &mut TcpStream, reader: &mut StreamReader, writer: &StreamWriter) {
    let (mut from_local, mut to_local) = local.split();
    let sending = async {
        let mut buffer = BytesMut::with_capacity(PIECE);
        loop {
            buffer.reserve(PIECE);
            match from_local.read_buf(&mut buffer).await {
                Ok(0) => {
                    let _ = writer.close().await;
                    // The pod may go on.
                    std::future::pending::<()>().await;
                }
                Ok(_) => {
                    let piece: Bytes = buffer.split().freeze();
                    if writer.write(piece).await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    };
    let receiving = async {
        while let Ok(Some(bytes)) = reader.next().await {
            if to_local.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to_local.shutdown().await;
    };
    tokio::select! {
        () = sending => {}
        () = receiving => {}
    }
}

#[cfg(test)]
mod tests;
