//! The audit log, as whoever answers for a cluster reads it.

use std::fs;
use std::time::Duration;

use minik8s_tests::{Cluster, Options, eventually};
use serde_json::Value;

fn events(cluster: &Cluster) -> Vec<Value> {
    let text = fs::read_to_string(cluster.folder().join("audit.log")).unwrap_or_default();
    // The last line may be half written.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn find(cluster: &Cluster, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, Duration::from_secs(60), || {
        events(cluster).into_iter().find(&wanted).ok_or_else(|| format!("{what} is not in the log"))
    })
}

#[test]
fn people_and_components_are_in_the_log_and_secrets_are_not() {
    let mut cluster = Cluster::prepare(Options::default());
    let policy = cluster.folder().join("policy.yaml");
    fs::write(
        &policy,
        "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, verbs: [get, list, watch]}
- {level: Metadata, resources: [{group: '', resources: [secrets]}]}
- {level: RequestResponse, resources: [{group: '', resources: [configmaps]}], omitManagedFields: true}
- {level: Metadata}
",
    )
    .unwrap();
    let log = cluster.folder().join("audit.log");
    let flags = ["--audit-policy-file", policy.to_str().unwrap(), "--audit-log-path", log.to_str().unwrap()];
    cluster.add_flags(&flags);
    cluster.start();
    cluster.kubectl(&["create", "configmap", "told", "--from-literal=a=b"]).ok();
    cluster.kubectl(&["create", "secret", "generic", "hidden", "--from-literal=a=correct-horse"]).ok();
    cluster.kubectl(&["delete", "configmap", "told"]).ok();
    cluster.kubectl(&["delete", "configmap", "told"]).failed();

    let of = |event: &Value, verb: &str, name: &str| {
        event["verb"] == verb
            && event["objectRef"]["name"] == name
            && event["user"]["username"] == "system:admin"
    };
    let created = find(&cluster, "the creation", |event| of(event, "create", "told"));
    // kubectl sends protobuf.
    assert_eq!(created["requestObject"]["data"]["a"], "b", "{created}");
    assert_eq!(created["responseStatus"]["code"], 201);
    assert_eq!(created["annotations"]["authorization.k8s.io/decision"], "allow");
    assert!(created["userAgent"].as_str().unwrap().starts_with("kubectl"), "{created}");
    find(&cluster, "the deletion that failed", |event| {
        of(event, "delete", "told") && event["responseStatus"]["reason"] == "NotFound"
    });
    let secret = find(&cluster, "the secret", |event| of(event, "create", "hidden"));
    assert_eq!(secret["requestObject"], Value::Null);
    let text = fs::read_to_string(&log).unwrap();
    assert!(
        !text.contains("correct-horse") && !text.contains("Y29ycmVjdC1ob3JzZQ"),
        "its text is in the log"
    );
    // Controllers are users like others.
    find(&cluster, "a controller's write", |event| {
        event["user"]["username"] == "system:serviceaccount:kube-system:root-ca-cert-publisher"
            && event["verb"] == "create"
    });
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"]).ok();
    assert!(metrics.contains("apiserver_audit_event_total"), "{metrics}");
}
