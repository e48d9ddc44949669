//! Snapshots in an S3-compatible store: kept, listed, pruned, restored, and what is said when that does not
//! work.

use std::fs;
use std::path::{Path, PathBuf};

use minik8s_tests::{ACCESS_KEY, Cluster, CommandOutcome, Options, S3Store, SECRET_KEY, run};

/// A cluster and a store beside it; settings as an administrator keeps them, some under k3s' names.
struct Setup {
    cluster: Cluster,
    store: S3Store,
    config: PathBuf,
}

impl Setup {
    fn new(tls: bool, more: &str) -> Self {
        let mut cluster = Cluster::prepare(Options::default());
        let store = S3Store::start(&cluster.network, tls);
        let config = cluster.folder().join("config.yaml");
        let insecure = !tls;
        let text = format!(
            "snapshot-s3: true\nsnapshot-s3-endpoint: {}\nsnapshot-s3-bucket: backups\nsnapshot-s3-folder: one\n\
             etcd-s3-insecure: {insecure}\netcd-s3-access-key: {ACCESS_KEY}\nsnapshot-s3-secret-key: {SECRET_KEY}\n\
             snapshot-s3-timeout: 20s\netcd-listen: 'off'\n{more}",
            store.endpoint()
        );
        fs::write(&config, text).unwrap();
        cluster.add_flags(&["--config", config.to_str().unwrap()]);
        cluster.start();
        Setup { cluster, store, config }
    }

    fn snapshot_in(&self, data_dir: &Path, arguments: &[&str]) -> CommandOutcome {
        let mut command = self.cluster.minik8s(&["snapshot"]);
        run(command.args(arguments).arg("--data-dir").arg(data_dir).arg("--config").arg(&self.config), "")
    }

    fn snapshot(&self, arguments: &[&str]) -> CommandOutcome {
        self.snapshot_in(&self.cluster.data_dir(), arguments)
    }

    /// Saves one and returns its name.
    fn save(&self) -> String {
        let said = self.snapshot(&["save"]).ok();
        let place = said.lines().find(|line| line.starts_with("s3://")).unwrap_or_else(|| panic!("{said}"));
        place.rsplit('/').next().unwrap().to_string()
    }

    fn status(&self) -> serde_json::Value {
        let mut command = self.cluster.minik8s(&["status", "-o", "json", "--data-dir"]);
        run(command.arg(self.cluster.data_dir()), "").json()
    }
}

#[test]
fn a_cluster_comes_back_from_s3_on_an_empty_machine() {
    let mut setup = Setup::new(false, "");
    setup.cluster.kubectl(&["create", "configmap", "kept", "--from-literal=a=b"]).ok();
    let before = setup.cluster.get("configmap", "kept");
    let names: Vec<String> = (0..3).map(|_| setup.save()).collect();
    let local = setup.cluster.data_dir().join("server/snapshots");
    let stored = setup.store.object(&format!("one/{}", names[2]));
    assert_eq!(fs::read(stored).unwrap(), fs::read(local.join(&names[2])).unwrap());
    assert_eq!(setup.status()["snapshots"]["lastUpload"]["name"], names[2].as_str());

    let list = setup.snapshot(&["list"]).ok();
    for name in &names {
        assert!(list.contains(&format!("s3://backups/one/{name}")), "{list}");
        assert!(list.contains(&format!("file://{}/{name}", local.display())), "{list}");
    }
    fs::write(setup.store.object("one/mine.db"), "kept: not named by us").unwrap();
    setup.snapshot(&["prune", "--keep", "2"]).ok();
    assert!(!setup.store.object(&format!("one/{}", names[0])).exists());
    assert!(setup.store.object("one/mine.db").exists());
    setup.snapshot(&["delete", &names[1]]).ok();
    assert!(!setup.store.object(&format!("one/{}", names[1])).exists() && !local.join(&names[1]).exists());
    assert!(setup.snapshot(&["delete", &names[1]]).failed().contains("NoSuchKey"));

    let key = fs::read_to_string(setup.cluster.data_dir().join("server/seal-key")).unwrap();
    setup.cluster.stop();
    fs::rename(setup.cluster.data_dir(), setup.cluster.folder().join("gone")).unwrap();
    let absent = setup.snapshot(&["restore", "snapshot-none.db", "--seal-key", key.trim()]).failed();
    assert!(absent.contains("NoSuchKey") && absent.contains("snapshot list"), "{absent}");
    setup.snapshot(&["restore", &names[2], "--seal-key", key.trim()]).ok();
    setup.cluster.start();
    assert_eq!(setup.cluster.get("configmap", "kept"), before);
}

#[test]
fn large_snapshots_go_up_in_parts_and_broken_connections_are_tried_again() {
    let setup = Setup::new(false, "");
    // Above two parts of 8 MiB.
    let value = "x".repeat(900_000);
    for number in 0..20 {
        let object = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: large-{number}}}\ndata: {{value: '{value}'}}\n"
        );
        setup.cluster.kubectl_with(&["create", "-f", "-"], &object).ok();
    }
    setup.store.break_connections(3);
    let name = setup.save();
    let local = setup.cluster.data_dir().join("server/snapshots").join(&name);
    assert!(fs::metadata(&local).unwrap().len() > 16 << 20);
    assert_eq!(fs::read(setup.store.object(&format!("one/{name}"))).unwrap(), fs::read(local).unwrap());

    // The download survives it, too.
    let target = setup.cluster.folder().join("restored");
    let key = fs::read_to_string(setup.cluster.data_dir().join("server/seal-key")).unwrap();
    setup.store.break_connections(2);
    setup.snapshot_in(&target, &["restore", &name, "--seal-key", key.trim()]).ok();
}

#[test]
fn what_goes_wrong_is_said_and_shown() {
    let setup = Setup::new(false, "");
    for (flags, why) in [
        (vec!["--snapshot-s3-access-key", "AKIAOTHER"], "--snapshot-s3-access-key"),
        (vec!["--snapshot-s3-secret-key", "wrong"], "SignatureDoesNotMatch"),
        (vec!["--snapshot-s3-bucket", "nowhere"], "NoSuchBucket"),
        (
            vec!["--snapshot-s3-endpoint", "127.0.0.1:1", "--snapshot-s3-timeout", "2s"],
            "--snapshot-s3-endpoint",
        ),
        (vec!["--snapshot-s3-insecure=false"], "snapshot-s3-insecure"),
    ] {
        let said = setup.snapshot(&[&["save"], &flags[..]].concat()).failed();
        assert!(said.contains(why) && said.trim().lines().count() == 1, "{flags:?}: {said}");
        assert!(!said.contains(SECRET_KEY) && !said.contains("X-Amz"), "{said}");
    }
    let said = setup.snapshot(&["list", "--snapshot-s3-bucket", "nowhere"]).failed();
    assert!(said.contains("NoSuchBucket"), "{said}");

    // The server's own upload fails: the file is kept here, and everybody can see what is wrong.
    setup.store.break_connections(u32::MAX);
    let said = setup.snapshot(&["save", "--snapshot-s3-timeout", "3s"]).failed();
    assert!(said.contains("it is kept in"), "{said}");
    let kept = PathBuf::from(said.rsplit("it is kept in ").next().unwrap().trim());
    assert!(kept.exists(), "{said}");
    let status = setup.status();
    assert_eq!(status["state"], "degraded");
    assert!(status["snapshots"]["lastUploadFailure"]["why"].as_str().unwrap().contains("cannot upload"));
    minik8s_tests::eventually("an event", std::time::Duration::from_secs(20), || {
        let events = setup.cluster.kubectl(&["get", "events", "-A"]).ok();
        if events.contains("SnapshotUploadFailed") { Ok(()) } else { Err(events) }
    });
    setup.store.break_connections(0);
    setup.save();
    assert_eq!(setup.status()["state"], "running", "{}", setup.status());
    let log = setup.cluster.log();
    assert!(!log.contains(SECRET_KEY) && !log.contains("X-Amz-Signature"), "{log}");
}

#[test]
fn the_store_is_reached_over_tls_and_its_authority_is_checked() {
    let setup = Setup::new(true, "");
    let refused = setup.snapshot(&["save"]).failed();
    assert!(refused.contains("certificate") && refused.contains("--snapshot-s3-endpoint-ca"), "{refused}");
    let authority = setup.store.authority();
    setup.snapshot(&["save", "--snapshot-s3-endpoint-ca", authority.to_str().unwrap()]).ok();
    setup.snapshot(&["save", "--snapshot-s3-skip-ssl-verify"]).ok();
}
