//! The API through a real client: the conformance suite, etcd's error codes, watches' corners, and `etcdctl`.

use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;

use super::pb::kv_client::KvClient;
use super::pb::lease_client::LeaseClient;
use super::pb::watch_client::WatchClient;
use super::{Options, ServeError, pb, serve};
use crate::types::{self, Leases, Store, StoreError};
use crate::wire::mvccpb;
use crate::{Config, EmbeddedStore, conformance};

struct Server {
    store: Arc<EmbeddedStore>,
    address: String,
    _dir: tempfile::TempDir,
    stop: tokio::sync::oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<Result<(), ServeError>>,
}

#[expect(clippy::disallowed_methods, reason = "a test's own runtime joins it")]
async fn start(tls: Option<Tls>, options: Options) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { min_free_bytes: 0, ..Config::new(dir.path()) };
    let (store, _) = EmbeddedStore::open(config).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async {
        let _ = stopped.await;
    };
    let tls = tls.map(|tls| Arc::new(tls.server_config()));
    let serving = tokio::spawn(serve(Arc::clone(&store), listener, tls, options, stopped));
    Server { store, address, _dir: dir, stop, serving }
}

async fn plain() -> Server {
    start(None, Options::default()).await
}

async fn channel(server: &Server) -> Channel {
    Channel::from_shared(format!("http://{}", server.address)).unwrap().connect().await.unwrap()
}

type Requests = mpsc::Sender<pb::WatchRequest>;

async fn open(
    client: &WatchClient<Channel>,
    create: pb::WatchCreateRequest,
) -> (Requests, tonic::Streaming<pb::WatchResponse>) {
    let (requests, receiver) = mpsc::channel(8);
    requests.send(create_request(create)).await.unwrap();
    let responses = client.clone().watch(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    (requests, responses)
}

fn create_request(create: pb::WatchCreateRequest) -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) }
}

fn put(key: &str, value: impl Into<Bytes>) -> pb::PutRequest {
    pb::PutRequest { key: key.to_string().into(), value: value.into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_api_keeps_the_promises() {
    conformance::run_all(|| async {
        let server = plain().await;
        let channel = channel(&server).await;
        let remote = Remote {
            kv: KvClient::new(channel.clone()),
            watch: WatchClient::new(channel.clone()),
            lease: LeaseClient::new(channel),
            server,
        };
        Arc::new(remote) as Arc<dyn types::Backend>
    })
    .await;
}

#[tokio::test]
async fn protected_keys_are_not_written() {
    let server = plain().await;
    let mut kv = KvClient::new(channel(&server).await);
    for key in ["/registry/", "/registry/pods/a/b"] {
        let refused = kv.put(put(key, "x")).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    kv.put(put("/registr", "x")).await.unwrap();
    kv.put(put("/registry", "x")).await.unwrap();
    let delete = |key: &str, end: &[u8]| pb::DeleteRangeRequest {
        key: key.to_string().into(),
        range_end: Bytes::copy_from_slice(end),
        prev_kv: false,
    };
    for (key, end) in
        [("/registry/a", &b""[..]), ("/", b"\0"), ("/a", b"/z"), ("/registry/a", b"/registry/b")]
    {
        let refused = kv.delete_range(delete(key, end)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{key}");
    }
    kv.delete_range(delete("/a", b"/registry/")).await.unwrap();
    kv.delete_range(delete("/registry0", b"\0")).await.unwrap();
    let op = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put("/registry/x", "x"))) };
    let mut txn = pb::TxnRequest { failure: vec![op], ..Default::default() };
    for _ in 0..3 {
        assert_eq!(kv.txn(txn.clone()).await.unwrap_err().code(), Code::PermissionDenied);
        let op = pb::RequestOp { request: Some(pb::request_op::Request::RequestTxn(txn)) };
        txn = pb::TxnRequest { success: vec![op], ..Default::default() };
    }
}

#[tokio::test]
async fn a_lease_that_holds_protected_keys_is_not_ended() {
    let server = plain().await;
    let mut leases = LeaseClient::new(channel(&server).await);
    let mut ids = Vec::new();
    for key in ["/registry/events/default/e", "/mine"] {
        let id = server.store.grant(0, 600).await.unwrap().id;
        let op = types::Op::Put { key: key.into(), value: "{}".into(), lease: id };
        server.store.txn(types::Txn { success: vec![op], ..types::Txn::default() }).await.unwrap();
        ids.push(id);
    }
    let refused = leases.lease_revoke(pb::LeaseRevokeRequest { id: ids[0] }).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(server.store.lease(ids[0]).unwrap().keys.len(), 1);
    leases.lease_revoke(pb::LeaseRevokeRequest { id: ids[1] }).await.unwrap();
    assert!(server.store.lease(ids[1]).is_none());
}

#[tokio::test]
async fn answers_are_sorted_filtered_and_cut_as_asked() {
    use pb::range_request::{SortOrder, SortTarget};
    let server = plain().await;
    let mut kv = KvClient::new(channel(&server).await);
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2"), ("a", "4")] {
        kv.put(put(key, value)).await.unwrap();
    }
    let mut ask = async |order: SortOrder, target: SortTarget, limit, min_mod_revision| {
        let request = pb::RangeRequest {
            key: "a".into(),
            range_end: "z".into(),
            limit,
            sort_order: order.into(),
            sort_target: target.into(),
            min_mod_revision,
            keys_only: true,
            ..Default::default()
        };
        let answer = kv.range(request).await.unwrap().into_inner();
        let keys: Vec<u8> = answer.kvs.iter().map(|kv| kv.key[0]).collect();
        assert!(answer.kvs.iter().all(|kv| kv.value.is_empty()));
        (String::from_utf8(keys).unwrap(), answer.more, answer.count)
    };
    assert_eq!(ask(SortOrder::Descend, SortTarget::Key, 0, 0).await, ("cba".into(), false, 3));
    assert_eq!(ask(SortOrder::Ascend, SortTarget::Value, 0, 0).await, ("bca".into(), false, 3));
    assert_eq!(ask(SortOrder::Descend, SortTarget::Mod, 2, 0).await, ("ac".into(), true, 3));
    assert_eq!(ask(SortOrder::Descend, SortTarget::Version, 1, 0).await, ("a".into(), true, 3));
    assert_eq!(ask(SortOrder::None, SortTarget::Key, 0, 4).await, ("ac".into(), false, 3));
}

#[tokio::test]
async fn a_put_can_keep_value_or_lease() {
    let server = plain().await;
    let mut kv = KvClient::new(channel(&server).await);
    let keep = pb::PutRequest { ignore_value: true, prev_kv: true, ..put("a", "") };
    assert_eq!(kv.put(keep.clone()).await.unwrap_err().message(), "etcdserver: key not found");
    server.store.grant(9, 100).await.unwrap();
    kv.put(pb::PutRequest { lease: 9, ..put("a", "1") }).await.unwrap();
    kv.put(pb::PutRequest { ignore_lease: true, ..put("a", "2") }).await.unwrap();
    let old = kv.put(keep.clone()).await.unwrap().into_inner().prev_kv.unwrap();
    assert_eq!((old.value.as_ref(), old.lease), (b"2".as_ref(), 9));
    let provided = kv.put(pb::PutRequest { value: "x".into(), ..keep }).await.unwrap_err();
    assert_eq!(provided.message(), "etcdserver: value is provided");
    assert!(server.store.lease(9).unwrap().keys.is_empty());
}

#[tokio::test]
async fn watches_share_a_stream() {
    use pb::watch_request::RequestUnion;
    let server = plain().await;
    let channel = channel(&server).await;
    let mut kv = KvClient::new(channel.clone());
    let watch = WatchClient::new(channel);
    let create = |key: &str| pb::WatchCreateRequest { key: key.to_string().into(), ..Default::default() };
    let (requests, mut responses) = open(&watch, create("a")).await;
    let only_deletes = vec![pb::watch_create_request::FilterType::Noput.into()];
    let second = pb::WatchCreateRequest { watch_id: 7, filters: only_deletes, prev_kv: true, ..create("a") };
    requests.send(create_request(second.clone())).await.unwrap();
    requests.send(create_request(second)).await.unwrap();
    let first = responses.message().await.unwrap().unwrap();
    assert_eq!((first.created, first.watch_id), (true, 0));
    let second = responses.message().await.unwrap().unwrap();
    assert_eq!((second.created, second.watch_id), (true, 7));
    let duplicate = responses.message().await.unwrap().unwrap();
    assert_eq!((duplicate.created, duplicate.canceled, duplicate.watch_id), (true, true, -1));
    kv.put(put("a", "1")).await.unwrap();
    let event = responses.message().await.unwrap().unwrap();
    assert_eq!((event.watch_id, event.events.len()), (0, 1));
    let cancel = RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 0 });
    requests.send(pb::WatchRequest { request_union: Some(cancel) }).await.unwrap();
    let cancelled = responses.message().await.unwrap().unwrap();
    assert_eq!((cancelled.canceled, cancelled.watch_id), (true, 0));
    kv.delete_range(pb::DeleteRangeRequest { key: "a".into(), ..Default::default() }).await.unwrap();
    let event = responses.message().await.unwrap().unwrap();
    let deleted = mvccpb::Event::decode(event.events[0].clone()).unwrap();
    assert_eq!((event.watch_id, deleted.prev_kv.unwrap().value.as_ref()), (7, &b"1"[..]));
    kv.put(put("b", "1")).await.unwrap();
    let progress = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
    requests.send(pb::WatchRequest { request_union: Some(progress) }).await.unwrap();
    let progress = responses.message().await.unwrap().unwrap();
    assert_eq!((progress.watch_id, progress.header.unwrap().revision), (-1, 4));
    server.store.compact(4).await.unwrap();
    let late = pb::WatchCreateRequest { start_revision: 2, ..create("a") };
    requests.send(create_request(late)).await.unwrap();
    assert!(responses.message().await.unwrap().unwrap().created);
    let ended = responses.message().await.unwrap().unwrap();
    assert_eq!((ended.canceled, ended.compact_revision), (true, 4));
}

#[tokio::test]
async fn a_quiet_watch_is_told_of_progress() {
    let options = Options { progress_interval: std::time::Duration::from_millis(20), ..Options::default() };
    let server = start(None, options).await;
    let channel = channel(&server).await;
    KvClient::new(channel.clone()).put(put("other", "1")).await.unwrap();
    let create = pb::WatchCreateRequest { key: "a".into(), progress_notify: true, ..Default::default() };
    let (_requests, mut responses) = open(&WatchClient::new(channel), create).await;
    assert!(responses.message().await.unwrap().unwrap().created);
    let progress = responses.message().await.unwrap().unwrap();
    assert_eq!((progress.watch_id, progress.events.len(), progress.header.unwrap().revision), (0, 0, 2));
}

#[tokio::test]
async fn garbage_and_giants_disturb_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = plain().await;
    let mut kv = KvClient::new(channel(&server).await);
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let mut socket = tokio::net::TcpStream::connect(&server.address).await.unwrap();
        socket.write_all(garbage).await.unwrap();
        socket.shutdown().await.unwrap();
        // It is hung up on, one way or another.
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest).await;
    }
    let large = kv.put(put("a", vec![0; 1_600_000])).await.unwrap_err();
    assert_eq!((large.code(), large.message()), (Code::InvalidArgument, "etcdserver: request is too large"));
    let giant = kv.put(put("a", vec![0; 5_000_000])).await.unwrap_err();
    assert!(matches!(giant.code(), Code::OutOfRange | Code::ResourceExhausted), "{giant:?}");
    assert_eq!(kv.put(put("", "x")).await.unwrap_err().message(), "etcdserver: key is not provided");
    let many = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put("a", "x"))) };
    let many = kv.txn(pb::TxnRequest { success: vec![many; 129], ..Default::default() }).await.unwrap_err();
    assert_eq!(many.message(), "etcdserver: too many operations in txn request");
    kv.put(put("a", "fine")).await.unwrap();
}

/// One request over HTTP/1.1, and all of the answer.
async fn http(address: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn metrics_and_health_are_where_etcd_has_them() {
    let server = plain().await;
    let channel = channel(&server).await;
    let mut kv = KvClient::new(channel.clone());
    for number in 0..5 {
        kv.put(put("a", number.to_string())).await.unwrap();
    }
    let create = pb::WatchCreateRequest { key: "a".into(), ..Default::default() };
    let (_requests, mut responses) = open(&WatchClient::new(channel), create).await;
    assert!(responses.message().await.unwrap().unwrap().created);
    server.store.checkpoint().await.unwrap();
    let metrics = http(&server.address, "/metrics").await;
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.split(' ').next() == Some(name));
        line.unwrap_or_else(|| panic!("{name} is missing: {metrics}"))
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    };
    assert_eq!(value("etcd_debugging_mvcc_current_revision"), 6.0);
    assert_eq!(value("etcd_mvcc_put_total"), 5.0);
    assert_eq!(value("etcd_debugging_mvcc_watcher_total"), 1.0);
    assert_eq!(value("etcd_debugging_mvcc_keys_total"), 1.0);
    assert_eq!(value("etcd_server_has_leader"), 1.0);
    assert!(value("etcd_disk_wal_fsync_duration_seconds_count") >= 5.0);
    assert!(value("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"}") >= 5.0);
    assert!(value("etcd_disk_backend_commit_duration_seconds_count") >= 1.0);
    assert!(value("etcd_mvcc_db_total_size_in_bytes") >= value("etcd_mvcc_db_total_size_in_use_in_bytes"));
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(http(&server.address, "/health").await.ends_with(r#"{"health":"true","reason":""}"#));
    assert!(http(&server.address, "/version").await.contains(r#""etcdserver":"3.6.0""#));
    assert!(http(&server.address, "/nothing").await.starts_with("HTTP/1.1 404"));
}

/// A short form of the fuzz targets: requests and segments with a few bytes changed.
#[test]
fn changed_bytes_are_an_error_or_another_request() {
    let op = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put("key", "value"))) };
    let compare = pb::Compare {
        key: "key".into(),
        target_union: Some(pb::compare::TargetUnion::Value("value".into())),
        ..Default::default()
    };
    let request = pb::TxnRequest { compare: vec![compare; 3], success: vec![op; 3], failure: Vec::new() };
    let request = request.encode_to_vec();
    let txn = super::transaction(&pb::TxnRequest::decode(request.as_slice()).unwrap()).unwrap();
    let mut segment = Vec::new();
    for index in 1..4 {
        let request = crate::log::record::Request::Txn(txn.clone());
        crate::log::frame::encode(
            &crate::log::record::Record { term: 1, index, time: 0, request },
            index - 1,
            &mut segment,
        );
    }
    let etcd = |request: &[u8]| crate::fuzzing::etcd(&[&[0], request].concat());
    etcd(&request);
    crate::fuzzing::log(&segment);
    for position in 0..segment.len() {
        for change in [1u8, 0x80, 0xff] {
            let mut changed = segment.clone();
            changed[position] ^= change;
            crate::fuzzing::log(&changed);
            crate::fuzzing::log(&changed[crate::log::frame::HEADER..]);
            if let Some(byte) = changed.get(position..).and(request.get(position)) {
                let mut changed = request.clone();
                changed[position] = byte ^ change;
                etcd(&changed);
            }
        }
    }
}

/// Certificates of a CA of their own: for the server and for a client.
struct Certificates {
    ca: String,
    server: (String, String),
    client: (String, String),
}

fn certificates() -> Certificates {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test CA");
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let leaf = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_string(), "127.0.0.1".to_string()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    Certificates { ca: ca.pem(), server: leaf("localhost"), client: leaf("client") }
}

mod compared;
mod etcdctl;
mod remote;
mod tls;
mod wire;

use remote::Remote;
use tls::Tls;
