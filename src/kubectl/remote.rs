//! A session with a command in a container: v5 of the remote command protocol on a WebSocket, from the
//! client's end.
//!
//! Sending and receiving go on beside each other, so that a command which writes while it is fed never waits
//! for itself. Absent: SPDY towards servers older than 1.30.

use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use client::ByteStream;
use client::https::Switch;
use client::streams::websocket::{self, Message, WebSocket};
use client::streams::{Channel, REMOTE_COMMAND_V5};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, Request};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::env::{Env, tell};
use crate::error::{Error, Result};
use crate::terminal::{self, Size};

type Socket = WebSocket<Box<dyn ByteStream>>;

/// Upstream's heartbeat, and how long nothing may be heard.
const HEARTBEAT: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(60);
const PIECE: usize = 32 * 1024;

/// What a session takes and where its output goes.
pub(crate) struct Session<'a> {
    pub(crate) input: Option<Box<dyn AsyncRead + Unpin + 'a>>,
    pub(crate) output: Output<'a>,
    /// The session has a terminal: these sizes first, then what it is changed to.
    pub(crate) sizes: Option<Vec<Size>>,
    /// Keys that end the session and leave the command running.
    pub(crate) detach_keys: Vec<u8>,
}

/// Where output goes.
pub(crate) enum Output<'a> {
    /// To standard output and standard error.
    Own,
    Nowhere,
    /// Standard output to whoever takes the pieces, whose bytes are counted; standard error is our own.
    Pieces {
        taker: &'a mpsc::Sender<Bytes>,
        count: &'a mut u64,
    },
}

impl Output<'_> {
    async fn write(&mut self, channel: Channel, data: Bytes) -> Result<()> {
        match (self, channel) {
            (Output::Nowhere, _) => Ok(()),
            (Output::Own | Output::Pieces { .. }, Channel::Stderr) => {
                let mut out = std::io::stderr().lock();
                out.write_all(&data)?;
                Ok(out.flush()?)
            }
            (Output::Own, _) => {
                let mut out = std::io::stdout().lock();
                out.write_all(&data)?;
                Ok(out.flush()?)
            }
            (Output::Pieces { taker, count }, _) => {
                **count += data.len() as u64;
                taker
                    .send(data)
                    .await
                    .map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe).into())
            }
        }
    }
}

/// Asks for a WebSocket below the server's URL; gives it with the answer's headers.
pub(crate) async fn connect(
    env: &Env,
    path: &str,
    protocol: &str,
) -> Result<(Box<dyn ByteStream>, HeaderMap)> {
    let request = Request::get(path)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, websocket::new_key())
        .header(SEC_WEBSOCKET_PROTOCOL, protocol)
        .body(Bytes::new())
        .map_err(|error| Error::message(format!("invalid request {path:?}: {error}")))?;
    match env.rest().await?.https().switch(request).await? {
        Switch::Done { headers, stream } => {
            let chosen = headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
            if chosen != Some(protocol) {
                let chosen = chosen.unwrap_or_default();
                return Err(Error::message(format!(
                    "unable to negotiate protocol: client supports [{protocol}], server returned {chosen:?}"
                )));
            }
            Ok((stream, headers))
        }
        Switch::Refused { status, body } => match serde_json::from_slice::<Value>(&body) {
            Ok(value) if value["kind"] == "Status" => {
                Err(client::https::error_from_response(status, &body).into())
            }
            _ => {
                let text = String::from_utf8_lossy(&body);
                Err(Error::message(format!("unable to upgrade connection: {}", text.trim_end())))
            }
        },
    }
}

/// Runs a session to its end. A command's exit code becomes this one's, as with kubectl.
pub(crate) async fn run(env: &Env, path: &str, session: Session<'_>) -> Result<()> {
    match status(env, path, session).await? {
        Some(status) => outcome(&status),
        None => Ok(()),
    }
}

/// Runs a session; gives the status it ended with, or none if it was left.
pub(crate) async fn status(env: &Env, path: &str, session: Session<'_>) -> Result<Option<Value>> {
    let (stream, _) = connect(env, path, REMOTE_COMMAND_V5).await?;
    let (sink, source) = websocket::connected(stream).await.split();
    let Session { input, output, sizes, detach_keys } = session;
    let heard = std::cell::Cell::new(Instant::now());
    let sending = pin!(send(sink, input, sizes, &detach_keys, &heard));
    tokio::select! {
        biased;
        status = receive(source, output, &heard) => status.map(Some),
        left = sending => left.map(|()| None),
    }
}

/// What a status means for the exit code and the last words.
pub(crate) fn outcome(status: &Value) -> Result<()> {
    if status["status"] == "Success" {
        return Ok(());
    }
    if status["reason"] == "NonZeroExitCode" {
        let causes = status["details"]["causes"].as_array().into_iter().flatten();
        let code = causes
            .filter(|cause| cause["reason"] == "ExitCode")
            .find_map(|cause| cause["message"].as_str().and_then(|text| text.parse::<u8>().ok()));
        let Some(code) = code else {
            return Err(Error::message("error stream protocol error: no ExitCode cause given"));
        };
        tell(&format!("command terminated with exit code {code}"));
        return Err(Error::Exit(i32::from(code)));
    }
    Err(Error::message(status["message"].as_str().unwrap_or("error stream protocol error: unknown error")))
}

/// Hands output on until the status comes.
async fn receive(
    mut source: SplitStream<Socket>,
    mut output: Output<'_>,
    heard: &std::cell::Cell<Instant>,
) -> Result<Value> {
    let mut status = Vec::new();
    loop {
        let message = match source.next().await {
            Some(Ok(message)) => message,
            Some(Err(_)) | None => break,
        };
        heard.set(Instant::now());
        let Message::Binary(bytes) = message else { continue };
        let Some(channel) = bytes.first().and_then(|byte| Channel::from_byte(*byte)) else { continue };
        let data = bytes.slice(1..);
        match channel {
            Channel::Stdout | Channel::Stderr => output.write(channel, data).await?,
            Channel::Error => status.extend_from_slice(&data),
            _ => {}
        }
    }
    if status.is_empty() {
        return Err(Error::message("error reading from error stream: unexpected EOF"));
    }
    serde_json::from_slice(&status).map_err(|error| {
        let text = String::from_utf8_lossy(&status);
        Error::message(format!("error stream protocol error: {error} in {text:?}"))
    })
}

fn message(channel: Channel, data: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.put_u8(channel as u8);
    message.put_slice(data);
    Message::Binary(message.freeze())
}

fn resized(size: Size) -> Message {
    message(Channel::Resize, json!({"Width": size.width, "Height": size.height}).to_string().as_bytes())
}

/// Sends input, sizes and heartbeats; returns only when the user leaves or nothing is heard any more.
async fn send(
    mut sink: SplitSink<Socket, Message>,
    mut input: Option<Box<dyn AsyncRead + Unpin + '_>>,
    sizes: Option<Vec<Size>>,
    detach_keys: &[u8],
    heard: &std::cell::Cell<Instant>,
) -> Result<()> {
    let mut changes = match sizes {
        Some(sizes) => {
            for size in sizes {
                let _ = sink.send(resized(size)).await;
            }
            Some(signal(SignalKind::window_change())?)
        }
        None => None,
    };
    let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    let mut buffer = vec![0; PIECE];
    let mut keys = Keys::new(detach_keys);
    loop {
        let next = tokio::select! {
            read = read(&mut input, &mut buffer) => match read? {
                0 => {
                    input = None;
                    Message::binary(vec![Channel::Close as u8, Channel::Stdin as u8])
                }
                length => match keys.pass(&buffer[..length]) {
                    Some(data) => message(Channel::Stdin, &data),
                    None => return Ok(()),
                },
            },
            () = changed(&mut changes) => match terminal::size() {
                Some(size) => resized(size),
                None => continue,
            },
            _ = heartbeat.tick() => {
                if heard.get().elapsed() > SILENCE {
                    return Err(Error::message("the server does not answer any more"));
                }
                Message::Ping(Bytes::new())
            }
        };
        if sink.send(next).await.is_err() {
            // Why is told by what is received.
            std::future::pending::<()>().await;
        }
    }
}

async fn read(
    input: &mut Option<Box<dyn AsyncRead + Unpin + '_>>,
    buffer: &mut [u8],
) -> std::io::Result<usize> {
    match input {
        Some(input) => input.read(buffer).await,
        None => std::future::pending().await,
    }
}

async fn changed(changes: &mut Option<tokio::signal::unix::Signal>) {
    match changes {
        Some(changes) => {
            changes.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Looks for the keys that detach. What may be their beginning is held back until it is clear.
struct Keys<'a> {
    wanted: &'a [u8],
    seen: usize,
}

impl<'a> Keys<'a> {
    fn new(wanted: &'a [u8]) -> Self {
        Keys { wanted, seen: 0 }
    }

    /// What is to be sent on; none once the keys were pressed.
    fn pass(&mut self, input: &[u8]) -> Option<Vec<u8>> {
        let mut passed = Vec::with_capacity(input.len());
        for byte in input {
            if self.wanted.get(self.seen) == Some(byte) {
                self.seen += 1;
                if self.seen == self.wanted.len() {
                    return None;
                }
                continue;
            }
            passed.extend_from_slice(&self.wanted[..self.seen]);
            self.seen = usize::from(self.wanted.first() == Some(byte));
            if self.seen == 0 {
                passed.push(*byte);
            }
        }
        Some(passed)
    }
}

/// `ctrl-p,ctrl-q` as what a terminal sends.
pub(crate) fn detach_keys(text: &str) -> Result<Vec<u8>> {
    let key = |name: &str| match name.strip_prefix("ctrl-").map(str::as_bytes) {
        Some([letter @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')]) => Some(letter & 0x1f),
        Some(_) => None,
        None => match name.as_bytes() {
            [byte] => Some(*byte),
            _ => None,
        },
    };
    let keys = text.split(',').map(|name| {
        key(name)
            .ok_or_else(|| Error::message(format!("could not bind detach keys: Unknown character: '{name}'")))
    });
    keys.collect()
}

#[cfg(test)]
mod tests;
