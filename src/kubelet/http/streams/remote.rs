//! A remote command between a client that speaks v5 on a WebSocket and a runtime that speaks v4 on SPDY.
//!
//! Each channel is a stream. Output is carried as it comes; the status, which has the exit code, follows when
//! all of it has been sent. A client that goes away takes the connection to the runtime with it, so the
//! command reads the end of its input; it is not killed, as with upstream.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use client::streams::Channel;
use client::streams::spdy::{Connection, StreamError, StreamReader, StreamWriter};
use client::streams::websocket::{self, Error, Message, WebSocket, farewell};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;

/// The largest status that is handed on.
const LARGEST_STATUS: usize = 64 * 1024;
/// How long a client may take to accept the status: upstream's limit.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// The streams of a remote command that the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

type Sink<C> = Mutex<SplitSink<WebSocket<C>, Message>>;

/// Why a session is over before its time.
enum Over {
    ClientGone,
    /// The client sent a message that is too large.
    TooLarge,
    Runtime(StreamError),
}

impl From<StreamError> for Over {
    fn from(error: StreamError) -> Self {
        Over::Runtime(error)
    }
}

impl From<Error> for Over {
    fn from(_: Error) -> Self {
        Over::ClientGone
    }
}

/// The streams of a command at the runtime.
struct Streams {
    status: StreamReader,
    stdin: Option<StreamWriter>,
    stdout: Option<StreamReader>,
    stderr: Option<StreamReader>,
    resize: Option<StreamWriter>,
}

pub(super) async fn carry<C, R>(client: WebSocket<C>, runtime: R, wanted: Wanted)
where
    C: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite,
{
    let (connection, driver) = Connection::new(runtime);
    let driving = async {
        if let Err(error) = driver.run().await {
            tracing::debug!(%error, "a stream of the runtime ended");
        }
        // What came before the end is still to be carried.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = session(client, connection, wanted) => {}
        () = driving => {}
    }
}

async fn session<C>(client: WebSocket<C>, connection: Connection, wanted: Wanted)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, mut source) = client.split();
    let sink = Mutex::new(sink);
    let status = match run(&sink, &mut source, &connection, wanted).await {
        Ok(status) => status,
        Err(Over::ClientGone) => return,
        Err(Over::TooLarge) => {
            // The command reads the end of its input while the client hears why.
            drop(connection);
            if let Ok(socket) = sink.into_inner().reunite(source) {
                websocket::refuse_too_large(socket).await;
            }
            return;
        }
        Err(Over::Runtime(error)) => lost(error),
    };
    let last_words = async {
        send(&sink, Channel::Error, &status).await?;
        sink.lock().await.send(farewell()).await
    };
    match tokio::time::timeout(LAST_WORDS, last_words).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a command's status was not taken"),
        Err(_) => tracing::debug!("a command's status was not taken in time"),
    }
}

/// Carries everything; gives the status once the command and its output have ended.
async fn run<C>(
    sink: &Sink<C>,
    source: &mut SplitStream<WebSocket<C>>,
    connection: &Connection,
    wanted: Wanted,
) -> Result<Bytes, Over>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let streams = open(connection, wanted).await?;
    // An empty message tells the client that the connection stands.
    let first = match wanted {
        Wanted { stdout: true, .. } => Channel::Stdout,
        Wanted { stderr: true, .. } => Channel::Stderr,
        _ => Channel::Error,
    };
    send(sink, first, &[]).await?;
    let Streams { mut status, stdin, stdout, stderr, resize } = streams;
    let output = async {
        let (out, err, status) = tokio::join!(
            copy(stdout, Channel::Stdout, sink),
            copy(stderr, Channel::Stderr, sink),
            status.read_to_end(LARGEST_STATUS)
        );
        out?;
        err?;
        let status = status?;
        Ok(if status.is_empty() { success() } else { status.into() })
    };
    tokio::select! {
        status = output => status,
        over = receive(source, stdin, resize) => Err(over),
    }
}

/// In upstream's order.
async fn open(connection: &Connection, wanted: Wanted) -> Result<Streams, StreamError> {
    let one = async |channel: Channel, is_wanted: bool| {
        if !is_wanted {
            return Ok(None);
        }
        connection.open(vec![("streamtype", channel.stream_type().to_string())]).await.map(Some)
    };
    let status = one(Channel::Error, true).await?.ok_or(StreamError::Lost)?.0;
    let stdin = one(Channel::Stdin, wanted.stdin).await?.map(|(_, writer)| writer);
    let stdout = one(Channel::Stdout, wanted.stdout).await?.map(|(reader, _)| reader);
    let stderr = one(Channel::Stderr, wanted.stderr).await?.map(|(reader, _)| reader);
    let resize = one(Channel::Resize, wanted.tty).await?.map(|(_, writer)| writer);
    Ok(Streams { status, stdin, stdout, stderr, resize })
}

async fn copy<C>(stream: Option<StreamReader>, channel: Channel, sink: &Sink<C>) -> Result<(), Over>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let Some(mut stream) = stream else { return Ok(()) };
    loop {
        match stream.next().await {
            Ok(Some(bytes)) => send(sink, channel, &bytes).await?,
            // Runtimes reset what is left of a command's streams once it has ended, or just hang up: the
            // status tells.
            Ok(None) | Err(_) => return Ok(()),
        }
    }
}

async fn send<C>(sink: &Sink<C>, channel: Channel, bytes: &[u8]) -> Result<(), Error>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(channel as u8);
    message.put_slice(bytes);
    sink.lock().await.send(Message::Binary(message.freeze())).await
}

/// Takes the client's messages until it is gone. What is for no open channel is dropped.
async fn receive<C>(
    source: &mut SplitStream<WebSocket<C>>,
    mut stdin: Option<StreamWriter>,
    mut resize: Option<StreamWriter>,
) -> Over
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let message = match source.next().await {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Text(text))) => text.into(),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
            Some(Err(error)) if websocket::is_too_large(&error) => return Over::TooLarge,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Over::ClientGone,
        };
        if let Err(error) = take(message, &mut stdin, &mut resize).await {
            // The status says more than this, if it comes.
            tracing::debug!(%error, "a command takes no input");
            (stdin, resize) = (None, None);
        }
    }
}

async fn take(
    mut message: Bytes,
    stdin: &mut Option<StreamWriter>,
    resize: &mut Option<StreamWriter>,
) -> Result<(), StreamError> {
    let Some(channel) = message.first().and_then(|byte| Channel::from_byte(*byte)) else { return Ok(()) };
    let data = message.split_off(1);
    match channel {
        Channel::Stdin => {
            if let Some(stdin) = stdin {
                stdin.write(data).await?;
            }
        }
        Channel::Resize => {
            if let Some(resize) = resize {
                resize.write(data).await?;
            }
        }
        Channel::Close => {
            let closed = match data.first().and_then(|byte| Channel::from_byte(*byte)) {
                Some(Channel::Stdin) => stdin.take(),
                Some(Channel::Resize) => resize.take(),
                _ => None,
            };
            if let Some(closed) = closed {
                closed.close().await?;
            }
        }
        Channel::Stdout | Channel::Stderr | Channel::Error => {}
    }
    Ok(())
}

fn success() -> Bytes {
    json!({"metadata": {}, "status": "Success"}).to_string().into()
}

fn lost(error: StreamError) -> Bytes {
    let message = format!("Internal error occurred: the container runtime's stream: {error}");
    let status = json!({
        "metadata": {}, "status": "Failure", "message": message, "reason": "InternalError",
        "details": {"causes": [{"message": error.to_string()}]}, "code": 500,
    });
    status.to_string().into()
}
