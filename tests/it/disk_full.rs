//! A disk that fills up: writes are refused in time, reads and deletions go on, and nothing is lost or called
//! damaged.

use minik8s_tests::{Cluster, Options, SmallDisk, run};

#[test]
fn a_full_disk_stops_writes_and_nothing_else() {
    let mut cluster = Cluster::prepare(Options { node: false, flags: Vec::new() });
    let disk = SmallDisk::new(&cluster.data_dir(), 200);
    cluster.start();
    cluster.kubectl(&["create", "configmap", "kept", "--from-literal=a=b"]).ok();
    cluster.kubectl(&["create", "configmap", "dropped", "--from-literal=a=b"]).ok();

    disk.fill(150);
    let refused = cluster.kubectl(&["create", "configmap", "more", "--from-literal=a=b"]).failed();
    assert!(refused.contains("database space exceeded"), "{refused}");
    cluster.get("configmap", "kept");
    cluster.kubectl(&["delete", "configmap", "dropped"]).ok();

    cluster.kill();
    disk.fill(usize::MAX);
    let mut again = cluster.minik8s(&["server", "--disable-agent", "--https-listen-port", "0", "--data-dir"]);
    let said = run(again.arg(cluster.data_dir()), "").failed();
    assert!(said.contains("No space left on device") && !said.contains("damaged"), "{said}");

    disk.free();
    cluster.start();
    cluster.get("configmap", "kept");
    cluster.kubectl(&["get", "configmap", "dropped"]).failed();
    cluster.kubectl(&["create", "configmap", "more", "--from-literal=a=b"]).ok();
}

/// Keys and values of the server itself take a part of it.
const QUOTA: usize = 6 << 20;

#[test]
fn past_the_quota_tenants_free_room_and_administrators_keep_the_rest_going() {
    let flags = vec![format!("--quota-backend-bytes={QUOTA}")];
    let cluster = Cluster::start_with(Options { node: false, flags });
    let kubectl = |arguments: &[&str]| cluster.kubectl(arguments);
    kubectl(&["create", "rolebinding", "tenant", "--clusterrole=admin", "--user=tenant"]).ok();
    let tenant = |arguments: &[&str]| cluster.kubectl(&[arguments, &["--as=tenant"]].concat());
    tenant(&["create", "configmap", "small", "--from-literal=a=b"]).ok();
    tenant(&["create", "configmap", "held", "--from-literal=a=b"]).ok();
    kubectl(&["patch", "configmap", "held", "-p", r#"{"metadata":{"finalizers":["example.com/held"]}}"#])
        .ok();
    let large = cluster.folder().join("large");
    std::fs::write(&large, vec![b'x'; 900 << 10]).expect("a large file");
    let from = format!("--from-file={}", large.display());
    let refused = (0..QUOTA / (900 << 10) + 4)
        .map(|number| tenant(&["create", "configmap", &format!("large-{number}"), &from]))
        .find(|outcome| !outcome.success)
        .expect("the quota ends");
    assert!(refused.failed().contains("database space exceeded"));

    let grown = tenant(&["annotate", "configmap", "small", "a=1"]).failed();
    assert!(grown.contains("database space exceeded"), "{grown}");
    kubectl(&["annotate", "configmap", "small", "a=1"]).ok();
    tenant(&["delete", "configmap", "held", "--wait=false"]).ok();
    assert!(cluster.get("configmap", "held")["metadata"]["deletionTimestamp"].is_string());
    tenant(&["delete", "configmap", "large-0"]).ok();
    tenant(&["annotate", "configmap", "small", "b=1"]).ok();
}
