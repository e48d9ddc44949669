//! Persistent volumes with real pods: claims of the default class, stateful sets, what is kept and what goes,
//! a server that is killed in the middle, a second node.

use std::path::PathBuf;
use std::time::Duration;

use minik8s_tests::{Agent, Cluster, Options, eventually};
use serde_json::{Value, json};

use crate::objects::{create, query, until};

const LIMIT: Duration = Duration::from_secs(120);
const ROLLOUT: &str = "--timeout=120s";

fn claim(name: &str, class: Option<&str>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": claim_spec(class),
    })
}

fn claim_spec(class: Option<&str>) -> Value {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}});
    if let Some(class) = class {
        spec["storageClassName"] = json!(class);
    }
    spec
}

/// A pod that runs a line and ends, with a volume at `/data`.
fn runs(name: &str, volume: Value, line: &str) -> Value {
    let mut volume = volume;
    volume["name"] = json!("data");
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "volumes": [volume],
            "containers": [{
                "name": "a", "image": "busybox:test", "command": ["sh", "-ec", line],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
        },
    })
}

fn of_claim(name: &str) -> Value {
    json!({"persistentVolumeClaim": {"claimName": name}})
}

#[track_caller]
fn succeeds(cluster: &Cluster, pod: &Value) {
    create(cluster, pod);
    let name = pod["metadata"]["name"].as_str().unwrap();
    until(cluster, &["pod", name], "{.status.phase}", "Succeeded");
}

/// Directories of volumes on the server's node.
fn directories(cluster: &Cluster) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cluster.data_dir().join("storage")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[track_caller]
fn until_gone(cluster: &Cluster, directory: &std::path::Path) {
    eventually(&format!("{} is gone", directory.display()), LIMIT, || {
        if !directory.exists() {
            return Ok(());
        }
        Err(format!("{}\n{}", cluster.kubectl(&["get", "pv,pvc,nodes", "-o", "yaml"]), cluster.log()))
    });
}

fn class(name: &str, more: Value) -> Value {
    let mut class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
        "provisioner": "rancher.io/local-path", "volumeBindingMode": "WaitForFirstConsumer",
    });
    class.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    class
}

#[test]
fn a_claim_gets_a_directory_that_outlives_pods_and_goes_with_the_claim() {
    let cluster = Cluster::with_node();
    let classes = cluster.kubectl(&["get", "sc", "--no-headers"]).ok();
    assert!(classes.starts_with("local-path (default)   rancher.io/local-path   Delete"), "{classes}");
    create(&cluster, &claim("data", None));
    let waiting = ["events", "--field-selector=reason=WaitForFirstConsumer"];
    let message = "waiting for first consumer to be created before binding";
    until(&cluster, &waiting, "{.items[*].message}", message);
    assert_eq!(query(&cluster, &["pvc", "data"], "{.status.phase}"), "Pending");

    succeeds(&cluster, &runs("writer", of_claim("data"), "echo kept > /data/file; chmod 600 /data/file"));
    let bound = query(
        &cluster,
        &["pvc", "data"],
        "{.status.phase} {.status.capacity.storage} {.status.accessModes[0]}",
    );
    assert_eq!(bound, "Bound 64Mi ReadWriteOnce");
    let told = cluster.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"]).ok();
    for reason in ["ExternalProvisioning", "Provisioning", "ProvisioningSucceeded"] {
        assert!(told.contains(reason), "{reason} in {told}");
    }
    let volume = query(&cluster, &["pvc", "data"], "{.spec.volumeName}");
    assert_eq!(query(&cluster, &["pv", &volume], "{.status.phase} {.spec.claimRef.name}"), "Bound data");
    let [directory]: [PathBuf; 1] = directories(&cluster).try_into().unwrap();
    assert_eq!(std::fs::read_to_string(directory.join("file")).unwrap(), "kept\n");
    let described = cluster.kubectl(&["describe", "pvc", "data"]).ok();
    assert!(described.contains(&volume) && described.contains("Used By:       writer"), "{described}");

    cluster.kubectl(&["delete", "pod", "writer"]).ok();
    succeeds(
        &cluster,
        &runs("reader", of_claim("data"), "grep -q kept /data/file && ! grep -q x /data/file"),
    );
    // A claim that is used stays until its pod is gone.
    let mut holder = runs("holder", of_claim("data"), "sleep 3600");
    holder["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] = json!(true);
    create(&cluster, &holder);
    cluster.wait_for_pod("holder");
    cluster.kubectl(&["exec", "holder", "--", "sh", "-c", "echo x > /data/file"]).failed();
    cluster.kubectl(&["delete", "pvc", "data", "--wait=false"]).ok();
    cluster.kubectl(&["delete", "pod", "reader"]).ok();
    assert!(directory.exists(), "a pod has it");
    cluster.kubectl(&["delete", "pod", "holder"]).ok();
    until_gone(&cluster, &directory);
    cluster.kubectl(&["wait", "--for=delete", &format!("pv/{volume}"), "--timeout=60s"]).ok();
    assert_eq!(cluster.kubectl(&["get", "pv,pvc", "-o", "name"]).ok(), "");
}

#[test]
fn what_is_retained_stays_and_volumes_made_by_hand_are_used() {
    let cluster = Cluster::with_node();
    create(&cluster, &class("kept", json!({"reclaimPolicy": "Retain"})));
    create(&cluster, &claim("data", Some("kept")));
    succeeds(&cluster, &runs("writer", of_claim("data"), "echo kept > /data/file"));
    let volume = query(&cluster, &["pvc", "data"], "{.spec.volumeName}");
    let directory = PathBuf::from(query(&cluster, &["pv", &volume], "{.spec.hostPath.path}"));
    cluster.kubectl(&["delete", "pod/writer", "pvc/data"]).ok();
    until(&cluster, &["pv", &volume], "{.status.phase}", "Released");
    assert!(directory.join("file").exists());

    // The administrator gives the directory to another claim, by a volume of their own that is meant for it.
    let by_hand = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "by-hand"},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Delete", "claimRef": {"name": "second", "namespace": "default"},
            "hostPath": {"path": directory, "type": "Directory"},
        },
    });
    create(&cluster, &by_hand);
    create(&cluster, &claim("second", Some("")));
    until(
        &cluster,
        &["pvc", "second"],
        "{.status.phase} {.spec.volumeName} {.status.capacity.storage}",
        "Bound by-hand 1Gi",
    );
    let mut reader = runs("reader", of_claim("second"), "grep -q kept /part");
    reader["spec"]["containers"][0]["volumeMounts"][0] =
        json!({"name": "data", "mountPath": "/part", "subPath": "file"});
    succeeds(&cluster, &reader);
    cluster.kubectl(&["delete", "pod/reader", "pvc/second"]).ok();
    // Nobody can delete what was made by hand, and nobody does.
    until(&cluster, &["pv", "by-hand"], "{.status.phase}", "Failed");
    let why = query(&cluster, &["pv", "by-hand"], "{.status.message}");
    assert!(why.ends_with("no deletable volume plugin matched"), "{why}");
    assert!(directory.join("file").exists());

    // A volume that is there is taken before one is made, and a pod's group gets it once.
    let local = cluster.folder().join("disk");
    std::fs::create_dir(&local).unwrap();
    let term = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["one"]});
    let disk = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk"},
        "spec": {
            "capacity": {"storage": "100Mi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local-path",
            "local": {"path": local},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}},
        },
    });
    create(&cluster, &disk);
    until(&cluster, &["pv", "disk"], "{.status.phase}", "Available");
    create(&cluster, &claim("third", None));
    let mut grouped = runs("grouped", of_claim("third"), "id; ls -ldn /data; echo mine > /data/file");
    grouped["spec"]["securityContext"] = json!({"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000});
    succeeds(&cluster, &grouped);
    assert_eq!(query(&cluster, &["pvc", "third"], "{.spec.volumeName}"), "disk");
    assert_eq!(std::fs::read_to_string(local.join("file")).unwrap(), "mine\n");
}

#[test]
fn a_stateful_set_keeps_its_claims_through_deletions_scale_and_kill() {
    let mut cluster = Cluster::with_node();
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {
            "replicas": 2, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
            "template": {
                "metadata": {"labels": {"app": "db"}},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": "a", "image": "busybox:test",
                        "command": ["sh", "-c", "hostname >> /data/starts; exec sleep 3600"],
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    }],
                },
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim_spec(None)}],
        },
    });
    create(&cluster, &set);
    // In the middle of it the server dies.
    until(&cluster, &["pvc", "data-db-0"], "{.metadata.name}", "data-db-0");
    cluster.kill();
    cluster.start();
    cluster.kubectl(&["rollout", "status", "sts/db", ROLLOUT]).ok();
    let claims = query(&cluster, &["pvc"], "{range .items[*]}{.metadata.name}={.status.phase} {end}");
    assert_eq!(claims, "data-db-0=Bound data-db-1=Bound ");
    assert_eq!(directories(&cluster).len(), 2, "one for each claim");
    let starts = |pod: &str| cluster.kubectl(&["exec", pod, "--", "cat", "/data/starts"]).ok();
    assert_eq!(starts("db-1"), "db-1\n");

    cluster.kubectl(&["delete", "pod", "db-1"]).ok();
    cluster.kubectl(&["rollout", "status", "sts/db", ROLLOUT]).ok();
    assert_eq!(starts("db-1"), "db-1\ndb-1\n", "the new pod has the old one's files");

    cluster.kubectl(&["scale", "sts/db", "--replicas=1"]).ok();
    cluster.kubectl(&["wait", "--for=delete", "pod/db-1", ROLLOUT]).ok();
    cluster.kubectl(&["scale", "sts/db", "--replicas=2"]).ok();
    cluster.kubectl(&["rollout", "status", "sts/db", ROLLOUT]).ok();
    assert_eq!(starts("db-1").lines().count(), 3, "its claim was retained");

    let patch = r#"{"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}}"#;
    cluster.kubectl(&["patch", "sts", "db", "-p", patch]).ok();
    cluster.kubectl(&["scale", "sts/db", "--replicas=1"]).ok();
    cluster.kubectl(&["wait", "--for=delete", "pvc/data-db-1", ROLLOUT]).ok();
    eventually("the directory of the second claim is gone", LIMIT, || {
        let left = directories(&cluster);
        if left.len() == 1 { Ok(()) } else { Err(format!("{left:?}\n{}", cluster.log())) }
    });
    cluster.kubectl(&["delete", "sts", "db"]).ok();
    eventually("everything goes with the set", LIMIT, || {
        let left = cluster.kubectl(&["get", "pv,pvc", "-o", "name"]).ok();
        let directories = directories(&cluster);
        if left.is_empty() && directories.is_empty() {
            return Ok(());
        }
        Err(format!("{left} {directories:?}\n{}", cluster.log()))
    });
}

#[test]
fn an_ephemeral_volume_lives_as_long_as_its_pod() {
    let cluster = Cluster::with_node();
    let template = json!({"metadata": {"labels": {"kind": "scratch"}}, "spec": claim_spec(None)});
    let volume = json!({"ephemeral": {"volumeClaimTemplate": template}});
    let mut pod = runs("job", volume, "echo x > /data/file; exec sleep 3600");
    pod["spec"]["containers"][0]["volumeMounts"][0]["subPath"] = json!("deep/er");
    create(&cluster, &pod);
    cluster.wait_for_pod("job");
    let claim = ["pvc", "-l", "kind=scratch"];
    assert_eq!(query(&cluster, &claim, "{.items[*].metadata.name}"), "job-data");
    assert_eq!(query(&cluster, &claim, "{.items[0].metadata.ownerReferences[0].kind}"), "Pod");
    let [directory]: [PathBuf; 1] = directories(&cluster).try_into().unwrap();
    assert!(directory.join("deep/er/file").exists());
    cluster.kubectl(&["delete", "pod", "job"]).ok();
    until_gone(&cluster, &directory);
    eventually("claim and volume are gone", LIMIT, || {
        let left = cluster.kubectl(&["get", "pv,pvc", "-o", "name"]).ok();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });

    // A claim of that name which is not the pod's own.
    create(&cluster, &self::claim("job-data", None));
    create(&cluster, &pod);
    let told = "0/1 nodes are available: PVC default/job-data was not created for pod default/job (pod is not owner). preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    until(&cluster, &["pod", "job"], "{.status.conditions[0].message}", told);
}

#[test]
fn a_volume_is_made_and_removed_on_the_node_of_its_pod() {
    let cluster = Cluster::start_with(Options { node: true, flags: Vec::new() });
    cluster.wait_until_ready();
    let mut agent = Agent::start(&cluster, "two");
    let ready = r#"{.status.conditions[?(@.type=="Ready")].status}"#;
    until(
        &cluster,
        &["nodes", "-l", "kubernetes.io/hostname=two"],
        &ready.replace(".status.", ".items[*].status."),
        "True",
    );
    create(&cluster, &claim("data", None));
    let mut writer = runs("writer", of_claim("data"), "echo there > /data/file");
    writer["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "two"});
    succeeds(&cluster, &writer);
    let volume = query(&cluster, &["pvc", "data"], "{.spec.volumeName}");
    let directory = PathBuf::from(query(&cluster, &["pv", &volume], "{.spec.local.path}"));
    assert!(directory.starts_with(agent.data_dir()), "{}", directory.display());
    assert!(directory.join("file").exists());
    // Pods follow their volume.
    succeeds(&cluster, &runs("reader", of_claim("data"), "grep -q there /data/file"));
    assert_eq!(query(&cluster, &["pod", "reader"], "{.spec.nodeName}"), "two");

    // The node removes it once it is back.
    cluster.kubectl(&["delete", "pod", "writer", "reader"]).ok();
    agent.kill();
    cluster.kubectl(&["delete", "pvc", "data"]).ok();
    until(&cluster, &["pv", &volume], "{.status.phase}", "Released");
    assert!(directory.join("file").exists());
    agent.restart(&cluster);
    until_gone(&cluster, &directory);
    cluster.kubectl(&["wait", "--for=delete", &format!("pv/{volume}"), "--timeout=60s"]).ok();
}

#[test]
fn without_the_provisioner_there_is_no_class() {
    let flags = ["--disable", "local-storage"].map(str::to_string).to_vec();
    let cluster = Cluster::start_with(Options { node: false, flags });
    create(&cluster, &claim("data", None));
    let told = ["events", "--field-selector=reason=FailedBinding"];
    let message = "no persistent volumes available for this claim and no storage class is set";
    until(&cluster, &told, "{.items[*].message}", message);
    assert_eq!(cluster.kubectl(&["get", "sc", "-o", "name"]).ok(), "");
}
