//! A node of fakes for tests: a runtime that follows a script, a host that writes down what it is asked for,
//! an API that holds pods, and one journal for what reaches any of them, in order.

mod api;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::events::{EventType, Recorder};
use client::{BoxFuture, Informers};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Probe};
use parking_lot::Mutex;
use serde_json::{Value, json};
use supervisor::Supervisor;
use tokio::sync::watch;

pub(crate) use self::api::PodApi;
use crate::events::{EventSink, PodEvents};
use crate::host::recorder::RecordingHost;
use crate::node::NodeAgent;
use crate::node::machine::Machine;
use crate::pods::admit::pressure::Pressure;
use crate::pods::statics::{NodePods, Statics};
use crate::pods::worker::{Worker, WorkerDeps};
use crate::probes::prober::{Finding, Prober, Target};
use crate::runtime::RuntimeHealth;
use crate::runtime::scripted::ScriptedRuntime;
use crate::spec::PodExt;
use crate::wake::{Mail, Mailbox, WakeReason, Wakers};
use crate::{Config, KubeletTuning, SysctlAllowlist};

/// What happened, in order. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub(crate) fn note(&self, line: impl Into<String>) {
        self.0.lock().push(line.into());
    }

    /// All so far; it begins anew.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }

    pub(crate) fn has(&self, line: &str) -> bool {
        self.0.lock().iter().any(|one| one.contains(line))
    }

    pub(crate) fn count(&self, line: &str) -> usize {
        self.0.lock().iter().filter(|one| one.contains(line)).count()
    }
}

impl EventSink for Journal {
    fn event(&self, _regarding: &ObjectReference, _kind: EventType, reason: &str, message: String) {
        self.note(format!("event {reason}: {message}"));
    }
}

/// Finds of every container what the test has set.
pub(crate) struct SwitchedProber(Arc<AtomicBool>);

impl Prober for SwitchedProber {
    fn probe<'a>(&'a self, _: &'a Probe, _: &'a Target, _: Duration) -> BoxFuture<'a, Finding> {
        let well = self.0.load(Ordering::Relaxed);
        Box::pin(async move { if well { Finding::Success } else { Finding::Failure("unwell".to_string()) } })
    }
}

pub(crate) struct TestNode {
    /// Whether probes succeed, as they do at first.
    pub(crate) well: Arc<AtomicBool>,
    pub(crate) journal: Journal,
    pub(crate) runtime: Arc<ScriptedRuntime>,
    pub(crate) host: Arc<RecordingHost>,
    pub(crate) api: Arc<PodApi>,
    pub(crate) agent: NodeAgent,
    pub(crate) deps: Arc<WorkerDeps>,
    /// Its tasks end with it.
    pub(crate) supervisor: Supervisor,
}

fn config() -> Config {
    let (_, node_ip) = watch::channel(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    Config {
        node_name: "n".to_string(),
        node_ip,
        labels: Default::default(),
        taints: Vec::new(),
        provider_id: None,
        instance: String::new(),
        data_dir: "/data".into(),
        log_dir: "/logs".into(),
        images_dir: "/images".into(),
        registries_dir: "/registries".into(),
        storage_dir: "/storage".into(),
        static_pods_dir: None,
        cri_socket: "/socket".into(),
        cgroup_parent: "/kubepods".to_string(),
        tuning: KubeletTuning::default(),
        node_ports: Vec::new(),
        cluster_dns: Vec::new(),
        cluster_domain: "cluster.local".to_string(),
        sysctls: SysctlAllowlist::default(),
        seccomp_default: false,
        sandbox_image: "pause".to_string(),
        network_gate: None,
        more_metrics: None,
        endpoint: None,
        version: "v0".to_string(),
    }
}

impl TestNode {
    pub(crate) fn new() -> Self {
        let supervisor = Supervisor::new();
        let stage = supervisor.stage("test");
        let journal = Journal::default();
        let runtime = Arc::new(ScriptedRuntime::new(journal.clone(), stage.clone()));
        let host = Arc::new(RecordingHost::default());
        let api = Arc::new(PodApi::new(journal.clone()));
        let machine = Machine { cpus: 2, memory: 1 << 30, disk: 1 << 40, ..Machine::default() };
        let node = json!({"metadata": {"name": "n"}});
        let agent = NodeAgent {
            config: Arc::new(config()),
            api: api.clone(),
            stage: stage.clone(),
            runtime: runtime.clone(),
            host: host.clone(),
            recorder: Recorder::new(api.clone(), &stage, "kubelet", None),
            wakers: Wakers::default(),
            allocatable: machine.allocatable(110),
            machine: Arc::new(machine),
            node: watch::Sender::new(Some(Arc::new(serde_json::from_value(node).unwrap()))),
            health: watch::Sender::new(RuntimeHealth::Ready),
            pressure: watch::Sender::new(Pressure::default()),
            is_going_down: watch::Sender::new(false),
        };
        let informers = Informers::new(api.clone(), stage);
        let events = PodEvents::new(journal.clone());
        let pods = NodePods { informer: informers.of(), statics: Statics::default() };
        let well = Arc::new(AtomicBool::new(true));
        let prober = Arc::new(SwitchedProber(well.clone()));
        let deps = crate::worker_deps(&agent, prober, false, &informers, events, pods);
        TestNode { well, journal, runtime, host, api, agent, deps: Arc::new(deps), supervisor }
    }

    /// Its HTTP service.
    pub(crate) fn service(&self, informer: client::Informer<Pod>) -> crate::http::Service {
        let pods = NodePods { informer, statics: Statics::default() };
        crate::service_of(&self.agent, &self.deps, pods)
    }

    /// Puts a pod into the API and gives it a worker.
    pub(crate) fn run(&self, pod: &Pod) -> Arc<Mailbox> {
        self.api.put(pod);
        let mailbox = Arc::new(Mailbox::new(Mail { pod: Some(Arc::new(pod.clone())), ..Mail::default() }));
        self.deps.wakers.insert(pod.uid(), mailbox.clone());
        let worker = Worker::new(self.deps.clone(), pod.uid().to_string(), mailbox.clone());
        let stage = &self.agent.stage;
        stage.spawn_cancellable("pod worker", supervisor::OnExit::Done, worker.run());
        mailbox
    }

    /// Marks the pod as deleted in the API, and tells its worker, as the informer would.
    pub(crate) fn delete(&self, pod: &Pod, mailbox: &Mailbox, grace: i64) {
        let deleted = self.api.change(pod.name(), |tree| {
            tree["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            tree["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        });
        mailbox.update(WakeReason::Pod, |mail| mail.pod = Some(Arc::new(deleted)));
    }

    /// Returns once the journal has such a line. Time passes only while nothing can go on.
    pub(crate) async fn until(&self, line: &str) {
        until(line, || self.journal.has(line), || format!("{:#?}", self.journal.0.lock())).await;
    }

    /// Returns once the pod's worker has ended.
    pub(crate) async fn until_gone(&self, uid: &str) {
        let gone = || self.deps.wakers.get(uid).is_none();
        until("its worker has ended", gone, || format!("{:#?}", self.journal.0.lock())).await;
    }
}

/// Waits for something that others do.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool, seen: impl Fn() -> String) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), waiting).await.is_err() {
        panic!("not seen: {what}; but {}", seen());
    }
}

/// A pod `p` of uid `u` with this specification.
pub(crate) fn pod(spec: Value) -> Pod {
    named_pod("p", "u", spec)
}

pub(crate) fn named_pod(name: &str, uid: &str, spec: Value) -> Pod {
    let metadata = json!({"name": name, "namespace": "ns", "uid": uid, "resourceVersion": "1"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

/// Containers of these names, with images that are there.
pub(crate) fn containers(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"name": name, "image": "image:1"})).collect()
}
