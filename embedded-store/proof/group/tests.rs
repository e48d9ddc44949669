//! What a single server promises, of three that agree: the conformance suite, linearizability under
//! partitions, power cuts of any of them, and a member that comes back after the log it needs is gone.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;

use super::super::linear::{Call, Operation, explains};
use super::super::{Dice, get, put, rounds, run, runtime};
use super::{Cluster, MEMBERS, Settings, eventually, write};
use crate::conformance;
use crate::group::GroupError;
use crate::log::disk::fake::FakeDisk;
use crate::types::{
    Backend, Compare, CompareOp, CompareTarget, Durability, Leases, Op, Store, StoreError, Txn, WatchRequest,
};
use crate::{EmbeddedStore, OpenError};

/// One that does not want to wait long for a majority that is not there.
fn short_timeout() -> Settings {
    Settings { timeout: Duration::from_secs(2), ..Settings::default() }
}

fn txn(ops: Vec<Op>) -> Txn {
    Txn { success: ops, ..Txn::default() }
}

#[test]
fn three_stores_keep_the_promises() {
    let clusters = Mutex::new(Vec::new());
    let make = || async {
        let cluster = Cluster::new(Settings::default()).await;
        // The suite knows nothing of leaders that change.
        cluster.settle();
        let leader = cluster.leader().await;
        let store = Arc::clone(cluster.store(leader));
        clusters.lock().push(cluster);
        store as Arc<dyn Backend>
    };
    let runtime = runtime();
    runtime.block_on(async {
        conformance::run_all(&make).await;
        conformance::run_local(&make).await;
    });
    let clusters = std::mem::take(&mut *clusters.lock());
    runtime.block_on(async {
        for mut cluster in clusters {
            cluster.agree().await;
            cluster.stop_all().await;
        }
    });
}

#[test]
fn every_member_takes_writes_and_reads_its_own() {
    runtime().block_on(async {
        let mut cluster = Cluster::new(Settings::default()).await;
        let leader = cluster.leader().await;
        let follower = Arc::clone(cluster.store(MEMBERS.into_iter().find(|id| *id != leader).unwrap()));
        cluster.store(leader).grant(5, 60).await.unwrap();
        let written = cluster.write(&txn(vec![put("a", "1")])).await.unwrap();
        // What was acknowledged elsewhere is seen here after a barrier, whatever is on its way.
        follower.read_barrier().await.unwrap();
        assert_eq!((get(&follower, "a").unwrap(), follower.revision()), ("1".into(), written.revision));
        // What is written here is seen here at once, and elsewhere after a barrier.
        for number in 2..20 {
            let own = run(&follower, vec![put("a", number.to_string())]).await.unwrap();
            let seen = get(&follower, "a").unwrap();
            assert_eq!((own.revision, seen), (written.revision + number - 1, number.to_string().into()));
        }
        cluster.store(leader).read_barrier().await.unwrap();
        assert_eq!(get(cluster.store(leader), "a").unwrap(), "19");
        // Many writers through a follower.
        let writes = (0..200).map(|n| {
            let ops = vec![put(&format!("many-{n}"), "x")];
            let follower = &follower;
            async move { run(follower, ops).await.unwrap().revision }
        });
        let revisions: HashSet<u64> = join_all(writes).await.into_iter().collect();
        assert_eq!(revisions.len(), 200, "each has a revision of its own");

        let refusal = StoreError::NotLeader { leader: Some(cluster.identity(leader)) };
        assert_eq!(follower.keep_alive(5), Err(refusal));
        assert_eq!(follower.lease(5).unwrap().remaining_ttl, 60, "how much is left, the leader knows");
        assert_eq!(cluster.store(leader).keep_alive(5), Ok(60));
        assert_eq!(follower.lease_time(5, true).await, Ok(60), "it is asked, whoever is asked");
        // A lease that is granted here is counted down by the leader.
        follower.grant(6, 2).await.unwrap();
        let leased = Op::Put { key: "leased".into(), value: "x".into(), lease: 6 };
        run(&follower, vec![leased]).await.unwrap();
        cluster.eventually("it runs out", || get(&follower, "leased").is_none().then_some(())).await;
        assert_eq!(follower.leases(), [5]);
        cluster.stop_all().await;
    });
}

#[test]
fn a_store_that_is_alone_becomes_a_group_while_it_is_written_to() {
    let runtime = runtime();
    runtime.block_on(async {
        let mut cluster = Cluster::one(Settings::default()).await;
        cluster.stop(1).await;
        for id in MEMBERS {
            cluster.dirs.insert(id, tempfile::tempdir().unwrap());
            cluster.disks.insert(id, FakeDisk::default());
        }
        let store = cluster.alone();
        let progress = Arc::new(AtomicU64::new(0));
        let writer = runtime.spawn(count_up(vec![Arc::clone(&store)], 0, 0..600, Arc::clone(&progress)));
        let reached = |count: u64| {
            let progress = Arc::clone(&progress);
            move || (progress.load(Ordering::Acquire) >= count).then_some(())
        };
        eventually("it is written to", reached(50)).await;
        let group = store.found_group("1", cluster.network.from(1), &cluster.times()).await.unwrap();
        assert!(matches!(
            store.found_group("1", cluster.network.from(1), &cluster.times()).await,
            Err(GroupError::Member)
        ));
        cluster.id = group.identity().cluster;
        cluster.join(1, Arc::clone(&store), group);
        for id in [2, 3] {
            cluster.start(id).await;
            let member = cluster.identity(id);
            cluster.members[&1].group.add(member, &id.to_string()).await.unwrap();
        }
        assert_eq!(writer.await.unwrap(), 600, "no write has failed");
        cluster.agree().await;
        let view = cluster.members[&1].group.view();
        assert_eq!(view.members.iter().filter(|info| info.voter).count(), 3);
        assert_eq!(view.members.iter().filter(|info| info.leads).count(), 1);
        drop(store);
        // It knows after a restart what it is.
        cluster.stop_all().await;
        let alone = EmbeddedStore::open(cluster.config(1));
        assert!(matches!(alone, Err(OpenError::OtherGroup { .. })));
        for id in MEMBERS {
            cluster.start(id).await;
        }
        cluster.write(&txn(vec![put("again", "x")])).await.unwrap();
        cluster.agree().await;
        assert_eq!(number_in(cluster.store(2), "a-0"), 600);
        cluster.stop_all().await;
    });
}

#[test]
fn members_leave_and_hand_over() {
    runtime().block_on(async {
        let mut cluster = Cluster::new(Settings::default()).await;
        let first = cluster.leader().await;
        assert!(cluster.members[&first].group.hand_over().await);
        let second = cluster.leader().await;
        assert_ne!(first, second);
        // Who leads does not take itself out: another one does.
        let own = cluster.identity(second);
        let outcome = cluster.members[&second].group.remove(own).await;
        assert!(matches!(outcome, Err(GroupError::NotLeader { .. })));
        let second = cluster.known_leader().await;
        let follower = MEMBERS.into_iter().find(|id| *id != second).unwrap();
        let removed = cluster.identity(follower);
        let refused = cluster.members[&follower].group.remove(removed).await.unwrap_err();
        assert!(
            matches!(&refused, GroupError::NotLeader { leader: Some((id, at)) }
                if *id == cluster.identity(second) && *at == second.to_string()),
            "{refused:?}"
        );
        let group = Arc::clone(&cluster.members[&second].group);
        group.remove(removed).await.unwrap();
        assert!(matches!(group.remove(removed).await, Err(GroupError::Unknown(_))));
        cluster.stop(follower).await;
        cluster.write(&txn(vec![put("two", "x")])).await.unwrap();
        let other = MEMBERS.into_iter().find(|id| *id != second && *id != follower).unwrap();
        group.remove(cluster.identity(other)).await.unwrap();
        cluster.stop(other).await;
        cluster.write(&txn(vec![put("one", "x")])).await.unwrap();
        assert!(matches!(group.remove(cluster.identity(second)).await, Err(GroupError::LastVoter)));
        drop(group);
        cluster.stop_all().await;
    });
}

#[test]
fn a_minority_acknowledges_nothing() {
    runtime().block_on(async {
        let mut cluster = Cluster::new(short_timeout()).await;
        cluster.write(&txn(vec![put("a", "before")])).await.unwrap();
        let old = cluster.leader().await;
        let alone = Arc::clone(cluster.store(old));
        let mut watch =
            alone.watch(&WatchRequest { key: "a".into(), range_end: None, start_revision: 0 }).unwrap();
        cluster.network.isolate(old);
        let lost = run(&alone, vec![put("a", "lost")]).await.unwrap_err();
        assert_eq!(lost, StoreError::NoQuorum);
        assert!(lost.to_string().starts_with("no quorum"), "{lost}");
        let stale = alone.read_barrier().await.unwrap_err();
        assert!(matches!(stale, StoreError::NoQuorum | StoreError::NotLeader { .. }), "{stale}");
        assert_eq!(get(&alone, "a").unwrap(), "before", "it is not shown either; stale reads go on");
        let others: Vec<_> = MEMBERS.into_iter().filter(|id| *id != old).collect();
        let others: Vec<_> = others.iter().map(|id| Arc::clone(cluster.store(*id))).collect();
        write(&others, &txn(vec![put("a", "after")])).await.unwrap();

        cluster.network.heal();
        eventually("the old leader learns of it", || (get(&alone, "a").unwrap() == "after").then_some(()))
            .await;
        let told = futures::StreamExt::next(&mut watch).await.unwrap().unwrap();
        assert_eq!(told.events[0].new.as_ref().unwrap().value, "after", "what was lost never happened");
        cluster.agree().await;
        cluster.stop_all().await;
    });
}

#[test]
fn a_lazy_write_waits_for_a_sync_and_is_then_as_durable_as_any() {
    runtime().block_on(async {
        let lazy = Duration::from_secs(1);
        let mut cluster = Cluster::new(Settings { lazy, ..Settings::default() }).await;
        cluster.settle();
        let leader = cluster.leader().await;
        let store = Arc::clone(cluster.store(leader));
        run(&store, vec![put("first", "x")]).await.unwrap();
        let syncs = || cluster.disks[&leader].syncs();
        let renew = |number: usize| {
            let success = vec![put(&format!("lease-{}", number % 5), number.to_string())];
            store.txn(Txn { success, durability: Durability::Lazy, ..Txn::default() })
        };
        let before = syncs();
        let began = Instant::now();
        for result in join_all((0..50).map(renew)).await {
            result.unwrap();
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(900), "nobody else wanted a sync: {took:?}");
        let cost = syncs() - before;
        assert!(cost < 10, "{cost} syncs for 50 lazy writes");
        // With a write that is in a hurry they go at once, and before it.
        let (renewed, hurried) = futures::join!(renew(99), run(&store, vec![put("first", "y")]));
        assert!(renewed.unwrap().revision < hurried.unwrap().revision);
        renew(100).await.unwrap();
        for id in MEMBERS {
            cluster.cut_power(id, || false).await;
        }
        for id in MEMBERS {
            cluster.start(id).await;
        }
        cluster.write(&txn(vec![put("second", "x")])).await.unwrap();
        for store in cluster.stores() {
            store.read_barrier().await.unwrap();
            assert_eq!(
                (get(&store, "lease-0").unwrap(), get(&store, "lease-4").unwrap()),
                ("100".into(), "99".into())
            );
        }
        cluster.stop_all().await;
    });
}

#[test]
fn a_lagging_member_is_caught_up_by_a_snapshot() {
    runtime().block_on(async {
        let mut cluster = Cluster::new(Settings { kept: 10, ..Settings::default() }).await;
        cluster.write(&txn(vec![put("a", "1"), put("gone", "x")])).await.unwrap();
        cluster.agree().await;
        let leader = cluster.leader().await;
        let lagging = MEMBERS.into_iter().find(|id| *id != leader).unwrap();
        let store = Arc::clone(cluster.store(lagging));
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        store.observe(Arc::new(move |events, revision| sink.lock().push((events.len(), revision))));
        cluster.network.isolate(lagging);
        let up: Vec<_> =
            MEMBERS.into_iter().filter(|id| *id != lagging).map(|id| Arc::clone(cluster.store(id))).collect();
        cluster.store(leader).grant(9, 600).await.unwrap();
        let all = Op::Delete { key: "gone".into(), range_end: None };
        write(&up, &txn(vec![all])).await.unwrap();
        let mut number = 0;
        // Until the log that it would need is gone.
        let needed = cluster.members[&lagging].group.raft().metrics().borrow().last_log_index;
        while cluster.members[&leader].group.raft().metrics().borrow().purged.map(|id| id.index) <= needed {
            number += 1;
            assert!(number < 5000, "the leader lets go of its log");
            write(&up, &txn(vec![put(&format!("key-{}", number % 30), vec![7; 900])])).await.unwrap();
        }
        assert_eq!(cluster.network.pieces(lagging), 0);
        cluster.network.heal();
        cluster.agree().await;
        assert!(cluster.network.pieces(lagging) > 0, "there was no other way");
        assert_eq!((get(&store, "gone"), store.leases()), (None, vec![9]));
        assert_eq!(told.lock().last().unwrap().1, store.revision(), "who follows it was told");

        // It goes on from there, also after a power cut.
        let last = cluster.write(&txn(vec![put("last", "x")])).await.unwrap().revision;
        cluster.agree().await;
        drop(store);
        cluster.cut_power(lagging, || false).await;
        cluster.start(lagging).await;
        let store = Arc::clone(cluster.store(lagging));
        eventually("it is back", || (store.revision() >= last).then_some(())).await;
        cluster.agree().await;
        cluster.stop_all().await;
    });
}

/// Rounds are repeated up to so many times until they have met what they are about.
const REPEAT: usize = 10;

#[test]
fn power_cuts_lose_nothing_that_was_acknowledged() {
    const WRITERS: usize = 3;
    let runtime = runtime();
    runtime.block_on(async {
        let mut cluster = Cluster::new(Settings { kept: 50, ..short_timeout() }).await;
        let mut dice = Dice(17);
        let mut acknowledged = [0u64; WRITERS];
        let mut interrupted = 0;
        let least = rounds(6, 120);
        for round in 0..least * REPEAT {
            if round >= least && interrupted > 0 {
                break;
            }
            let enough = 40 + dice.roll(60);
            let progress = Arc::new(AtomicU64::new(0));
            let writers = acknowledged.iter().enumerate().map(|(writer, from)| {
                runtime.spawn(count_up(
                    cluster.stores(),
                    writer,
                    *from..*from + enough,
                    Arc::clone(&progress),
                ))
            });
            let writers: Vec<_> = writers.collect();
            // The power of one goes in the middle of it, or of all.
            let moment = dice.roll(2 * enough);
            eventually("they write", || (progress.load(Ordering::Acquire) >= moment).then_some(())).await;
            let victims = match dice.roll(4) {
                0 => MEMBERS.to_vec(),
                one => vec![one],
            };
            for id in &victims {
                cluster.cut_power(*id, || dice.roll(2) == 0).await;
            }
            for (number, last) in acknowledged.iter_mut().zip(join_all(writers).await) {
                let last = last.unwrap();
                interrupted += usize::from(last < *number + enough);
                *number = last;
            }
            for id in victims {
                cluster.start(id).await;
            }
            // Whatever may still be under way comes before this.
            while cluster.write(&txn(vec![put("round", round.to_string())])).await.is_err() {}
            for store in cluster.stores() {
                while store.read_barrier().await.is_err() {}
                for (writer, number) in acknowledged.iter_mut().enumerate() {
                    let [a, b] = ["a", "b"].map(|side| number_in(&store, &format!("{side}-{writer}")));
                    assert_eq!(a, b, "round {round}: a transaction is whole");
                    assert!(a >= *number, "round {round}: {number} was acknowledged, {a} is there");
                    *number = a;
                }
            }
            cluster.agree().await;
        }
        assert!(interrupted > 0, "some of the cuts must have hit a write");
        assert!(acknowledged.iter().all(|number| *number > 0), "{acknowledged:?}");
        cluster.stop_all().await;
    });
}

/// Writes numbers until there is an error: then it may have been done, and the next one could be taken for
/// it. Returns the last one that was acknowledged.
async fn count_up(
    stores: Vec<Arc<EmbeddedStore>>,
    writer: usize,
    numbers: Range<u64>,
    progress: Arc<AtomicU64>,
) -> u64 {
    for number in numbers.clone() {
        let value = format!("{:0300}", number + 1);
        let success = ["a", "b"].map(|side| put(&format!("{side}-{writer}"), value.clone())).to_vec();
        let durability = if number % 4 == 0 { Durability::Lazy } else { Durability::Synced };
        if write(&stores, &Txn { success, durability, ..Txn::default() }).await.is_err() {
            progress.fetch_add(numbers.end, Ordering::AcqRel);
            return number;
        }
        progress.fetch_add(1, Ordering::AcqRel);
    }
    numbers.end
}

fn number_in(store: &EmbeddedStore, key: &str) -> u64 {
    get(store, key).map_or(0, |value| String::from_utf8_lossy(&value).parse().unwrap())
}

/// One operation on the register of a round; `None` if it certainly did nothing.
async fn operate(stores: &[Arc<EmbeddedStore>], key: &str, dice: &mut Dice) -> Option<Call> {
    let store = &stores[usize::try_from(dice.roll(3)).unwrap()];
    let register = |value: u64| put(key, value.to_string());
    let began = Instant::now();
    let (operation, unknown) = match dice.roll(3) {
        0 => {
            store.read_barrier().await.ok()?;
            (Operation::Read { saw: number_in(store, key) }, false)
        }
        1 => {
            let value = 1 + dice.roll(3);
            let durability = if dice.roll(2) == 0 { Durability::Lazy } else { Durability::Synced };
            let txn = Txn { success: vec![register(value)], durability, ..Txn::default() };
            let done = write(stores, &txn).await;
            (Operation::Write { value }, done.is_err())
        }
        _ => {
            let (from, to) = (dice.roll(4), 1 + dice.roll(3));
            let target = CompareTarget::Value(Bytes::from(from.to_string()));
            let compare =
                Compare { key: key.to_string().into(), range_end: None, op: CompareOp::Equal, target };
            let txn = Txn { compares: vec![compare], success: vec![register(to)], ..Txn::default() };
            let done = write(stores, &txn).await.ok().map(|result| result.succeeded);
            (Operation::Swap { from, to, done }, done.is_none())
        }
    };
    Some(Call { operation, began, ended: (!unknown).then(Instant::now) })
}

#[test]
fn histories_under_partitions_are_linearizable() {
    const TASKS: u64 = 4;
    const EACH: usize = 12;
    let runtime = runtime();
    let settings = Settings { timeout: Duration::from_millis(1500), ..Settings::default() };
    let mut cluster = runtime.block_on(Cluster::new(settings));
    let (mut reads, mut unknown) = (0, 0);
    let least = rounds(9, 600);
    for round in 0..least * REPEAT {
        if round >= least && unknown > 0 {
            break;
        }
        let key = format!("register-{round}");
        runtime.block_on(async { while cluster.write(&txn(vec![put(&key, "0")])).await.is_err() {} });
        let progress = Arc::new(AtomicU64::new(0));
        let tasks = (0..TASKS).map(|task| {
            let (stores, key, progress) = (cluster.stores(), key.clone(), Arc::clone(&progress));
            let mut dice = Dice(round as u64 * 100 + task);
            runtime.spawn(async move {
                let mut calls = Vec::new();
                for _ in 0..EACH {
                    calls.extend(operate(&stores, &key, &mut dice).await);
                    progress.fetch_add(1, Ordering::AcqRel);
                }
                calls
            })
        });
        let tasks: Vec<_> = tasks.collect();
        runtime.block_on(disturb(&cluster, round, &progress));
        let calls: Vec<Call> = tasks.into_iter().flat_map(|task| runtime.block_on(task).unwrap()).collect();
        reads += calls.iter().filter(|call| matches!(call.operation, Operation::Read { .. })).count();
        unknown += calls.iter().filter(|call| call.ended.is_none()).count();
        assert!(explains(&calls, 0, 0, &mut HashSet::new()), "round {round}: {calls:#?}");
    }
    assert!(reads > 20, "{reads} reads");
    assert!(unknown > 0, "a partition must have met a write");
    runtime.block_on(async {
        cluster.agree().await;
        cluster.stop_all().await;
    });
}

/// Of three rounds one goes undisturbed, in one the leader is cut off until another one leads, in one
/// somebody is for as long as a few operations take.
async fn disturb(cluster: &Cluster, round: usize, progress: &AtomicU64) {
    let reached = |count: u64| move || (progress.load(Ordering::Acquire) >= count).then_some(());
    match round % 3 {
        0 => return,
        1 => {
            let leader = cluster.leader().await;
            eventually("they have begun", reached(4)).await;
            cluster.network.isolate(leader);
            let others: Vec<_> = cluster.members.iter().filter(|(id, _)| **id != leader).collect();
            eventually("another one leads", || {
                let leads = others.iter().any(|(id, other)| {
                    other.group.raft().metrics().borrow().current_leader == Some(cluster.identity(**id))
                });
                leads.then_some(())
            })
            .await;
        }
        _ => {
            let one = MEMBERS[round / 3 % MEMBERS.len()];
            eventually("they have begun", reached(4)).await;
            cluster.network.isolate(one);
            eventually("some operations end", reached(8)).await;
        }
    }
    cluster.network.heal();
}
