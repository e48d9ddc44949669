//! Elections over a whole API server: who leads, what ends a term, and that no two write at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::{
    CreateOptions, DeleteOptions, Identity, KindRow, ListOptions, Patch, UpdateOptions, WatchOptions, kinds,
};
use client::events::Recorder;
use client::leader::{self, Election, Term, Times};
use client::{BoxFuture, EventStream, ObjectApi, ObjectList, ObjectRef};
use parking_lot::Mutex;
use serde_json::{Value, json};
use supervisor::{OnExit, Supervisor};
use tokio::time::Instant;

use super::*;
use crate::testing::{Harness, master};

/// The API of a candidate that can be cut off: its calls hang from then on, as they do in a process that was
/// stopped.
struct Line {
    api: Arc<dyn ObjectApi>,
    cut: AtomicBool,
}

impl Line {
    fn through<'a, T: Send + 'a>(&'a self, call: BoxFuture<'a, T>) -> BoxFuture<'a, T> {
        if self.cut.load(Ordering::SeqCst) { Box::pin(std::future::pending()) } else { call }
    }
}

impl ObjectApi for Line {
    fn get<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        self.through(self.api.get(row, at))
    }

    fn list<'a>(
        &'a self,
        row: &'a KindRow,
        namespace: Option<&'a str>,
        options: &'a ListOptions,
    ) -> BoxFuture<'a, Result<ObjectList, ApiError>> {
        self.through(self.api.list(row, namespace, options))
    }

    fn watch<'a>(
        &'a self,
        row: &'a KindRow,
        namespace: Option<&'a str>,
        options: &'a WatchOptions,
    ) -> BoxFuture<'a, Result<EventStream, ApiError>> {
        self.through(self.api.watch(row, namespace, options))
    }

    fn create<'a>(
        &'a self,
        row: &'a KindRow,
        namespace: Option<&'a str>,
        body: Value,
        options: &'a CreateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        self.through(self.api.create(row, namespace, body, options))
    }

    fn create_sub<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        body: Value,
        options: &'a CreateOptions,
    ) -> BoxFuture<'a, Result<Value, ApiError>> {
        self.through(self.api.create_sub(row, at, body, options))
    }

    fn update<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        body: Value,
        options: &'a UpdateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        self.through(self.api.update(row, at, body, options))
    }

    fn patch<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        patch: Patch,
        options: &'a UpdateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        self.through(self.api.patch(row, at, patch, options))
    }

    fn delete<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        options: &'a DeleteOptions,
    ) -> BoxFuture<'a, Result<Option<Arc<Object>>, ApiError>> {
        self.through(self.api.delete(row, at, options))
    }

    fn delete_collection<'a>(
        &'a self,
        row: &'a KindRow,
        namespace: Option<&'a str>,
        list: &'a ListOptions,
        options: &'a DeleteOptions,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        self.through(self.api.delete_collection(row, namespace, list, options))
    }
}

/// What candidates did, in order and with the time since the start.
type Log = Arc<Mutex<Vec<(String, Duration)>>>;

/// A candidate whose loop does nothing but write, five times a second.
struct Candidate {
    line: Arc<Line>,
    supervisor: Supervisor,
    fence: Arc<Mutex<Option<Arc<Fence>>>>,
}

impl Candidate {
    fn stand(harness: &Harness, identity: &'static str, times: Times, log: &Log) -> Candidate {
        let line = Arc::new(Line { api: harness.api.clone(), cut: AtomicBool::new(false) });
        let supervisor = Supervisor::new();
        let stage = supervisor.stage(identity);
        let election = Election {
            api: line.clone(),
            recorder: Recorder::new(harness.api.clone(), &stage, "test", None),
            namespace: "kube-system".into(),
            name: "loop".into(),
            identity: identity.into(),
            times,
        };
        let fence = Arc::new(Mutex::new(None));
        let (server, noted, log) = (harness.server.clone(), fence.clone(), log.clone());
        let began = Instant::now();
        leader::run(election, &stage, move |term: &Term| {
            *noted.lock() = Some(term.fence.clone());
            let api = server.fenced(term.fence.clone()).as_user(master());
            let (log, stopping) = (log.clone(), term.stage.stopping());
            log.lock().push((format!("{identity} begins"), began.elapsed()));
            term.stage.spawn("loop", OnExit::Stop, async move {
                while !stopping.is_cancelled() {
                    let written = write(&*api, identity).await;
                    let what = if written.is_ok() { "writes" } else { "is refused" };
                    log.lock().push((format!("{identity} {what}"), began.elapsed()));
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                log.lock().push((format!("{identity} ends"), began.elapsed()));
            });
        });
        Candidate { line, supervisor, fence }
    }

    fn cut_off(&self) {
        self.line.cut.store(true, Ordering::SeqCst);
    }

    async fn stop(&self) {
        self.supervisor.shutdown(Duration::from_secs(5)).await;
    }
}

async fn write(api: &dyn ObjectApi, who: &str) -> Result<Arc<Object>, ApiError> {
    let body = json!({"metadata": {"generateName": format!("{who}-")}});
    api.create(&kinds::CONFIG_MAP, Some("default"), body, &CreateOptions::default()).await
}

async fn lease(harness: &Harness) -> Value {
    let lease = harness.api.get(&kinds::LEASE, ObjectRef::new(Some("kube-system"), "loop")).await;
    lease.unwrap().tree().unwrap()["spec"].clone()
}

/// Seconds at which this happened first, rounded down.
fn first(log: &Log, what: &str) -> Option<u64> {
    log.lock().iter().find(|(done, _)| done == what).map(|(_, at)| at.as_secs())
}

fn last(log: &Log, what: &str) -> Option<Duration> {
    log.lock().iter().rev().find(|(done, _)| done == what).map(|(_, at)| *at)
}

/// Time passes.
async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_alone_leads_at_once_and_lets_go_when_it_stops() {
    let harness = Harness::start().await;
    let log = Log::default();
    let candidate = Candidate::stand(&harness, "a", Times::default(), &log);
    seconds(7).await;
    assert_eq!(log.lock()[0], ("a begins".to_string(), Duration::ZERO));
    let held = lease(&harness).await;
    assert_eq!(held["holderIdentity"], "a");
    assert_eq!((&held["leaseDurationSeconds"], &held["leaseTransitions"]), (&json!(15), &json!(0)));
    assert!(held["acquireTime"].as_str().unwrap().ends_with('Z') && held["renewTime"].is_string());
    candidate.stop().await;
    let released = lease(&harness).await;
    assert_eq!(released["holderIdentity"], "");
    assert_eq!((&released["leaseDurationSeconds"], &released["leaseTransitions"]), (&json!(1), &json!(0)));
    assert_eq!(log.lock().last().unwrap().0, "a ends", "the loop ended before");
    let next = Candidate::stand(&harness, "b", Times::default(), &log);
    seconds(1).await;
    assert!(log.lock().contains(&("b begins".to_string(), Duration::ZERO)));
    assert_eq!(lease(&harness).await["leaseTransitions"], 1);
    next.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_candidate_takes_over_when_the_first_is_cut_off() {
    let harness = Harness::start().await;
    let log = Log::default();
    let a = Candidate::stand(&harness, "a", Times::default(), &log);
    seconds(1).await;
    let b = Candidate::stand(&harness, "b", Times::default(), &log);
    seconds(60).await;
    assert_eq!(first(&log, "b begins"), None, "while the first renews");
    a.cut_off();
    seconds(30).await;
    assert!(first(&log, "b writes").is_some());
    let (ended, began) = (last(&log, "a ends").unwrap(), last(&log, "b begins").unwrap());
    // The second began to count a second after the first.
    assert!(ended < began + Duration::from_secs(1), "{ended:?} {began:?}");
    assert!((Duration::from_secs(68)..Duration::from_secs(73)).contains(&ended), "{ended:?}");
    assert!((Duration::from_secs(73)..Duration::from_secs(79)).contains(&began), "{began:?}");
    assert_eq!(first(&log, "a is refused"), None, "it stopped in time by itself");
    assert_eq!(lease(&harness).await["holderIdentity"], "b");
    a.line.cut.store(false, Ordering::SeqCst);
    seconds(30).await;
    let begun = log.lock().iter().filter(|(what, _)| what == "a begins").count();
    assert_eq!(begun, 1, "the first is a candidate again, behind the second");
    b.stop().await;
    seconds(4).await;
    let begun = log.lock().iter().filter(|(what, _)| what == "a begins").count();
    assert_eq!(begun, 2, "and follows when that lets go");
    a.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_leader_cannot_write_once_another_leads() {
    let harness = Harness::start().await;
    let log = Log::default();
    // It never notices that it does not renew, as a process that was stopped for a while does not at first.
    let unaware = Times { renew_deadline: Duration::from_secs(100_000), ..Times::default() };
    let a = Candidate::stand(&harness, "a", unaware, &log);
    let b = Candidate::stand(&harness, "b", Times::default(), &log);
    seconds(5).await;
    a.cut_off();
    seconds(30).await;
    let took_over = last(&log, "b begins").unwrap();
    assert!(last(&log, "a writes").unwrap() <= took_over, "nothing of the first came after that");
    let refused = last(&log, "a is refused").unwrap();
    assert!(refused > took_over + Duration::from_secs(5), "it went on trying");
    assert!(last(&log, "b writes").unwrap() > took_over);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_was_killed_takes_its_own_lease_back_at_once() {
    let harness = Harness::start().await;
    let log = Log::default();
    let killed = Candidate::stand(&harness, "a", Times::default(), &log);
    seconds(5).await;
    killed.cut_off();
    let acquired = lease(&harness).await["acquireTime"].clone();
    let again = Log::default();
    let back = Candidate::stand(&harness, "a", Times::default(), &again);
    seconds(1).await;
    assert_eq!(again.lock()[0], ("a begins".to_string(), Duration::ZERO));
    let held = lease(&harness).await;
    assert_eq!((&held["leaseTransitions"], &held["acquireTime"]), (&json!(0), &acquired));
    back.stop().await;
}

/// A fenced API for a term that is over, and one for the term that goes on.
async fn both(harness: &Harness) -> (Arc<dyn ObjectApi>, Arc<dyn ObjectApi>, Candidate) {
    let log = Log::default();
    let candidate = Candidate::stand(harness, "a", Times::default(), &log);
    seconds(1).await;
    let current = candidate.fence.lock().clone().unwrap();
    let past = Fence { transitions: current.transitions - 1, ..(*current).clone() };
    let api = |fence| harness.server.fenced(fence).as_user(master());
    (api(Arc::new(past)), api(current), candidate)
}

#[tokio::test(start_paused = true)]
async fn every_sort_of_write_stands_under_the_fence() {
    let harness = Harness::start().await;
    let (past, current, candidate) = both(&harness).await;
    harness.create(&kinds::NODE, None, json!({"metadata": {"name": "n"}})).await;
    let account = json!({"metadata": {"name": "default"}});
    harness.create(&kinds::SERVICE_ACCOUNT, Some("default"), account).await;
    for name in ["one", "two"] {
        let spec = json!({"containers": [{"name": "c", "image": "x"}]});
        let pod = json!({"metadata": {"name": name}, "spec": spec});
        harness.create(&kinds::POD, Some("default"), pod).await;
        harness.config_map(name).await;
    }
    for (api, works) in [(past, false), (current, true)] {
        let told = |what: &str, outcome: Result<(), ApiError>| match outcome {
            Ok(()) => assert!(works, "{what} works although the term is over"),
            Err(error) => {
                assert!(!works && error.is_conflict(), "{what}: {error}");
                let why = "a does not lead any more (transition -1)";
                assert!(error.message().ends_with(why), "{what}: {error}");
            }
        };
        let at = |name| ObjectRef::new(Some("default"), name);
        let (update, delete) = (UpdateOptions::default(), DeleteOptions::default());
        let create = CreateOptions::default();
        told("create", write(&*api, "w").await.map(drop));
        let data = |value: &str| json!({"metadata": {"name": "one"}, "data": {"k": value}});
        told("update", api.update(&kinds::CONFIG_MAP, at("one"), data("1"), &update).await.map(drop));
        let patch = Patch::merge(data("2"));
        told("patch", api.patch(&kinds::CONFIG_MAP, at("one"), patch, &update).await.map(drop));
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": "one"}, "target": {"kind": "Node", "name": "n"},
        });
        let bound = api.create_sub(&kinds::POD, at("one").sub("binding"), binding, &create);
        told("binding", bound.await.map(drop));
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "two"}});
        let evicted = api.create_sub(&kinds::POD, at("two").sub("eviction"), eviction, &create);
        told("eviction", evicted.await.map(drop));
        told("delete", api.delete(&kinds::CONFIG_MAP, at("two"), &delete).await.map(drop));
        let all = ListOptions::default();
        let deleted = api.delete_collection(&kinds::CONFIG_MAP, Some("default"), &all, &delete).await;
        told("deletion of a collection", deleted);
        let read = api.get(&kinds::NODE, ObjectRef::new(None, "n")).await;
        assert!(read.is_ok(), "reads need no term");
    }
    candidate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fence_does_not_hide_what_is_wrong_with_the_write() {
    let harness = Harness::start().await;
    let (_, current, candidate) = both(&harness).await;
    harness.config_map("one").await;
    let again = json!({"metadata": {"name": "one"}});
    let options = CreateOptions::default();
    let created = current.create(&kinds::CONFIG_MAP, Some("default"), again.clone(), &options).await;
    assert!(created.unwrap_err().is_already_exists());
    let mut old = again;
    old["metadata"]["resourceVersion"] = json!("1");
    let at = ObjectRef::new(Some("default"), "one");
    let update = current.update(&kinds::CONFIG_MAP, at, old, &UpdateOptions::default()).await;
    assert!(update.unwrap_err().message().contains("the object has been modified"));
    candidate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_its_lease_nobody_writes() {
    let harness = Harness::start().await;
    let (_, current, candidate) = both(&harness).await;
    candidate.cut_off();
    let at = ObjectRef::new(Some("kube-system"), "loop");
    harness.api.delete(&kinds::LEASE, at, &DeleteOptions::default()).await.unwrap();
    assert!(write(&*current, "w").await.unwrap_err().is_conflict());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_deleted_is_made_again_and_a_new_term_begins() {
    let harness = Harness::start().await;
    let log = Log::default();
    let at = ObjectRef::new(Some("kube-system"), "loop");
    // Twice, so that the transitions of the second term are not those of a new Lease.
    let first = Candidate::stand(&harness, "a", Times::default(), &log);
    seconds(1).await;
    first.stop().await;
    let candidate = Candidate::stand(&harness, "a", Times::default(), &log);
    seconds(1).await;
    harness.api.delete(&kinds::LEASE, at, &DeleteOptions::default()).await.unwrap();
    seconds(5).await;
    let (ends, begins) = (last(&log, "a ends").unwrap(), last(&log, "a begins").unwrap());
    assert!(ends <= begins, "{ends:?} {begins:?}");
    assert!(last(&log, "a writes").unwrap() > last(&log, "a is refused").unwrap());
    assert_eq!(lease(&harness).await["leaseTransitions"], 0);
    candidate.stop().await;
}

/// Renewals between the look at the Lease and the transaction must not refuse a write of the right term.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn renewals_do_not_refuse_writes() {
    let harness = Harness::start().await;
    let fence =
        Fence { namespace: "kube-system".into(), name: "loop".into(), holder: "a".into(), transitions: 3 };
    let spec = |at: i64| {
        let time = jiff::Timestamp::from_second(at).unwrap().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        json!({"holderIdentity": "a", "leaseTransitions": 3, "renewTime": time})
    };
    let body = move |at| json!({"metadata": {"name": "loop"}, "spec": spec(at)});
    harness.create(&kinds::LEASE, Some("kube-system"), body(0)).await;
    let stage = harness.supervisor.stage("renewals");
    let (api, stopping) = (harness.api.clone(), stage.stopping());
    let renewed = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let count = renewed.clone();
    stage.spawn("renewals", OnExit::Done, async move {
        while !stopping.is_cancelled() {
            let at = ObjectRef::new(Some("kube-system"), "loop");
            let patch = Patch::merge(body(count.fetch_add(1, Ordering::SeqCst) + 1));
            api.patch(&kinds::LEASE, at, patch, &UpdateOptions::default()).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let user = Identity::user("w", [api::identity::GROUP_MASTERS]);
    let api = harness.server.fenced(Arc::new(fence)).as_user(user);
    for number in 0..2000 {
        // A name of its own: with a generated one a refusal would be tried again under another.
        let body = json!({"metadata": {"name": format!("w-{number}")}});
        api.create(&kinds::CONFIG_MAP, Some("default"), body, &CreateOptions::default()).await.unwrap();
    }
    assert!(renewed.load(Ordering::SeqCst) > 100);
    harness.supervisor.shutdown(Duration::from_secs(5)).await;
}
