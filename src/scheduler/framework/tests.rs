//! The whole life of plugins: a scripted one goes through every extension point of a running scheduler.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::{BoxFuture, Informers, ObjectApi};
use parking_lot::Mutex;
use serde_json::{Value, json};
use supervisor::Supervisor;
use tokio::time::Instant;

use super::*;
use crate::testing::cluster::Cluster;
use crate::testing::{node, pod, requests};

mod failures;
mod profiles;
mod volumes;

/// Answers each extension point from a script, with success where it has none, and notes what it is asked.
#[derive(Default)]
struct Scripted {
    name: &'static str,
    answers: Mutex<HashMap<&'static str, Vec<Status>>>,
    calls: Mutex<Vec<String>>,
    waiting: Mutex<Option<Arc<WaitingPods>>>,
    /// Its Permit makes pods wait so long.
    permit_time: Duration,
    has_pre_bind_work: bool,
    /// Its scores are left as they are, out of range.
    wild: bool,
}

/// Written by PreFilter and read by the points that follow.
struct Kept(String);

impl Scripted {
    fn new(name: &'static str) -> Self {
        Scripted {
            name,
            permit_time: Duration::from_secs(10),
            has_pre_bind_work: true,
            ..Scripted::default()
        }
    }

    /// The next time `point` is asked it answers so.
    fn answers(self, point: &'static str, status: Status) -> Self {
        self.answers.lock().entry(point).or_default().push(status);
        self
    }

    fn answer(&self, point: &'static str, about: &str) -> Status {
        self.calls.lock().push(format!("{point} {about}"));
        let mut answers = self.answers.lock();
        match answers.get_mut(point) {
            Some(list) if !list.is_empty() => list.remove(0),
            _ => Status::success(),
        }
    }

    fn called(&self) -> Vec<String> {
        self.calls.lock().clone()
    }

    fn count(&self, point: &str) -> usize {
        self.calls.lock().iter().filter(|call| call.split(' ').next() == Some(point)).count()
    }
}

impl Plugin for Scripted {
    fn name(&self) -> &'static str {
        self.name
    }

    fn register(self: Arc<Self>, points: &mut Points) {
        points.pre_enqueue(self.clone()).pre_filter(self.clone()).filter(self.clone());
        points.post_filter(self.clone()).pre_score(self.clone()).score(self.clone());
        points.reserve(self.clone()).permit(self.clone()).pre_bind(self.clone()).post_bind(self);
    }

    fn events_to_register(&self) -> Vec<EventToRegister> {
        vec![EventToRegister::always(Resource::Node, Actions::ADD)]
    }
}

impl PreEnqueuePlugin for Scripted {
    fn pre_enqueue(&self, pod: &PodInfo) -> Status {
        self.answer("PreEnqueue", &pod.key.1)
    }
}

impl PreFilterPlugin for Scripted {
    fn pre_filter(&self, cycle: &mut Cycle<'_>) -> (PreFilterResult, Status) {
        cycle.state.write(Kept(format!("state of {}", cycle.pod.key.1)));
        (PreFilterResult::default(), self.answer("PreFilter", &cycle.pod.key.1))
    }
}

impl FilterPlugin for Scripted {
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Status {
        match cycle.state.expect::<Kept>() {
            Ok(kept) => assert_eq!(kept.0, format!("state of {}", cycle.pod.key.1)),
            Err(status) => return status,
        }
        self.answer("Filter", &node.name)
    }
}

impl PostFilterPlugin for Scripted {
    fn post_filter(
        &self,
        cycle: &mut Cycle<'_>,
        _: &Profile,
        diagnosis: &Diagnosis,
    ) -> (PostFilterResult, Status) {
        self.answer("PostFilter", &cycle.pod.key.1);
        let status = Status::unschedulable(format!("tried {} nodes.", diagnosis.unschedulable_nodes().len()));
        (PostFilterResult::default(), status)
    }
}

impl PreScorePlugin for Scripted {
    fn pre_score(&self, _: &mut Cycle<'_>, nodes: &[u32]) -> Status {
        self.answer("PreScore", &nodes.len().to_string())
    }
}

impl ScorePlugin for Scripted {
    fn score(&self, _: &Cycle<'_>, node: &NodeInfo) -> Result<i64, Status> {
        let status = self.answer("Score", &node.name);
        // The later name wins, whatever the other plugins find.
        if status.is_success() { Ok(i64::from(node.name == "n2") * 5000) } else { Err(status) }
    }

    fn normalize_score(&self, _: &Cycle<'_>, scores: &mut [i64]) -> Status {
        if !self.wild {
            default_normalize_score(scores, false);
        }
        self.answer("NormalizeScore", "")
    }
}

impl ReservePlugin for Scripted {
    fn reserve(&self, state: &mut CycleState, pod: &PodInfo, node: &str) -> Status {
        assert!(state.read::<Kept>().is_some());
        self.answer("Reserve", &format!("{} {node}", pod.key.1))
    }

    fn unreserve(&self, state: &CycleState, pod: &PodInfo, node: &str) {
        assert!(state.read::<Kept>().is_some());
        self.answer("Unreserve", &format!("{} {node}", pod.key.1));
    }
}

impl PermitPlugin for Scripted {
    fn permit(&self, _: &CycleState, pod: &PodInfo, node: &str) -> (Status, Duration) {
        (self.answer("Permit", &format!("{} {node}", pod.key.1)), self.permit_time)
    }
}

impl PreBindPlugin for Scripted {
    fn pre_bind_pre_flight(&self, _: &CycleState, _: &PodInfo, _: &str) -> Status {
        if self.has_pre_bind_work { Status::success() } else { Status::skip() }
    }

    fn pre_bind<'a>(&'a self, _: &'a CycleState, pod: &'a PodInfo, node: &'a str) -> BoxFuture<'a, Status> {
        Box::pin(async move { self.answer("PreBind", &format!("{} {node}", pod.key.1)) })
    }
}

impl PostBindPlugin for Scripted {
    fn post_bind(&self, _: &CycleState, pod: &PodInfo, node: &str) {
        self.answer("PostBind", &format!("{} {node}", pod.key.1));
    }
}

/// A scheduler whose default profile has the scripted plugins after all others.
struct World {
    cluster: Arc<Cluster>,
    supervisor: Supervisor,
}

impl World {
    fn start(plugins: &[&Arc<Scripted>]) -> World {
        let mut config = Config::default();
        for plugin in plugins {
            let scripted = (*plugin).clone();
            config.add_plugin(plugin.name, move |handle| {
                *scripted.waiting.lock() = Some(handle.waiting.clone());
                scripted.clone()
            });
            config.profiles[0].plugins.push((plugin.name.to_string(), 1));
        }
        Self::with(&config)
    }

    fn with(config: &Config) -> World {
        let (cluster, supervisor) = (Arc::new(Cluster::default()), Supervisor::new());
        let stage = supervisor.stage("scheduler");
        let api: Arc<dyn ObjectApi> = cluster.clone();
        let informers = Informers::new(api.clone(), stage.clone());
        crate::start(config, &api, &informers, &stage).unwrap();
        World { cluster, supervisor }
    }

    async fn end(self) {
        assert!(self.supervisor.failed().now_or_none().await.is_none());
        self.supervisor.shutdown(Duration::from_secs(1)).await;
    }
}

/// What a future has now.
trait NowOrNone: Future + Sized {
    async fn now_or_none(self) -> Option<Self::Output> {
        tokio::time::timeout(Duration::ZERO, self).await.ok()
    }
}

impl<F: Future> NowOrNone for F {}

/// A pod that takes a whole node.
fn large(name: &str) -> Value {
    pod(name, requests("3", "1Gi"))
}

#[tokio::test(start_paused = true)]
async fn a_pod_passes_every_extension_point_in_order() {
    let plugin = Arc::new(Scripted::new("Probe"));
    let world = World::start(&[&plugin]);
    world.cluster.add_node(node("n1", "z"));
    world.cluster.add_node(node("n2", "z"));
    world.cluster.add_pod(large("a"));
    assert_eq!(world.cluster.until_bound("a").await, "n2", "its score outweighs the others");
    world.cluster.until_event("Scheduled", "Successfully assigned ns/a to n2").await;
    let expected = [
        "PreEnqueue a",
        "PreFilter a",
        "Filter n1",
        "Filter n2",
        "PreScore 2",
        "Score n1",
        "Score n2",
        "NormalizeScore ",
        "Reserve a n2",
        "Permit a n2",
        "PreBind a n2",
        "PostBind a n2",
    ];
    let mut called = plugin.called();
    called[2..4].sort();
    called[5..7].sort();
    assert_eq!(called, expected);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_skipped_is_left_out() {
    let plugin = Arc::new(
        Scripted { has_pre_bind_work: false, ..Scripted::new("Probe") }
            .answers("PreFilter", Status::skip())
            .answers("PreScore", Status::skip()),
    );
    let world = World::start(&[&plugin]);
    world.cluster.add_node(node("n1", "z"));
    world.cluster.add_node(node("n2", "z"));
    world.cluster.add_pod(large("a"));
    world.cluster.until_bound("a").await;
    for point in ["Filter", "Score", "NormalizeScore", "PreBind"] {
        assert_eq!(plugin.count(point), 0, "{point}");
    }
    assert!(world.cluster.pod("a")["status"]["nominatedNodeName"].is_null(), "there was nothing to wait for");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn permit_lets_a_pod_wait_until_it_is_allowed() {
    let plugin = Arc::new(Scripted::new("Probe").answers("Permit", Status::wait()));
    let world = World::start(&[&plugin]);
    world.cluster.add_node(node("n1", "z"));
    world.cluster.add_pod(large("a"));
    world.cluster.until("a", |pod| pod["status"]["nominatedNodeName"] == "n1").await;
    // It holds its place, and holds nobody up.
    world.cluster.add_pod(large("b"));
    world.cluster.until("b", |pod| pod["status"]["conditions"][0]["reason"] == "Unschedulable").await;
    world.cluster.add_pod(pod("c", requests("1", "1Gi")));
    assert_eq!(world.cluster.until_bound("c").await, "n1");
    assert_eq!(plugin.count("PreBind"), 1, "c alone");
    let waiting = plugin.waiting.lock().clone().unwrap();
    waiting.get("a").unwrap().allow("Probe");
    assert_eq!(world.cluster.until_bound("a").await, "n1");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn permit_times_out() {
    let plugin = Arc::new(Scripted::new("Probe").answers("Permit", Status::wait()));
    let world = World::start(&[&plugin]);
    world.cluster.add_node(node("n1", "z"));
    let began = Instant::now();
    world.cluster.add_pod(large("a"));
    let told = "0/1 nodes are available: 1 rejected due to timeout after waiting 10s at plugin Probe.";
    assert_eq!(world.cluster.until_told("a", told).await, "Unschedulable");
    assert_eq!((began.elapsed(), plugin.count("Unreserve")), (Duration::from_secs(10), 1));
    assert!(world.cluster.pod("a")["status"]["nominatedNodeName"].is_null());
    assert!(plugin.waiting.lock().clone().unwrap().list().is_empty());
    world.cluster.add_node(node("n2", "z"));
    world.cluster.until_bound("a").await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn permit_rejects_at_once_or_later() {
    let plugin = Arc::new(
        Scripted::new("Probe")
            .answers("Permit", Status::unschedulable("not today"))
            .answers("Permit", Status::wait())
            .answers("Permit", Status::error("lost")),
    );
    let world = World::start(&[&plugin]);
    world.cluster.add_node(node("n1", "z"));
    world.cluster.add_pod(large("a"));
    world.cluster.until_told("a", "0/1 nodes are available: 1 not today.").await;
    world.cluster.add_node(node("n2", "z"));
    world.cluster.until("a", |pod| pod["status"]["nominatedNodeName"].is_string()).await;
    let waiting = plugin.waiting.lock().clone().unwrap();
    assert!(waiting.get("a").unwrap().reject("Probe", "too few of its group"));
    world.cluster.until_told("a", "0/1 nodes are available: 1 too few of its group.").await;
    world.cluster.add_node(node("n3", "z"));
    assert_eq!(
        world.cluster.until_told("a", "running Permit plugin \"Probe\": lost").await,
        "SchedulerError"
    );
    world.cluster.until_bound("a").await;
    assert_eq!((plugin.count("Reserve"), plugin.count("Unreserve")), (4, 3));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_waits_no_more() {
    let plugin = Arc::new(Scripted::new("Probe").answers("Permit", Status::wait()));
    let world = World::start(&[&plugin]);
    world.cluster.add_node(node("n1", "z"));
    world.cluster.add_pod(large("a"));
    world.cluster.until("a", |pod| pod["status"]["nominatedNodeName"] == "n1").await;
    let began = Instant::now();
    world.cluster.remove_pod("a");
    world.cluster.add_pod(large("b"));
    assert_eq!(world.cluster.until_bound("b").await, "n1");
    assert_eq!((began.elapsed(), plugin.count("Unreserve")), (Duration::ZERO, 1));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn pre_enqueue_holds_pods_back_until_an_event_of_its_plugin() {
    let plugin = Arc::new(Scripted::new("Probe").answers("PreEnqueue", Status::unresolvable("not yet")));
    let world = World::start(&[&plugin]);
    world.cluster.add_node(node("n1", "z"));
    world.cluster.add_pod(pod("b", json!({})));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((plugin.count("PreEnqueue"), plugin.count("PreFilter")), (1, 0));
    world.cluster.add_node(node("n2", "z"));
    world.cluster.until_bound("b").await;
    world.end().await;
}
