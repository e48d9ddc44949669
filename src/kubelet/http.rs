//! The kubelet's HTTP service: one hyper service behind two doors, TLS on the node's port and memory for the server
//! that runs in the same process. Both doors are the API server's alone: TLS demands its client certificate.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use supervisor::{OnExit, Stage};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpListener;

use crate::{Config, StartError};

pub(crate) type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

/// Bytes in flight on an in-memory connection, each way.
const DUPLEX: usize = 64 * 1024;

#[derive(Clone)]
pub(crate) struct Service {
    stage: Stage,
}

impl Service {
    pub(crate) fn new(stage: Stage) -> Self {
        Service { stage }
    }

    pub(crate) fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(DUPLEX);
        self.serve(ours);
        theirs
    }

    /// Opens the TLS door and accepts until the stage stops.
    pub(crate) async fn listen(&self, config: &Config) -> Result<u16, StartError> {
        let address = SocketAddr::new(config.bind_address, config.port);
        let failed = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let acceptor = tokio_rustls::TlsAcceptor::from(config.tls.clone());
        let service = self.clone();
        self.stage.spawn_cancellable("kubelet port", OnExit::Stop, async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // Out of file descriptors: those who have some must get a chance to give them back.
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                };
                let (service, acceptor) = (service.clone(), acceptor.clone());
                service.stage.clone().spawn_cancellable("kubelet handshake", OnExit::Done, async move {
                    match acceptor.accept(stream).await {
                        Ok(stream) => service.serve(stream),
                        Err(error) => tracing::debug!(%error, "TLS handshake with the kubelet's port failed"),
                    }
                });
            }
        });
        Ok(port)
    }

    fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let service = self.clone();
        self.stage.spawn_cancellable("kubelet connection", OnExit::Done, async move {
            let handler = hyper::service::service_fn(move |request| {
                let service = service.clone();
                async move { Ok::<_, Infallible>(service.answer(request).await) }
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), handler).await {
                tracing::debug!(%error, "connection to the kubelet ended");
            }
        });
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "ok"),
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }
}

pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
