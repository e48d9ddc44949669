//! The same random requests to a real etcd and to us: the same answers, byte for byte but for who gives them,
//! the same error codes and texts, and at the end the same history to a watch. Needs the package
//! `etcd-server`.

use std::process::{Child, Stdio};
use std::time::Duration;

use prost::Message;
use tonic::{Response, Status};

use super::pb::request_op::Request as Op;
use super::*;
use crate::proof::{Dice, rounds};

/// A real etcd with an empty directory; gone when dropped.
struct Etcd {
    process: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Etcd {
        let dir = tempfile::tempdir().unwrap();
        // Ports that are free now; nothing else on this machine asks for them by number.
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (url, peer) = (format!("http://127.0.0.1:{}", free()), format!("http://127.0.0.1:{}", free()));
        let process = Command::new("etcd")
            .args(["--data-dir", dir.path().to_str().unwrap()])
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd (package etcd-server)");
        Etcd { process, url, _dir: dir }
    }

    /// Once it answers.
    async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(self.url.clone()).unwrap();
        let connected = async {
            loop {
                match endpoint.connect().await {
                    Ok(channel) => return channel,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), connected).await.expect("etcd listens within a minute")
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One server and a client for each of its services.
struct Side {
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    watch: WatchClient<Channel>,
}

impl Side {
    fn new(channel: Channel) -> Side {
        let (kv, lease) = (KvClient::new(channel.clone()), LeaseClient::new(channel.clone()));
        Side { kv, lease, watch: WatchClient::new(channel) }
    }

    /// The answer as text, without who gave it.
    async fn ask(&mut self, request: &Request) -> String {
        match request.clone() {
            Request::Range(request) => show(self.kv.range(request).await, |r| &mut r.header),
            Request::Put(request) => show(self.kv.put(request).await, |r| &mut r.header),
            Request::Delete(request) => show(self.kv.delete_range(request).await, |r| &mut r.header),
            Request::Txn(request) => show(self.kv.txn(request).await, |r| &mut r.header),
            Request::Compact(request) => show(self.kv.compact(request).await, |r| &mut r.header),
            Request::Grant(request) => show(self.lease.lease_grant(request).await, |r| &mut r.header),
            Request::Revoke(request) => show(self.lease.lease_revoke(request).await, |r| &mut r.header),
            Request::Ttl(request) => {
                let answer = self.lease.lease_time_to_live(request).await.map(|mut answer| {
                    let lease = answer.get_mut();
                    lease.keys.sort();
                    // How much of it is left is a matter of moments.
                    lease.ttl = lease.ttl.min(1);
                    answer
                });
                show(answer, |r| &mut r.header)
            }
            Request::Leases => {
                let answer = self.lease.lease_leases(pb::LeaseLeasesRequest {}).await.map(|mut answer| {
                    answer.get_mut().leases.sort_by_key(|lease| lease.id);
                    answer
                });
                show(answer, |r| &mut r.header)
            }
        }
    }

    /// All events from a revision on, up to another.
    async fn history(&self, from: i64, to: i64) -> Vec<mvccpb::Event> {
        let create = pb::WatchCreateRequest {
            key: Bytes::from_static(&[0]),
            range_end: Bytes::from_static(&[0]),
            start_revision: from,
            prev_kv: true,
            ..Default::default()
        };
        let (_requests, mut responses) = open(&self.watch, create).await;
        let mut events: Vec<mvccpb::Event> = Vec::new();
        while events.last().is_none_or(|e| e.kv.as_ref().unwrap().mod_revision < to) {
            let next = tokio::time::timeout(Duration::from_secs(30), responses.message());
            let response = next.await.expect("events within 30 s").unwrap().unwrap();
            assert!(!response.canceled, "{response:?}");
            events.extend(response.events.into_iter().map(|event| mvccpb::Event::decode(event).unwrap()));
        }
        // Within a revision etcd tells of keys in no promised order.
        events.sort_by_key(|event| {
            let kv = event.kv.as_ref().unwrap();
            (kv.mod_revision, kv.key.clone())
        });
        events
    }
}

fn show<R: std::fmt::Debug + Message>(
    answer: Result<Response<R>, Status>,
    header: impl Fn(&mut R) -> &mut Option<pb::ResponseHeader>,
) -> String {
    match answer {
        Ok(answer) => {
            let mut answer = answer.into_inner();
            if let Some(header) = header(&mut answer) {
                *header = pb::ResponseHeader { revision: header.revision, ..Default::default() };
            }
            format!("{answer:?}")
        }
        Err(e) => format!("{:?}: {}", e.code(), e.message()),
    }
}

#[derive(Clone, Debug)]
enum Request {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    Grant(pb::LeaseGrantRequest),
    Revoke(pb::LeaseRevokeRequest),
    Ttl(pb::LeaseTimeToLiveRequest),
    Leases,
}

/// Makes requests; `now` is about where the revision is.
struct Maker {
    dice: Dice,
    now: u64,
}

impl Maker {
    fn one_in(&mut self, sides: u64) -> bool {
        self.dice.roll(sides) == 0
    }

    fn number(&mut self, sides: u64) -> i64 {
        self.dice.roll(sides).cast_signed()
    }

    fn key(&mut self) -> Bytes {
        if self.one_in(60) { Bytes::new() } else { format!("k{}", self.dice.roll(7)).into() }
    }

    fn end(&mut self) -> Bytes {
        match self.dice.roll(6) {
            0..3 => Bytes::new(),
            3 => Bytes::from_static(&[0]),
            4 => "l".into(),
            _ => format!("k{}", self.dice.roll(9)).into(),
        }
    }

    fn lease(&mut self) -> i64 {
        if self.one_in(3) { 1 + self.number(3) } else { 0 }
    }

    fn revision(&mut self) -> i64 {
        match self.dice.roll(8) {
            0..5 => 0,
            5 => (self.now + 1).saturating_sub(self.dice.roll(20)).cast_signed(),
            _ => self.now.cast_signed() + self.number(3),
        }
    }

    /// Sorts that do not exist are not asked for: releases before 3.5 take them.
    fn range(&mut self) -> pb::RangeRequest {
        let mut bound = || if self.one_in(8) { self.now.cast_signed() - self.number(12) } else { 0 };
        let bounds = [bound(), bound(), bound(), bound()];
        pb::RangeRequest {
            key: self.key(),
            range_end: self.end(),
            limit: if self.one_in(3) { self.number(4) - 1 } else { 0 },
            revision: self.revision(),
            sort_order: i32::try_from(self.dice.roll(4)).unwrap() % 3,
            sort_target: i32::try_from(self.dice.roll(5)).unwrap(),
            serializable: self.one_in(2),
            keys_only: self.one_in(4),
            count_only: self.one_in(6),
            min_mod_revision: bounds[0],
            max_mod_revision: bounds[1],
            min_create_revision: bounds[2],
            max_create_revision: bounds[3],
        }
    }

    fn put(&mut self) -> pb::PutRequest {
        let (ignore_value, ignore_lease) = (self.one_in(6), self.one_in(6));
        let wrong = self.one_in(15);
        pb::PutRequest {
            key: self.key(),
            value: if ignore_value && !wrong { Bytes::new() } else { self.value() },
            lease: if ignore_lease && !wrong { 0 } else { self.lease() },
            prev_kv: self.one_in(2),
            ignore_value,
            ignore_lease,
        }
    }

    fn value(&mut self) -> Bytes {
        format!("v{}", self.dice.roll(4)).into()
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        pb::DeleteRangeRequest { key: self.key(), range_end: self.end(), prev_kv: self.one_in(2) }
    }

    fn compare(&mut self) -> pb::Compare {
        use pb::compare::TargetUnion;
        let target = i32::try_from(self.dice.roll(5)).unwrap();
        let union = match target {
            0 => TargetUnion::Version(self.number(4)),
            1 => TargetUnion::CreateRevision(self.now.cast_signed() - self.number(10)),
            2 => TargetUnion::ModRevision(self.now.cast_signed() - self.number(10)),
            3 => TargetUnion::Value(self.value()),
            _ => TargetUnion::Lease(self.lease()),
        };
        let union = if self.one_in(4) && target < 3 { TargetUnion::ModRevision(0) } else { union };
        pb::Compare {
            result: i32::try_from(self.dice.roll(4)).unwrap(),
            target,
            key: self.key(),
            range_end: self.end(),
            target_union: Some(union).filter(|_| target == 3 || !self.one_in(10)),
        }
    }

    fn op(&mut self, depth: u64) -> pb::RequestOp {
        let request = match self.dice.roll(if depth < 3 { 9 } else { 7 }) {
            0..2 => Some(Op::RequestRange(self.range())),
            2..5 => Some(Op::RequestPut(self.put())),
            5..7 => {
                let mut delete = self.delete();
                // etcd does not see that a put conflicts with a deletion of everything from a key on.
                if delete.range_end.as_ref() == [0] {
                    delete.range_end = "l".into();
                }
                Some(Op::RequestDeleteRange(delete))
            }
            _ => Some(Op::RequestTxn(self.txn(depth + 1))),
        };
        pb::RequestOp { request: request.filter(|_| !self.one_in(80)) }
    }

    fn txn(&mut self, depth: u64) -> pb::TxnRequest {
        let mut ops = || (0..self.dice.roll(3)).map(|_| self.op(depth)).collect();
        let (success, failure) = (ops(), ops());
        let compare = (0..self.dice.roll(3)).map(|_| self.compare()).collect();
        pb::TxnRequest { compare, success, failure }
    }

    fn request(&mut self) -> Request {
        match self.dice.roll(40) {
            0..9 => Request::Range(self.range()),
            9..18 => {
                let put = self.put();
                // If a put has two mistakes, etcd names another one here than in a transaction.
                let lease = if put.ignore_value { 0 } else { put.lease };
                Request::Put(pb::PutRequest { lease, ..put })
            }
            18..22 => Request::Delete(self.delete()),
            22..34 => Request::Txn(self.txn(0)),
            34 => {
                let revision = self.now.cast_signed() + 1 - self.number(30);
                Request::Compact(pb::CompactionRequest { revision, physical: self.one_in(2) })
            }
            35 | 36 => {
                let ttl = if self.one_in(9) { 10_000_000_000 } else { 3600 + self.number(10) };
                Request::Grant(pb::LeaseGrantRequest { id: 1 + self.number(3), ttl })
            }
            37 => Request::Revoke(pb::LeaseRevokeRequest { id: 1 + self.number(3) }),
            38 => Request::Ttl(pb::LeaseTimeToLiveRequest { id: 1 + self.number(3), keys: self.one_in(2) }),
            _ => Request::Leases,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_and_we_give_the_same_answers() {
    let etcd = Etcd::start();
    let server = start(None, Options { protected: Vec::new(), ..Options::default() }).await;
    let mut theirs = Side::new(etcd.channel().await);
    let mut ours = Side::new(channel(&server).await);
    let mut maker = Maker { dice: Dice(5), now: 1 };
    let mut told = 0;
    for round in 0..rounds(1500, 30_000) {
        let request = maker.request();
        let (theirs, ours) = (theirs.ask(&request).await, ours.ask(&request).await);
        assert_eq!(ours, theirs, "request {round}, ours on the left: {request:?}");
        told += usize::from(theirs.starts_with("InvalidArgument"));
        maker.now = server.store.revision();
    }
    assert!(told > 10 && maker.now > 200, "requests of all sorts: {told} bad ones, revision {}", maker.now);
    let (from, to) = (server.store.compacted_revision().max(1) + 1, maker.now);
    let put = pb::PutRequest { key: "last".into(), ..Default::default() };
    for side in [&mut ours, &mut theirs] {
        side.kv.put(put.clone()).await.unwrap();
    }
    let (from, to) = (from.cast_signed(), to.cast_signed() + 1);
    assert_eq!(ours.history(from, to).await, theirs.history(from, to).await);
}
