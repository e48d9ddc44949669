//! A disk that fills up: writes are refused in time, reads and deletions go on, and nothing is lost or called damaged.

use std::fs;
use std::path::{Path, PathBuf};

use minik8s_tests::{Cluster, Options, run};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A small file system in memory; gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(at: &Path, mebibytes: usize) -> Self {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={mebibytes}m");
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
        SmallDisk(at.to_path_buf())
    }

    /// Takes space until it is full, or up to so many mebibytes.
    fn fill(&self, mebibytes: usize) {
        let chunk = vec![1u8; 1 << 20];
        let mut file = fs::File::create(self.0.join("junk")).unwrap();
        for _ in 0..mebibytes {
            if std::io::Write::write_all(&mut file, &chunk).is_err() {
                return;
            }
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.join("junk")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

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
