//! Thresholds, order and initial findings, with probes that follow a script.

use std::collections::VecDeque;

use client::BoxFuture;
use serde_json::json;

use super::*;
use crate::runtime::state::ContainerPhase;
use crate::testing::{Journal, pod};
use crate::wake::{Mail, Mailbox};

/// Findings by what is probed (the command's first word); the last one is repeated.
struct ScriptedProber {
    script: Mutex<HashMap<&'static str, VecDeque<char>>>,
    journal: Journal,
}

impl Prober for ScriptedProber {
    fn probe<'a>(
        &'a self,
        probe: &'a Probe,
        _target: &'a Target,
        _timeout: Duration,
    ) -> BoxFuture<'a, Finding> {
        let command = probe.exec.as_ref().and_then(|exec| exec.command.clone()).unwrap_or_default();
        let mut script = self.script.lock();
        let findings = script.get_mut(command[0].as_str()).expect("it is in the script");
        let next = if findings.len() > 1 { findings.pop_front() } else { findings.front().copied() };
        self.journal.note(format!("probe {}", command[0]));
        let finding = match next {
            Some('+') => Finding::Success,
            Some('-') => Finding::Failure("bad".to_string()),
            Some('!') => Finding::Warning("hm".to_string()),
            _ => Finding::Unknown("no answer".to_string()),
        };
        Box::pin(async move { finding })
    }
}

struct Bench {
    manager: ProbeManager,
    mailbox: Arc<Mailbox>,
    journal: Journal,
    began: tokio::time::Instant,
    _supervisor: supervisor::Supervisor,
}

/// A script such as `--+`: a failure, a failure, then successes for ever.
fn bench(script: &[(&'static str, &str)]) -> Bench {
    let supervisor = supervisor::Supervisor::new();
    let journal = Journal::default();
    let script = script.iter().map(|(name, findings)| (*name, findings.chars().collect())).collect();
    let prober = Arc::new(ScriptedProber { script: Mutex::new(script), journal: journal.clone() });
    let wakers = Wakers::default();
    let mailbox = Arc::new(Mailbox::new(Mail::default()));
    mailbox.take_reasons();
    wakers.insert("u", mailbox.clone());
    let events = PodEvents::new(journal.clone());
    let manager = ProbeManager::new(prober, supervisor.stage("test"), wakers, events);
    Bench { manager, mailbox, journal, began: tokio::time::Instant::now(), _supervisor: supervisor }
}

fn probed(probes: serde_json::Value) -> Pod {
    let mut container = json!({"name": "a"});
    container.as_object_mut().unwrap().extend(probes.as_object().unwrap().clone());
    pod(json!({"containers": [container]}))
}

fn running(id: &str) -> PodRuntime {
    let record = ContainerRecord {
        id: id.into(),
        sandbox: "s".into(),
        name: "a".into(),
        phase: ContainerPhase::Running,
        created_at: 1,
        started_at: i64::try_from(Timestamp::now().as_nanosecond()).unwrap(),
        finished_at: 0,
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        image: String::new(),
        image_ref: String::new(),
        restart_count: 0,
        hash: String::new(),
        log_path: String::new(),
        grace: None,
        termination_policy: String::new(),
        termination_file: None,
        user: None,
        resources: None,
    };
    PodRuntime { sandboxes: Vec::new(), containers: vec![record] }
}

fn every_second(command: &str) -> serde_json::Value {
    json!({"exec": {"command": [command]}, "periodSeconds": 1})
}

impl Bench {
    /// Returns half a second after this second.
    async fn second(&self, number: u64) {
        tokio::time::sleep_until(self.began + Duration::from_millis(number * 1000 + 500)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_needs_its_threshold_each_way() {
    let bench = bench(&[("ready", "+--")]);
    let mut probe = every_second("ready");
    probe["failureThreshold"] = json!(2);
    bench.manager.update(&probed(json!({"readinessProbe": probe})), &running("c"), &PodStatus::default());
    let found = || bench.manager.outcome(ProbeKind::Readiness, "c");
    assert_eq!(found(), Some(ProbeOutcome::Failure), "not ready until a probe says so");
    bench.second(0).await;
    assert_eq!(found(), Some(ProbeOutcome::Success));
    assert_eq!(bench.mailbox.take_reasons(), [WakeReason::Probe].into());
    bench.second(1).await;
    assert_eq!(found(), Some(ProbeOutcome::Success), "one failure is not enough");
    bench.second(2).await;
    assert_eq!(found(), Some(ProbeOutcome::Failure));
    assert_eq!(bench.mailbox.take_reasons(), [WakeReason::Probe].into());
    assert_eq!(bench.journal.count("event Unhealthy: Readiness probe failed: bad"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_liveness_probe_ends_with_its_verdict() {
    let bench = bench(&[("live", "+?--?-")]);
    let probe = every_second("live");
    bench.manager.update(&probed(json!({"livenessProbe": probe})), &running("c"), &PodStatus::default());
    let found = || bench.manager.outcome(ProbeKind::Liveness, "c");
    assert_eq!(found(), Some(ProbeOutcome::Success), "alive until a probe says otherwise");
    // Success, unknown, failure, failure, unknown, failure: unknowns count for nothing.
    bench.second(4).await;
    assert_eq!(found(), Some(ProbeOutcome::Success));
    bench.second(5).await;
    assert_eq!(found(), Some(ProbeOutcome::Failure));
    let asked = bench.journal.count("probe live");
    bench.second(15).await;
    assert_eq!(bench.journal.count("probe live"), asked, "the container is about to be restarted");
    assert!(
        bench.journal.has("event Unhealthy: Liveness probe errored and resulted in unknown state: no answer")
    );
}

#[tokio::test(start_paused = true)]
async fn the_others_wait_for_startup() {
    let bench = bench(&[("start", "--+"), ("live", "+"), ("ready", "!")]);
    let probes = json!({
        "startupProbe": every_second("start"),
        "livenessProbe": every_second("live"),
        "readinessProbe": every_second("ready"),
    });
    bench.manager.update(&probed(probes), &running("c"), &PodStatus::default());
    assert_eq!(bench.manager.outcome(ProbeKind::Startup, "c"), None);
    bench.second(1).await;
    assert!(!bench.journal.has("probe live") && !bench.journal.has("probe ready"));
    bench.second(2).await;
    assert_eq!(bench.manager.outcome(ProbeKind::Startup, "c"), Some(ProbeOutcome::Success));
    assert_eq!(bench.journal.count("probe start"), 3, "and it is not asked again");
    assert!(bench.journal.has("probe live"));
    assert_eq!(bench.manager.outcome(ProbeKind::Readiness, "c"), Some(ProbeOutcome::Success));
    assert!(bench.journal.has("event ProbeWarning: Readiness probe warning: hm"));
}

#[tokio::test(start_paused = true)]
async fn what_was_found_before_a_restart_counts() {
    let bench = bench(&[("start", "-"), ("ready", "?")]);
    let pod = probed(json!({"startupProbe": every_second("start"), "readinessProbe": every_second("ready")}));
    let known = json!({"containerStatuses": [{
        "name": "a", "containerID": "containerd://c", "ready": true, "started": true,
        "image": "", "imageID": "", "restartCount": 0,
    }]});
    let known: PodStatus = serde_json::from_value(known).unwrap();
    bench.manager.update(&pod, &running("c"), &known);
    bench.second(3).await;
    assert_eq!(bench.manager.outcome(ProbeKind::Startup, "c"), Some(ProbeOutcome::Success));
    assert_eq!(bench.manager.outcome(ProbeKind::Readiness, "c"), Some(ProbeOutcome::Success));
    assert!(!bench.journal.has("probe start") && bench.journal.has("probe ready"));
    // Another instance of the container is another matter.
    bench.manager.update(&pod, &running("d"), &known);
    assert_eq!(bench.manager.outcome(ProbeKind::Startup, "c"), None);
    assert_eq!(bench.manager.outcome(ProbeKind::Readiness, "d"), Some(ProbeOutcome::Failure));
}

#[tokio::test(start_paused = true)]
async fn probes_wait_their_delay_and_end_with_their_pod() {
    let bench = bench(&[("ready", "+")]);
    let mut probe = every_second("ready");
    probe["initialDelaySeconds"] = json!(5);
    bench.manager.update(&probed(json!({"readinessProbe": probe})), &running("c"), &PodStatus::default());
    bench.second(3).await;
    assert!(!bench.journal.has("probe ready"));
    bench.second(5).await;
    assert!(bench.journal.has("probe ready"));
    bench.manager.remove("u");
    let asked = bench.journal.count("probe ready");
    bench.second(10).await;
    assert_eq!(bench.journal.count("probe ready"), asked);
    assert_eq!(bench.manager.outcome(ProbeKind::Readiness, "c"), None);
}

#[tokio::test(start_paused = true)]
async fn readiness_is_probed_until_the_containers_of_a_pod_have_ended() {
    let bench = bench(&[("ready", "++++-"), ("alive", "+++-"), ("started", "+")]);
    let mut ready = every_second("ready");
    ready["failureThreshold"] = json!(1);
    let probes = json!({
        "readinessProbe": ready, "livenessProbe": every_second("alive"), "startupProbe": every_second("started"),
    });
    bench.manager.update(&probed(probes), &running("c"), &PodStatus::default());
    bench.second(1).await;
    bench.manager.stop_health("u");
    let alive = bench.journal.count("probe alive");
    bench.second(7).await;
    assert_eq!(bench.journal.count("probe alive"), alive);
    let found = |kind| bench.manager.outcome(kind, "c");
    assert_eq!(found(ProbeKind::Readiness), Some(ProbeOutcome::Failure));
    assert_eq!(found(ProbeKind::Liveness), Some(ProbeOutcome::Success));
    assert_eq!(found(ProbeKind::Startup), Some(ProbeOutcome::Success), "it is still one that has started");
    bench.manager.remove("u");
    assert_eq!(found(ProbeKind::Readiness), None);
}
