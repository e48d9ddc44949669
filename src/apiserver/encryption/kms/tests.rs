//! A plugin on a socket, as upstream's protocol has it, with the failures that plugins have.

use std::convert::Infallible;
use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::client::{DecryptResponse, EncryptRequest, EncryptResponse, StatusResponse};
use super::*;

const PLACE: &[u8] = b"/registry/secrets/default/s";

/// What the plugin is told to be.
struct Manner {
    key_id: String,
    healthz: String,
    decrypts: usize,
    encrypts: usize,
}

struct FakePlugin {
    manner: Arc<Mutex<Manner>>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FakePlugin {
    fn start(socket: &Path) -> FakePlugin {
        let manner = Arc::new(Mutex::new(Manner {
            key_id: "kek1".into(),
            healthz: "ok".into(),
            decrypts: 0,
            encrypts: 0,
        }));
        let (told, stop) = (manner.clone(), CancellationToken::new());
        let ends = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                let listener = UnixListener::from_std(listener).unwrap();
                let serving = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        let told = told.clone();
                        let service = service_fn(move |request| answer(request, told.clone()));
                        let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .serve_connection(TokioIo::new(stream), service);
                        // One connection at a time, which is all that the server has.
                        let _ = served.await;
                    }
                };
                tokio::select! {
                    () = ends.cancelled() => {}
                    () = serving => {}
                }
            });
        });
        FakePlugin { manner, stop, thread: Some(thread) }
    }
}

impl Drop for FakePlugin {
    fn drop(&mut self) {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

type Body = StreamBody<futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

/// It "encrypts" by turning the bytes round, and remembers its key in an annotation.
async fn answer(
    request: Request<Incoming>,
    manner: Arc<Mutex<Manner>>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let message = &body[5..];
    let mut manner = manner.lock();
    let turned = |bytes: &[u8]| -> Vec<u8> { bytes.iter().map(|byte| byte ^ 0x55).collect() };
    let answered = match path.rsplit('/').next().unwrap() {
        "Status" => StatusResponse {
            version: "v2".into(),
            healthz: manner.healthz.clone(),
            key_id: manner.key_id.clone(),
        }
        .encode_to_vec(),
        "Encrypt" => {
            manner.encrypts += 1;
            let asked = EncryptRequest::decode(message).unwrap();
            let annotations = [("local.kms.example".to_string(), b"x".to_vec())].into();
            EncryptResponse {
                ciphertext: turned(&asked.plaintext),
                key_id: manner.key_id.clone(),
                annotations,
            }
            .encode_to_vec()
        }
        _ => {
            manner.decrypts += 1;
            let asked = DecryptRequest::decode(message).unwrap();
            assert_eq!(asked.annotations["local.kms.example"], b"x");
            DecryptResponse { plaintext: turned(&asked.ciphertext) }.encode_to_vec()
        }
    };
    let length = u32::try_from(answered.len()).unwrap().to_be_bytes();
    let data = [&[0][..], &length, &answered].concat();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let frames = vec![Ok(Frame::data(data.into())), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(futures::stream::iter(frames));
    Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}

fn start(socket: &Path) -> Kms {
    Kms::start("plugin".into(), socket.into(), Duration::from_secs(5), Arc::default()).unwrap()
}

#[test]
fn a_plugin_is_asked_once_for_each_seed() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("kms.sock");
    let plugin = FakePlugin::start(&socket);
    let kms = start(&socket);
    assert_eq!(kms.ailment(), None);
    let values: Vec<Vec<u8>> = (0..20).map(|_| kms.seal(PLACE, b"plain").unwrap()).collect();
    assert!(values[0].starts_with(b"k8s:enc:kms:v2:plugin:"));
    for value in &values {
        let (plain, stale) = kms.open(PLACE, &value[kms.prefix().len()..]).unwrap();
        assert_eq!((plain.as_slice(), stale), (&b"plain"[..], false));
    }
    assert_eq!(plugin.manner.lock().decrypts, 0, "its own seed is known");

    drop(kms);
    // Another server, or the next start.
    plugin.manner.lock().key_id = "kek2".into();
    let kms = start(&socket);
    for value in &values {
        let (plain, stale) = kms.open(PLACE, &value[kms.prefix().len()..]).unwrap();
        assert_eq!((plain.as_slice(), stale), (&b"plain"[..], true), "the plugin has another key now");
    }
    let manner = plugin.manner.lock();
    assert_eq!((manner.encrypts, manner.decrypts), (2, 1));
}

#[test]
fn what_a_plugin_says_of_itself_is_heeded() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("kms.sock");
    let kms =
        Kms::start("plugin".into(), socket.clone(), Duration::from_millis(200), Arc::default()).unwrap();
    assert!(kms.ailment().is_some(), "nobody is there");
    let refused = kms.seal(PLACE, b"plain").unwrap_err();
    assert!(matches!(refused, KmsError::NoSeed { .. }), "{refused}");
    drop(kms);

    let plugin = FakePlugin::start(&socket);
    plugin.manner.lock().healthz = "out of keys".into();
    let kms = start(&socket);
    assert_eq!(kms.ailment().as_deref(), Some("got unexpected healthz status: out of keys"));
    assert!(kms.seal(PLACE, b"plain").unwrap_err().to_string().ends_with("out of keys"));
    drop(kms);

    plugin.manner.lock().healthz = "ok".into();
    let kms = start(&socket);
    let value = kms.seal(PLACE, b"plain").unwrap();
    // Its life is over when the plugin has not been well for that long.
    kms.shared.current.write().as_mut().unwrap().until = Instant::now() - Duration::from_secs(1);
    assert!(matches!(kms.seal(PLACE, b"plain"), Err(KmsError::Expired { .. })));
    assert!(kms.open(PLACE, &value[kms.prefix().len()..]).is_ok(), "reads go on");
    assert!(matches!(kms.open(PLACE, b"\xff\xff"), Err(KmsError::Object(_))));
    assert_eq!(kms.open(b"/registry/secrets/default/t", &value[kms.prefix().len()..]), Err(KmsError::Wrong));
}
