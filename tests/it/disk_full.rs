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
