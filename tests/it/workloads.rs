//! The controllers of workloads with real pods: stateful and daemon sets, jobs and cron jobs, replication
//! controllers and disruption budgets.

use std::time::Duration;

use minik8s_tests::{Cluster, eventually};
use serde_json::{Value, json};

use crate::objects::{create, query, until};

const LIMIT: Duration = Duration::from_secs(120);
const ROLLOUT: &str = "--timeout=120s";

fn messages(cluster: &Cluster, reason: &str) -> String {
    let selector = format!("--field-selector=reason={reason}");
    let path = "jsonpath={range .items[*]}{.source.component}: {.message}{\"\\n\"}{end}";
    cluster.kubectl(&["get", "events", &selector, "-o", path]).ok()
}

/// A pod template with one container that serves until it is told to stop.
fn template(app: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "a", "image": "busybox:test"}],
        },
    })
}

#[test]
fn a_stateful_set_is_rolled_out_in_order_and_undone() {
    let cluster = Cluster::with_node();
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"},
        "spec": {
            "replicas": 2, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
            "template": template("web"),
        },
    });
    create(&cluster, &set);
    cluster.kubectl(&["rollout", "status", "sts/web", ROLLOUT]).ok();
    let pods = ["pods", "-l", "app=web", "--sort-by=.metadata.creationTimestamp"];
    assert_eq!(query(&cluster, &pods, "{.items[*].metadata.name}"), "web-0 web-1");
    let first = ["pod", "web-0"];
    let labels = query(&cluster, &first, "{.metadata.labels}");
    let labels: Value = serde_json::from_str(&labels).unwrap();
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "web-0");
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "0");
    let revision = query(&cluster, &["sts", "web"], "{.status.currentRevision}");
    assert_eq!(labels["controller-revision-hash"], revision.as_str());
    assert_eq!(cluster.kubectl(&["exec", "web-1", "--", "hostname"]).ok(), "web-1\n");
    let told = messages(&cluster, "SuccessfulCreate");
    assert!(
        told.contains("statefulset-controller: Create Pod web-0 in StatefulSet web successful"),
        "{told}"
    );

    cluster.kubectl(&["set", "env", "sts/web", "COLOUR=green"]).ok();
    cluster.kubectl(&["rollout", "status", "sts/web", ROLLOUT]).ok();
    let colour = "{.items[*].spec.containers[0].env[0].value}";
    assert_eq!(query(&cluster, &pods, colour), "green green");
    let history = cluster.kubectl(&["rollout", "history", "sts/web"]).ok();
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    let shown = cluster.kubectl(&["rollout", "history", "sts/web", "--revision=2"]).ok();
    assert!(shown.contains("COLOUR"), "{shown}");
    cluster.kubectl(&["rollout", "undo", "sts/web"]).ok();
    cluster.kubectl(&["rollout", "status", "sts/web", ROLLOUT]).ok();
    assert_eq!(query(&cluster, &pods, colour), "");
    // The first revision has become the newest one.
    assert_eq!(query(&cluster, &["sts", "web"], "{.status.currentRevision}"), revision);
    assert_eq!(query(&cluster, &["controllerrevision", &revision], "{.revision}"), "3");

    // A pod that goes comes back under its name.
    let uid = query(&cluster, &["pod", "web-0"], "{.metadata.uid}");
    cluster.kubectl(&["delete", "pod", "web-0"]).ok();
    eventually("web-0 is another one", LIMIT, || {
        let outcome = cluster.kubectl(&["get", "pod", "web-0", "-o", "jsonpath={.metadata.uid}"]);
        if outcome.success && outcome.stdout != uid { Ok(()) } else { Err(outcome.to_string()) }
    });
    cluster.kubectl(&["scale", "sts/web", "--replicas=1"]).ok();
    until(&cluster, &["sts", "web"], "{.status.replicas} {.status.availableReplicas}", "1 1");
    cluster.kubectl(&["delete", "sts", "web", "--timeout=60s"]).ok();
    cluster.wait_for_none("pods", "app=web");
    cluster.wait_for_none("controllerrevisions", "app=web");
}

#[test]
fn a_daemon_set_runs_on_the_node_and_is_updated() {
    let cluster = Cluster::with_node();
    let set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": template("agent")},
    });
    create(&cluster, &set);
    cluster.kubectl(&["rollout", "status", "ds/agent", ROLLOUT]).ok();
    let counts =
        "{.status.desiredNumberScheduled} {.status.numberAvailable} {.status.updatedNumberScheduled}";
    until(&cluster, &["ds", "agent"], counts, "1 1 1");
    let pods = ["pods", "-l", "app=agent"];
    let field = "{.items[0].spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution\
                 .nodeSelectorTerms[0].matchFields[0].values[0]}";
    assert_eq!(query(&cluster, &pods, field), query(&cluster, &pods, "{.items[0].spec.nodeName}"));
    let first = query(&cluster, &pods, "{.items[0].metadata.labels.controller-revision-hash}");

    cluster.kubectl(&["set", "env", "ds/agent", "COLOUR=green"]).ok();
    cluster.kubectl(&["rollout", "status", "ds/agent", ROLLOUT]).ok();
    let colour = "{.items[*].spec.containers[0].env[0].value}";
    until(&cluster, &pods, colour, "green");
    cluster.kubectl(&["rollout", "undo", "ds/agent"]).ok();
    cluster.kubectl(&["rollout", "status", "ds/agent", ROLLOUT]).ok();
    until(&cluster, &pods, "{.items[*].metadata.labels.controller-revision-hash}", &first);
    let history = cluster.kubectl(&["rollout", "history", "ds/agent"]).ok();
    assert!(history.contains("\n2 ") && history.contains("\n3 "), "{history}");

    // A taint drives the pod away; without it the pod is back.
    let node = query(&cluster, &["nodes"], "{.items[0].metadata.name}");
    cluster.kubectl(&["taint", "node", &node, "gpu=yes:NoExecute"]).ok();
    cluster.wait_for_none("pods", "app=agent");
    until(&cluster, &["ds", "agent"], "{.status.desiredNumberScheduled}", "0");
    cluster.kubectl(&["taint", "node", &node, "gpu-"]).ok();
    until(&cluster, &["ds", "agent"], counts, "1 1 1");
}

fn job(name: &str, command: &str, spec: &Value) -> Value {
    let mut full = json!({"template": {
        "metadata": {"labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "a", "image": "busybox:test", "command": ["sh", "-c", command]}],
        },
    }});
    for (key, value) in spec.as_object().into_iter().flatten() {
        full[key] = value.clone();
    }
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": full})
}

#[test]
fn jobs_complete_fail_and_are_counted() {
    let cluster = Cluster::with_node();
    cluster.kubectl(&["create", "job", "pi", "--image=busybox:test", "--", "echo", "3.14"]).ok();
    cluster.kubectl(&["wait", "--for=condition=complete", "job/pi", ROLLOUT]).ok();
    assert_eq!(cluster.kubectl(&["logs", "job/pi"]).ok(), "3.14\n");
    let finalizers = "{.items[*].metadata.finalizers}";
    assert_eq!(query(&cluster, &["pods", "-l", "job-name=pi"], finalizers), "");
    let types = "{.status.conditions[*].type} {.status.succeeded} {.status.ready}";
    assert_eq!(query(&cluster, &["job", "pi"], types), "SuccessCriteriaMet Complete 1 0");
    assert!(messages(&cluster, "Completed").contains("job-controller: Job completed"));

    let indexed = json!({"completions": 3, "parallelism": 2, "completionMode": "Indexed"});
    create(&cluster, &job("parts", "echo $JOB_COMPLETION_INDEX on $(hostname)", &indexed));
    cluster.kubectl(&["wait", "--for=condition=complete", "job/parts", ROLLOUT]).ok();
    assert_eq!(query(&cluster, &["job", "parts"], "{.status.completedIndexes} {.status.succeeded}"), "0-2 3");
    let said = cluster.kubectl(&["logs", "-l", "job-name=parts", "--tail=-1"]).ok();
    for index in 0..3 {
        assert!(said.contains(&format!("{index} on parts-{index}\n")), "{said}");
    }

    create(&cluster, &job("broken", "exit 3", &json!({"backoffLimit": 0})));
    cluster.kubectl(&["wait", "--for=condition=failed", "job/broken", ROLLOUT]).ok();
    let why = "{.status.conditions[?(@.type==\"Failed\")].reason} {.status.failed}";
    assert_eq!(query(&cluster, &["job", "broken"], why), "BackoffLimitExceeded 1");

    let policy = json!({"rules": [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]});
    create(&cluster, &job("fatal", "exit 42", &json!({"podFailurePolicy": policy})));
    cluster.kubectl(&["wait", "--for=condition=failed", "job/fatal", ROLLOUT]).ok();
    let message = query(&cluster, &["job", "fatal"], "{.status.conditions[?(@.type==\"Failed\")].message}");
    assert!(message.contains("failed with exit code 42 matching FailJob rule at index 0"), "{message}");

    create(&cluster, &job("late", "sleep 600", &json!({"activeDeadlineSeconds": 1})));
    cluster.kubectl(&["wait", "--for=condition=failed", "job/late", ROLLOUT]).ok();
    assert_eq!(query(&cluster, &["job", "late"], why), "DeadlineExceeded 1");

    create(&cluster, &job("brief", "true", &json!({"ttlSecondsAfterFinished": 0})));
    cluster.kubectl(&["wait", "--for=delete", "job/brief", ROLLOUT]).ok();
    cluster.wait_for_none("pods", "job-name=brief");
}

#[test]
fn a_job_is_suspended_and_resumed() {
    let cluster = Cluster::with_node();
    create(&cluster, &job("later", "echo done", &json!({"suspend": true})));
    until(&cluster, &["job", "later"], "{.status.conditions[0].type} {.status.startTime}", "Suspended ");
    assert_eq!(query(&cluster, &["pods", "-l", "job-name=later"], "{.items[*].metadata.name}"), "");
    cluster.kubectl(&["patch", "job", "later", "--type=merge", "-p", "{\"spec\":{\"suspend\":false}}"]).ok();
    cluster.kubectl(&["wait", "--for=condition=complete", "job/later", ROLLOUT]).ok();
    // Deleting a job while its pod runs leaves no finalizer to hold the pod.
    create(&cluster, &job("cut", "sleep 600", &json!({})));
    cluster.wait_for("job", "cut", "{.status.ready}", "1");
    cluster.kubectl(&["delete", "job", "cut", "--timeout=60s"]).ok();
    cluster.wait_for_none("pods", "job-name=cut");
}

#[test]
fn a_cron_job_starts_a_job_each_minute() {
    let cluster = Cluster::with_node();
    let image = "--image=busybox:test";
    cluster
        .kubectl(&["create", "cronjob", "hello", image, "--schedule=* * * * *", "--", "echo", "hello"])
        .ok();
    cluster.kubectl(&["create", "job", "by-hand", "--from=cronjob/hello"]).ok();
    cluster.kubectl(&["wait", "--for=condition=complete", "job/by-hand", ROLLOUT]).ok();
    let name = eventually("a job is made on the minute", LIMIT, || {
        let jobs = query(&cluster, &["jobs"], "{.items[*].metadata.name}");
        let scheduled = jobs.split(' ').find(|name| name.starts_with("hello-")).map(str::to_string);
        scheduled.ok_or(jobs)
    });
    let minute: i64 = name.trim_start_matches("hello-").parse().unwrap();
    let last = query(&cluster, &["cronjob", "hello"], "{.status.lastScheduleTime}");
    let annotation = "{.metadata.annotations.batch\\.kubernetes\\.io/cronjob-scheduled-timestamp}";
    let job = format!("job/{name}");
    assert_eq!(query(&cluster, &[&job], annotation), last);
    assert!(last.ends_with(":00Z") && minute > 29_000_000, "{name} {last}");
    cluster.kubectl(&["wait", "--for=condition=complete", &job, ROLLOUT]).ok();
    until(&cluster, &["cronjob", "hello"], "{.status.active}", "");
    assert!(
        messages(&cluster, "SuccessfulCreate").contains(&format!("cronjob-controller: Created job {name}"))
    );
    cluster.kubectl(&["delete", "cronjob", "hello", "--timeout=60s"]).ok();
}

#[test]
fn replication_controllers_and_budgets_count_pods() {
    let cluster = Cluster::with_node();
    let controller = json!({
        "apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "old"},
        "spec": {"replicas": 2, "selector": {"app": "old"}, "template": template("old")},
    });
    create(&cluster, &controller);
    until(&cluster, &["rc", "old"], "{.status.replicas} {.status.availableReplicas}", "2 2");
    cluster.kubectl(&["create", "pdb", "keep", "--selector=app=old", "--max-unavailable=1"]).ok();
    let counts = "{.status.expectedPods} {.status.currentHealthy} {.status.desiredHealthy} \
                  {.status.disruptionsAllowed} {.status.conditions[0].reason}";
    until(&cluster, &["pdb", "keep"], counts, "2 2 1 1 SufficientPods");
    cluster.kubectl(&["scale", "rc/old", "--replicas=1"]).ok();
    until(&cluster, &["pdb", "keep"], counts, "1 1 0 1 SufficientPods");
    cluster.kubectl(&["delete", "pdb", "keep"]).ok();
    cluster.kubectl(&["create", "pdb", "all", "--selector=app=old", "--min-available=100%"]).ok();
    until(&cluster, &["pdb", "all"], counts, "1 1 1 0 InsufficientPods");
    cluster.kubectl(&["delete", "rc", "old", "--timeout=60s"]).ok();
    cluster.wait_for_none("pods", "app=old");
}
