//! The controllers of workloads with real pods: daemon sets, jobs and cron jobs.

use std::time::Duration;

use minik8s_tests::{Cluster, eventually};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);
const ROLLOUT: &str = "--timeout=120s";

fn create(cluster: &Cluster, object: &Value) {
    cluster.kubectl_with(&["create", "-f", "-"], &object.to_string()).ok();
}

fn query(cluster: &Cluster, what: &[&str], path: &str) -> String {
    let path = format!("jsonpath={path}");
    let mut arguments = vec!["get"];
    arguments.extend(what);
    arguments.extend(["-o", &path]);
    cluster.kubectl(&arguments).ok()
}

#[track_caller]
fn until(cluster: &Cluster, what: &[&str], path: &str, wanted: &str) {
    eventually(&format!("{path} of {what:?} is {wanted:?}"), LIMIT, || {
        let found = query(cluster, what, path);
        if found == wanted {
            return Ok(());
        }
        Err(format!("{found}\n{}", cluster.kubectl(&["get", "all,events", "-A"])))
    });
}

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
