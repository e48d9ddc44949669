//! A server and a client of the `hyper` crate over a gathered stream that counts what reaches it.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::*;

/// Counts writes, and refuses them once told to.
struct Counted {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
    most: usize,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.writes.load(Ordering::Relaxed) >= self.most {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.writes.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

type Client = SendRequest<Empty<Bytes>>;
type Server = tokio::task::JoinHandle<Result<(), Broken>>;

/// A server whose answers are as many bytes as the path says.
#[expect(clippy::disallowed_methods, reason = "the test joins it")]
async fn served(pipe: usize, most: usize) -> (Client, Server, Arc<AtomicUsize>) {
    let (near, far) = duplex(pipe);
    let writes = Arc::new(AtomicUsize::new(0));
    let stream = Gathered::new(Counted { stream: near, writes: writes.clone(), most });
    let service = service_fn(|request: Request<Incoming>| async move {
        let size = request.uri().path()[1..].parse().unwrap();
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(vec![b'x'; size]))))
    });
    let server = tokio::spawn(async move {
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream.clone()), service);
        tokio::pin!(connection);
        drive(connection, &stream).await
    });
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(far)).await.unwrap();
    tokio::spawn(connection);
    (client, server, writes)
}

async fn get(mut client: Client, size: usize) -> Result<usize, hyper::Error> {
    client.ready().await?;
    let request = Request::get(format!("http://server/{size}")).body(Empty::new()).unwrap();
    Ok(client.send_request(request).await?.into_body().collect().await?.to_bytes().len())
}

#[tokio::test]
async fn answers_that_are_ready_together_leave_together() {
    let (client, server, writes) = served(1 << 20, usize::MAX).await;
    assert_eq!(get(client.clone(), 10).await.unwrap(), 10);
    let before = writes.load(Ordering::Relaxed);
    let all = (0..50).map(|_| get(client.clone(), 1000));
    let sizes = futures::future::try_join_all(all).await.unwrap();
    assert_eq!(sizes, vec![1000; 50]);
    let took = writes.load(Ordering::Relaxed) - before;
    assert!(took <= 10, "50 answers took {took} writes");
    drop(client);
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_slow_reader_holds_the_writer_back_and_gets_everything() {
    let (client, server, writes) = served(700, usize::MAX).await;
    let sizes = [3 << 20, 1, 70_000, 0].map(|size| get(client.clone(), size));
    let sizes = futures::future::try_join_all(sizes).await.unwrap();
    assert_eq!(sizes, [3 << 20, 1, 70_000, 0]);
    assert!(writes.load(Ordering::Relaxed) > (3 << 20) / 700, "more was written than the pipe holds");
    drop(client);
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_that_fails_ends_the_connection() {
    let (client, server, _) = served(1 << 20, 1).await;
    let answer = tokio::time::timeout(Duration::from_secs(20), get(client, 1000)).await.unwrap();
    assert!(answer.is_err());
    let ended = tokio::time::timeout(Duration::from_secs(20), server).await.unwrap().unwrap();
    assert!(matches!(ended, Err(Broken::Write(_) | Broken::Http(_))), "{ended:?}");
}

#[tokio::test]
async fn closing_writes_what_is_left() {
    let (near, mut far) = duplex(64);
    let mut stream = Gathered::new(near);
    stream.write_all(b"last words").await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    let mut heard = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut far, &mut heard).await.unwrap();
    assert_eq!(heard, "last words");
}
