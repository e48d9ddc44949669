//! Tests of where a job stands, and of its counts over random histories.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::track::{self, Done, Tracked};
use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn job(spec: Value) -> Job {
    let mut full = json!({
        "parallelism": 2, "completions": 3, "backoffLimit": 6, "completionMode": "NonIndexed",
        "podReplacementPolicy": "TerminatingOrFailed",
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}},
    });
    for (key, value) in spec.as_object().unwrap() {
        full[key] = value.clone();
    }
    let metadata = json!({"name": "pi", "namespace": "ns", "uid": "job"});
    serde_json::from_value(json!({"metadata": metadata, "spec": full})).unwrap()
}

fn pod(name: &str, state: &str) -> Arc<Pod> {
    indexed(name, None, state, 0)
}

/// `leaving` is told to stop while it runs; a `+` in front means that it is counted already.
fn indexed(name: &str, index: Option<u32>, state: &str, failures: u32) -> Arc<Pod> {
    let (state, counted) = state.strip_prefix('+').map_or((state, false), |state| (state, true));
    let (phase, ready) = match state {
        "ready" | "leaving" => ("Running", "True"),
        "pending" => ("Pending", "False"),
        "failed" => ("Failed", "False"),
        "succeeded" => ("Succeeded", "False"),
        other => panic!("{other}"),
    };
    let finalizers: &[&str] = if counted { &[] } else { &[FINALIZER] };
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "finalizers": finalizers, "annotations": {}},
        "status": {"phase": phase, "conditions": [
            {"type": "Ready", "status": ready, "lastTransitionTime": at(0).to_string()}]},
    });
    if let Some(index) = index {
        pod["metadata"]["annotations"][facts::INDEX] = json!(index.to_string());
        pod["metadata"]["annotations"][facts::FAILURES] = json!(failures.to_string());
    }
    if state == "leaving" {
        pod["metadata"]["deletionTimestamp"] = json!(at(0).to_string());
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn seen<T>(job: &Job, pods: &[Arc<Pod>], now: i64, look: impl FnOnce(&JobView<'_>) -> T) -> T {
    let (counted, backoff) = (HashSet::new(), Backoff::default());
    let spec = job.spec.as_ref().unwrap();
    look(&JobView { job, spec, pods, counted: &counted, satisfied: true, backoff: &backoff, now: at(now) })
}

fn word(action: &JobAction) -> String {
    let names = |pods: &[Arc<Pod>]| pods.iter().map(|pod| uid(pod).to_string()).collect::<Vec<_>>().join(" ");
    match action {
        JobAction::Hold => "hold".to_string(),
        JobAction::Nothing => "nothing".to_string(),
        JobAction::Wait(wait) => format!("wait {}", wait.as_secs()),
        JobAction::Stop(pods) => format!("stop {}", names(pods)).trim_end().to_string(),
        JobAction::Remove(pods) => format!("remove {}", names(pods)),
        JobAction::Create(count) => format!("create {count}"),
        JobAction::CreateIndexes(indexes) => format!("create {indexes:?}"),
    }
}

fn action(spec: Value, pods: &[Arc<Pod>], now: i64) -> String {
    let job = job(spec);
    seen(&job, pods, now, |view| word(&standing(view).action))
}

/// The reason why the job is over, if it is.
fn reason(spec: Value, pods: &[Arc<Pod>], now: i64) -> Option<String> {
    let mut job = job(spec);
    job.status = serde_json::from_value(json!({"startTime": at(0).to_string()})).unwrap();
    seen(&job, pods, now, |view| standing(view).finish.and_then(|finish| finish.reason))
}

#[test]
fn as_many_as_remain_run_side_by_side() {
    assert_eq!(action(json!({}), &[], 0), "create 2");
    assert_eq!(action(json!({}), &[pod("a", "ready"), pod("b", "pending")], 0), "nothing");
    let two_done = [pod("a", "succeeded"), pod("b", "succeeded")];
    assert_eq!(action(json!({}), &two_done, 0), "create 1");
    assert_eq!(action(json!({"parallelism": 1}), &[pod("a", "ready"), pod("b", "pending")], 0), "remove b");
    assert_eq!(action(json!({"parallelism": 5000, "completions": 5000}), &[], 0), "create 500");
    // Without a number of completions nothing is made after the first success.
    let queue = json!({"completions": null});
    assert_eq!(action(queue.clone(), &[], 0), "create 2");
    assert_eq!(action(queue, &[pod("a", "succeeded"), pod("b", "ready")], 0), "nothing");
    assert_eq!(action(json!({"suspend": true}), &[pod("a", "ready")], 0), "remove a");
}

#[test]
fn failures_are_replaced_after_a_while() {
    assert_eq!(action(json!({}), &[pod("a", "failed")], 4), "wait 6");
    assert_eq!(action(json!({}), &[pod("a", "failed")], 10), "create 2");
    assert_eq!(action(json!({}), &[pod("a", "leaving"), pod("b", "ready")], 100), "create 1");
    let only_failed = json!({"podReplacementPolicy": "Failed"});
    assert_eq!(action(only_failed, &[pod("a", "leaving"), pod("b", "ready")], 100), "nothing");
}

#[test]
fn indexes_run_once_each() {
    let three = json!({"completionMode": "Indexed", "parallelism": 3});
    assert_eq!(action(three.clone(), &[], 0), "create [0, 1, 2]");
    let pods = [indexed("a", Some(1), "ready", 0), indexed("b", Some(0), "succeeded", 0)];
    assert_eq!(action(three.clone(), &pods, 0), "create [2]");
    // Doubles, indexes that are none any more and pods without one go.
    let pods = [
        indexed("a", Some(1), "ready", 0),
        indexed("b", Some(1), "pending", 0),
        indexed("c", Some(7), "ready", 0),
        pod("d", "ready"),
    ];
    assert_eq!(action(three, &pods, 0), "remove c d b");
}

#[test]
fn indexes_fail_by_themselves() {
    let limit = json!({"completionMode": "Indexed", "parallelism": 3, "backoffLimit": i32::MAX,
        "backoffLimitPerIndex": 1});
    // The first failure of an index is waited for, others go on.
    let pods = [indexed("a", Some(0), "failed", 0), indexed("b", Some(1), "ready", 0)];
    assert_eq!(action(limit.clone(), &pods, 5), "create [2]");
    assert_eq!(action(limit.clone(), &pods, 11), "create [0, 2]");
    let pods = [indexed("a", Some(0), "failed", 1), indexed("b", Some(1), "ready", 0)];
    assert_eq!(action(limit.clone(), &pods, 100), "create [2]");
    let over = |more: &str| {
        let pods = [
            indexed("a", Some(0), "failed", 1),
            indexed("b", Some(1), more, 1),
            indexed("c", Some(2), "succeeded", 0),
        ];
        reason(limit.clone(), &pods, 100)
    };
    assert_eq!(over("ready"), None);
    assert_eq!(over("succeeded").as_deref(), Some("FailedIndexes"));
    let mut strict = limit.clone();
    strict["maxFailedIndexes"] = json!(0);
    let pods = [indexed("a", Some(0), "failed", 1)];
    assert_eq!(reason(strict, &pods, 100).as_deref(), Some("MaxFailedIndexesExceeded"));
}

#[test]
fn jobs_end_for_their_reasons() {
    let failed = [pod("a", "failed"), pod("b", "failed")];
    assert_eq!(reason(json!({"backoffLimit": 1}), &failed, 0).as_deref(), Some("BackoffLimitExceeded"));
    assert_eq!(reason(json!({"backoffLimit": 2}), &failed, 0), None);
    let deadline = json!({"activeDeadlineSeconds": 30});
    assert_eq!(reason(deadline.clone(), &[], 30).as_deref(), Some("DeadlineExceeded"));
    assert_eq!(reason(deadline.clone(), &[], 29), None);
    assert_eq!(reason(json!({"activeDeadlineSeconds": 30, "suspend": true}), &[], 90), None);
    let mut job = job(deadline);
    job.status = serde_json::from_value(json!({"startTime": at(0).to_string()})).unwrap();
    let again = seen(&job, &[], 10, |view| standing(view).again);
    assert_eq!(again, Some(Duration::from_secs(20)));
    let policy = json!({"podFailurePolicy": {"rules": [
        {"action": "FailJob", "onPodConditions": [{"type": "Ready", "status": "False"}]}]}});
    assert_eq!(reason(policy, &failed, 0).as_deref(), Some("PodFailurePolicy"));
    let enough = json!({"completionMode": "Indexed", "successPolicy": {"rules": [{"succeededCount": 1}]}});
    let pods = [indexed("a", Some(1), "succeeded", 0), indexed("b", Some(0), "ready", 0)];
    assert_eq!(reason(enough.clone(), &pods, 0).as_deref(), Some("SuccessPolicy"));
    assert_eq!(action(enough, &pods, 0), "stop b");
}

#[test]
fn restarts_in_place_count_as_failures() {
    let mut pod = (*pod("a", "ready")).clone();
    let container = json!({"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 2});
    pod.status.as_mut().unwrap().container_statuses = serde_json::from_value(json!([container])).unwrap();
    let pods = [Arc::new(pod)];
    let template = json!({"spec": {"restartPolicy": "OnFailure", "containers": []}});
    let limit = |limit: i32| json!({"backoffLimit": limit, "template": template});
    assert_eq!(reason(limit(2), &pods, 0).as_deref(), Some("BackoffLimitExceeded"));
    assert_eq!(reason(limit(0), &pods, 0).as_deref(), Some("BackoffLimitExceeded"));
    assert_eq!(reason(limit(3), &pods, 0), None);
}

fn tracked(job: &Job, pods: &[Arc<Pod>]) -> Tracked {
    seen(job, pods, 100, |view| {
        let standing = standing(view);
        let deleted = match &standing.action {
            JobAction::Stop(pods) => number(pods.len()),
            _ => 0,
        };
        track::track(view, &standing, Done { deleted, managed: true, ..Done::default() })
    })
}

#[test]
fn a_complete_job_is_told_in_steps() {
    let mut job = job(json!({"completions": 1, "parallelism": 1}));
    let pods = [pod("a", "succeeded")];
    let tracked_first = tracked(&job, &pods);
    let kinds = |status: &JobStatus| {
        let conditions = status.conditions.iter().flatten();
        conditions.map(|condition| condition.type_.clone()).collect::<Vec<_>>()
    };
    // Noted, not counted: the finalizer is there still.
    assert_eq!(kinds(&tracked_first.status), ["SuccessCriteriaMet"]);
    assert_eq!(tracked_first.status.succeeded, None);
    assert_eq!(tracked_first.release.len(), 1);
    let mut status = tracked_first.status.clone();
    assert!(!track::finish(&mut status.clone(), tracked_first.finish.as_ref()), "a pod is not counted yet");
    assert!(track::settle(&mut status, &HashSet::new()));
    assert!(track::finish(&mut status, tracked_first.finish.as_ref()));
    assert_eq!((status.succeeded, kinds(&status).len()), (Some(1), 2));
    assert_eq!(kinds(&status)[1], "Complete");
    assert_eq!(status.completion_time, Some(api::time::seconds(at(100))));
    // Interrupted after the first step: the next pass comes to the same.
    job.status = Some(tracked_first.status);
    let again = tracked(&job, &[pod("a", "+succeeded")]);
    assert_eq!((again.status.succeeded, again.release.len()), (Some(1), 0));
    assert_eq!(again.finish.map(|finish| finish.type_), Some("Complete".to_string()));
}

#[test]
fn pods_of_a_failed_job_are_stopped_and_counted() {
    let job = job(json!({"backoffLimit": 0}));
    let tracked = tracked(&job, &[pod("a", "failed"), pod("b", "ready")]);
    let noted = tracked.status.uncounted_terminated_pods.as_ref().unwrap();
    assert_eq!(noted.failed.as_deref().unwrap(), ["a", "b"]);
    assert_eq!((tracked.status.active, tracked.status.terminating), (None, Some(1)));
    let mut status = tracked.status.clone();
    track::settle(&mut status, &HashSet::new());
    assert!(!track::finish(&mut status, tracked.finish.as_ref()), "a pod is still stopping");
    status.terminating = Some(0);
    assert!(track::finish(&mut status, tracked.finish.as_ref()));
    assert_eq!((status.failed, status.completion_time), (Some(2), None));
}

#[test]
fn ignored_failures_are_not_counted() {
    let policy = json!({"podFailurePolicy": {"rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "Ready", "status": "False"}]}]}, "backoffLimit": 0});
    let job = job(policy);
    let tracked = tracked(&job, &[pod("a", "failed")]);
    assert_eq!(tracked.status.uncounted_terminated_pods.unwrap().failed, None);
    assert_eq!((tracked.release.len(), tracked.finish), (1, None));
}

#[test]
fn suspending_stops_the_clock() {
    let mut job = job(json!({"suspend": true}));
    let tracked_first = tracked(&job, &[]);
    assert_eq!(
        (tracked_first.turn, tracked_first.status.start_time.clone()),
        (Some(track::Turn::Suspended), None)
    );
    job.status = Some(tracked_first.status);
    assert_eq!(tracked(&job, &[]).turn, None);
    job.spec.as_mut().unwrap().suspend = Some(false);
    let resumed = tracked(&job, &[]);
    assert_eq!(resumed.turn, Some(track::Turn::Resumed));
    assert_eq!(resumed.status.start_time, Some(api::time::seconds(at(100))));
}

#[test]
fn completed_indexes_are_written_as_intervals() {
    let job = job(json!({"completionMode": "Indexed", "completions": 5, "backoffLimitPerIndex": 0,
        "backoffLimit": i32::MAX}));
    let pods = [
        indexed("a", Some(0), "succeeded", 0),
        indexed("b", Some(2), "succeeded", 0),
        indexed("c", Some(1), "succeeded", 0),
        indexed("d", Some(4), "failed", 0),
    ];
    let status = tracked(&job, &pods).status;
    assert_eq!((status.completed_indexes.as_deref(), status.succeeded), (Some("0-2"), Some(3)));
    assert_eq!(status.failed_indexes.as_deref(), Some("4"));
}

/// A cluster with one job, whose controller sees pods as they were a while ago, and can stop anywhere.
struct World {
    job: Job,
    pods: BTreeMap<String, Arc<Pod>>,
    seen: Vec<Arc<Pod>>,
    counted: HashSet<String>,
    /// What was made and is not seen yet.
    awaited: HashSet<String>,
    backoff: Backoff,
    born: usize,
    clock: i64,
    /// Pods that really ended, by how.
    ended: BTreeMap<String, &'static str>,
    removed: HashSet<String>,
}

impl World {
    fn look(&mut self) {
        self.seen = self.pods.values().cloned().collect();
        self.awaited.retain(|name| !self.pods.contains_key(name) && !self.removed.contains(name));
        self.counted.retain(|uid| self.pods.get(uid).is_some_and(|pod| facts::has_finalizer(pod)));
    }

    fn happen(&mut self, nth: usize, state: &'static str) {
        let running: Vec<String> = self
            .pods
            .values()
            .filter(|pod| !api::pod::is_terminal(pod))
            .map(|pod| uid(pod).to_string())
            .collect();
        let Some(name) = running.get(nth % running.len().max(1)) else { return };
        let old = self.pods[name].clone();
        let mut new = (*indexed(name, facts::index(&old), state, facts::failures(&old).0)).clone();
        new.metadata.deletion_timestamp = old.metadata.deletion_timestamp.clone();
        new.metadata.finalizers = old.metadata.finalizers.clone();
        if state != "ready" && facts::has_finalizer(&old) {
            self.ended.insert(name.clone(), state);
        }
        self.pods.insert(name.clone(), Arc::new(new));
        self.reap();
    }

    /// Pods that are to go and that nothing holds are gone.
    fn reap(&mut self) {
        let gone = |pod: &Arc<Pod>| api::pod::is_terminating(pod) && api::pod::is_terminal(pod);
        let gone = |pod: &Arc<Pod>| gone(pod) && !facts::has_finalizer(pod);
        let names: Vec<String> =
            self.pods.iter().filter(|(_, pod)| gone(pod)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.pods.remove(&name);
            self.removed.insert(name);
        }
    }

    fn edit(&mut self, name: &str, change: impl FnOnce(&mut Pod)) {
        if let Some(pod) = self.pods.get_mut(name) {
            let mut edited = (**pod).clone();
            change(&mut edited);
            *pod = Arc::new(edited);
        }
    }

    /// One pass; `stop` is how far it gets before the controller dies (0: all is done, 1: pods are made, 2:
    /// the status is written, 3: finalizers are removed).
    fn reconcile(&mut self, stop: usize) {
        self.clock += 1000;
        let job = self.job.clone();
        let view = JobView {
            job: &job,
            spec: job.spec.as_ref().unwrap(),
            pods: &self.seen.clone(),
            counted: &self.counted.clone(),
            satisfied: self.awaited.is_empty(),
            backoff: &self.backoff.clone(),
            now: at(self.clock),
        };
        let standing = standing(&view);
        let mut done = Done::default();
        let indexes = match &standing.action {
            JobAction::Hold => Vec::new(),
            JobAction::Nothing | JobAction::Wait(_) => {
                done.managed = true;
                Vec::new()
            }
            JobAction::Stop(pods) | JobAction::Remove(pods) => {
                let counts = matches!(standing.action, JobAction::Stop(_));
                done.managed = !counts;
                for pod in pods {
                    done.deleted += 1;
                    done.deleted_ready += i32::from(api::pod::is_ready(pod));
                    let name = uid(pod).to_string();
                    self.edit(&name, |pod| {
                        pod.metadata.deletion_timestamp = Some(api::time::seconds(at(0)));
                        if !counts {
                            pod.metadata.finalizers = None;
                        }
                    });
                    if !counts {
                        self.ended.remove(&name);
                    }
                }
                Vec::new()
            }
            JobAction::Create(count) => vec![None; *count],
            JobAction::CreateIndexes(indexes) => indexes.iter().copied().map(Some).collect(),
        };
        for index in indexes {
            done.managed = true;
            done.created += 1;
            self.born += 1;
            let name = format!("p{:04}", self.born);
            let failures = index.and_then(|index| standing.replaced.get(&index));
            let failures = failures.map_or(0, |pod| facts::failures(pod).0 + 1);
            self.pods.insert(name.clone(), indexed(&name, index, "pending", failures));
            self.awaited.insert(name);
        }
        self.reap();
        if stop == 1 {
            return self.restart();
        }
        let tracked = track::track(&view, &standing, done);
        self.job.status = Some(tracked.status.clone());
        if stop == 2 {
            return self.restart();
        }
        let mut held = tracked.held;
        for pod in &tracked.release {
            let name = uid(pod).to_string();
            held.remove(&name);
            self.counted.insert(name.clone());
            self.edit(&name, |pod| pod.metadata.finalizers = None);
        }
        self.reap();
        if stop == 3 {
            return self.restart();
        }
        self.backoff = standing.backoff;
        let mut status = tracked.status;
        track::settle(&mut status, &held);
        track::finish(&mut status, tracked.finish.as_ref());
        self.job.status = Some(status);
    }

    /// A new controller remembers nothing and sees what there is.
    fn restart(&mut self) {
        self.awaited.clear();
        self.counted.clear();
        self.backoff = Backoff::default();
        self.look();
    }
}

proptest! {
    /// Pods end as they like, the controller looks at the past, dies half way and comes back: every pod that
    /// ends is counted once, indexes succeed once, the number of pods stays within bounds, and the job ends.
    #[test]
    fn every_pod_counts_once(
        is_indexed in any::<bool>(),
        completions in 1_i32..6,
        parallelism in 1_i32..4,
        events in prop::collection::vec((0_u8..6, 0_usize..5), 1..80),
    ) {
        let mode = if is_indexed { "Indexed" } else { "NonIndexed" };
        let job = job(json!({"completions": completions, "parallelism": parallelism, "completionMode": mode,
            "backoffLimit": 1000}));
        let mut world = World {
            job, pods: BTreeMap::new(), seen: Vec::new(), counted: HashSet::new(), awaited: HashSet::new(),
            backoff: Backoff::default(), born: 0, clock: 0, ended: BTreeMap::new(), removed: HashSet::new(),
        };
        let rounds = events.len() + 60;
        let mut events = events.into_iter();
        for round in 0..rounds {
            match events.next() {
                Some((0, nth)) => world.happen(nth, "succeeded"),
                Some((1, nth)) => world.happen(nth, "failed"),
                Some((2, _)) => world.look(),
                Some((3, _)) => world.reconcile(0),
                Some((4, nth)) => world.reconcile(nth % 4),
                Some((_, nth)) => world.happen(nth, "ready"),
                None if round % 3 == 0 => world.happen(0, "succeeded"),
                None if round % 3 == 1 => world.look(),
                None => world.reconcile(0),
            }
            if facts::is_finished(&world.job) {
                break;
            }
            let active = world.pods.values().filter(|pod| api::pod::is_active(pod)).count();
            prop_assert!(number(active) <= parallelism, "{active} pods run, {parallelism} may");
        }
        prop_assert!(facts::is_finished(&world.job), "{:?}", world.job.status);
        let status = world.job.status.unwrap();
        let count = |how: &str| number(world.ended.values().filter(|ended| **ended == how).count());
        prop_assert_eq!(status.succeeded.unwrap_or(0), completions);
        prop_assert_eq!(status.failed.unwrap_or(0), count("failed"));
        prop_assert_eq!(status.uncounted_terminated_pods, Some(Default::default()));
        if is_indexed {
            let all = Indexes::default().with(0..u32::try_from(completions).unwrap());
            prop_assert_eq!(status.completed_indexes, Some(all.to_string()));
        } else {
            prop_assert_eq!(count("succeeded"), completions);
        }
        prop_assert!(world.pods.values().all(|pod| !facts::has_finalizer(pod)));
    }
}
