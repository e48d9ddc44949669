//! A real S3-compatible store (`s3s-fs`, which checks signatures) in a cluster's network namespace, with and
//! without TLS, which can break connections on demand.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rcgen::{CertificateParams, KeyPair};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::Network;

pub const ACCESS_KEY: &str = "AKIATEST";
pub const SECRET_KEY: &str = "a-secret-that-nobody-shows";

/// Stopped and removed on drop.
pub struct S3Store {
    folder: TempDir,
    port: u16,
    broken: Arc<AtomicU32>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl S3Store {
    /// Starts one on 127.0.0.1 of the first namespace, with a bucket called `backups`.
    pub fn start(network: &Network, tls: bool) -> Self {
        let folder = tempfile::Builder::new().prefix("mk8s-s3-").tempdir().expect("a temporary directory");
        fs::create_dir_all(folder.path().join("data/backups")).expect("a bucket");
        let acceptor = tls.then(|| acceptor(&folder.path().join("ca.crt")));
        let service = service(&folder.path().join("data"));
        let broken = Arc::new(AtomicU32::new(0));
        let (stop, stopped) = oneshot::channel();
        let listener = network.listen(0, "127.0.0.1:0");
        listener.set_nonblocking(true).expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let breaking = broken.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, service, acceptor, breaking) => {}
                }
            });
        });
        S3Store { folder, port, broken, stop: Some(stop), thread: Some(thread) }
    }

    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The authority of its certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// A file of the bucket.
    pub fn object(&self, key: &str) -> PathBuf {
        self.folder.path().join("data/backups").join(key)
    }

    /// The next so many connections end in the middle of the first request.
    pub fn break_connections(&self, count: u32) {
        self.broken.store(count, Ordering::SeqCst);
    }
}

impl Drop for S3Store {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn service(root: &Path) -> S3Service {
    let mut builder = S3ServiceBuilder::new(FileSystem::new(root).expect("a store"));
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    builder.set_access(Buckets(root.to_path_buf()));
    builder.build()
}

/// `s3s-fs` makes a bucket of any name for who puts something in it; real stores do not.
struct Buckets(PathBuf);

#[async_trait::async_trait]
impl S3Access for Buckets {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        }
        match context.s3_path().get_bucket_name() {
            Some(name) if !self.0.join(name).is_dir() => {
                Err(s3_error!(NoSuchBucket, "The specified bucket does not exist"))
            }
            _ => Ok(()),
        }
    }
}

fn acceptor(ca_file: &Path) -> TlsAcceptor {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_string()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    fs::write(ca_file, certificate.pem()).expect("the certificate's file");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a private key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocols")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(listener: TcpListener, service: S3Service, tls: Option<TlsAcceptor>, broken: Arc<AtomicU32>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let break_it =
            broken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        let (service, tls) = (service.clone(), tls.clone());
        spawn(async move {
            if break_it {
                // Some of the request is taken, then the connection is gone.
                let _ = stream.read(&mut [0; 4096]).await;
                return;
            }
            match tls {
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, service).await;
                    }
                }
                None => serve(stream, service).await,
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, service: S3Service) {
    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// The tasks end with the thread's runtime.
fn spawn(task: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(task);
}
