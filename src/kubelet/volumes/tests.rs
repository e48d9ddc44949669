//! Atomic updates, host paths, refresh times, and what is done to a volume only once.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use serde_json::json;

use super::atomic::{File, Files, write};
use super::*;
use crate::host::Linux;
use crate::host::recorder::RecordingHost;
use crate::testing::Journal;

fn files(list: &[(&str, &str)]) -> Files {
    let file = |text: &str| File { data: text.as_bytes().to_vec(), mode: 0o640, owner: None };
    list.iter().map(|(path, text)| (path.to_string(), file(text))).collect()
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

#[test]
fn updates_swap_all_files_at_once() {
    let volume = tempfile::tempdir().unwrap();
    let root = volume.path();
    write(root, &files(&[("a", "1"), ("d/b", "2")]), None, now()).unwrap();
    assert_eq!(std::fs::read_to_string(root.join("a")).unwrap(), "1");
    assert_eq!(std::fs::read_to_string(root.join("d/b")).unwrap(), "2");
    assert_eq!(std::fs::metadata(root.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
    let first = std::fs::read_link(root.join("..data")).unwrap();
    write(root, &files(&[("a", "1"), ("d/b", "2")]), None, now()).unwrap();
    assert_eq!(std::fs::read_link(root.join("..data")).unwrap(), first, "no change, no swap");
    write(root, &files(&[("a", "3")]), None, now()).unwrap();
    assert_eq!(std::fs::read_to_string(root.join("a")).unwrap(), "3");
    assert!(!root.join("d").exists() && std::fs::symlink_metadata(root.join("d")).is_err());
    assert!(!root.join(first).exists(), "the old files are gone");
}

#[test]
fn paths_cannot_leave_the_volume() {
    let volume = tempfile::tempdir().unwrap();
    for bad in ["../x", "/x", "a/../../x", "", "..x"] {
        assert!(write(volume.path(), &files(&[(bad, "1")]), None, now()).is_err(), "{bad}");
    }
}

#[test]
fn host_paths_are_what_their_type_says() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name).to_string_lossy().into_owned();
    assert!(hostpath::check(&at("new"), "Directory").is_err());
    assert!(hostpath::check(&at("new"), "DirectoryOrCreate").unwrap().is_dir());
    assert!(hostpath::check(&at("new"), "File").is_err());
    assert!(hostpath::check(&at("file"), "FileOrCreate").unwrap().is_file());
    let error = hostpath::check(&at("file"), "Directory").unwrap_err().to_string();
    assert!(
        error.starts_with("hostPath type check failed: ") && error.ends_with("is not a directory"),
        "{error}"
    );
}

#[test]
fn tokens_are_renewed_after_four_fifths() {
    let expires = now() + jiff::SignedDuration::from_secs(3600);
    assert_eq!(tokens::refresh_at(now(), expires, 3600), now() + jiff::SignedDuration::from_secs(2880));
    let long = now() + jiff::SignedDuration::from_hours(24 * 365);
    assert_eq!(tokens::refresh_at(now(), long, 3607).duration_since(now()).as_secs(), 2885);
    assert_eq!(tokens::refresh_at(now(), long, 30_000_000).duration_since(now()).as_hours(), 24);
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_volume_is_given_to_the_group_once_and_then_left_to_the_containers() {
    let pod = tempfile::tempdir().unwrap();
    let group = Some(std::fs::metadata(pod.path()).unwrap().gid());
    let outside = pod.path().join("outside");
    std::fs::write(&outside, "").unwrap();
    set_mode(&outside, 0o600);
    let place =
        VolumePlace { path: pod.path().join("volumes/empty-dir/v"), notes: pod.path().join("plugins/v") };
    let host = Linux::new();
    let set_up = || {
        let source = EmptyDirVolumeSource::default();
        emptydir::set_up(&host, &place, &source, group, GroupChange::Always).unwrap();
    };
    set_up();
    assert_eq!(mode(&place.path), 0o2777);
    // What a container does while the next sync looks at the same volume.
    let own = place.path.join("own");
    std::fs::write(&own, "").unwrap();
    set_mode(&own, 0o600);
    symlink(&outside, place.path.join("link")).unwrap();
    set_up();
    assert_eq!((mode(&own), mode(&outside)), (0o600, 0o600));
    // A set-up that was cut short is done again.
    std::fs::remove_file(place.notes.join("ready")).unwrap();
    set_up();
    assert_eq!((mode(&own), mode(&outside)), (0o660, 0o600));
}

#[test]
fn the_policy_of_change_is_for_volumes_that_outlive_pods() {
    let spec =
        serde_json::json!({"securityContext": {"fsGroupChangePolicy": "OnRootMismatch"}, "containers": []});
    let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {}, "spec": spec})).unwrap();
    assert_eq!(group_change(&pod, true), GroupChange::OnRootMismatch);
    assert_eq!(group_change(&pod, false), GroupChange::Always);
    assert_eq!(group_change(&Pod::default(), true), GroupChange::Always);
}

#[test]
fn files_of_a_group_are_its_own_before_anybody_sees_them() {
    let volume = tempfile::tempdir().unwrap();
    let root = volume.path();
    let group = Some(std::fs::metadata(root).unwrap().gid());
    let secret = File { data: b"1".to_vec(), mode: 0o600, owner: None };
    let one: Files = [("a".to_string(), secret.clone())].into();
    write(root, &one, group, now()).unwrap();
    assert_eq!((mode(&root.join("a")), mode(root) & 0o2550), (0o640, 0o2550));
    // Nothing has changed: nothing is touched.
    set_mode(&root.join("a"), 0o600);
    write(root, &one, group, now()).unwrap();
    assert_eq!(mode(&root.join("a")), 0o600);
}

#[test]
fn a_host_path_that_is_a_link_to_nowhere_makes_no_file() {
    let root = tempfile::tempdir().unwrap();
    let (link, target) = (root.path().join("link"), root.path().join("target"));
    symlink(&target, &link).unwrap();
    assert!(hostpath::check(link.to_str().unwrap(), "FileOrCreate").is_err());
    assert!(!target.exists());
}

/// A plugin that stages, writes down what it does and fails where it is told to.
struct StagingPlugin {
    journal: Journal,
    fails: Arc<Mutex<Option<&'static str>>>,
    gate: Arc<Gate>,
}

/// Holds an unstaging up if it is closed.
#[derive(Default)]
struct Gate {
    is_closed: AtomicBool,
    reached: tokio::sync::Notify,
    opened: tokio::sync::Notify,
}

impl StagingPlugin {
    fn call(&self, what: &str, about: &str) -> Result<(), VolumeError> {
        self.journal.note(format!("{what} {about}"));
        let fails = self.fails.lock().take_if(|fails| *fails == what).is_some();
        if fails { Err(std::io::Error::other(format!("{what} fails")).into()) } else { Ok(()) }
    }
}

impl VolumePlugin for StagingPlugin {
    fn name(&self) -> &'static str {
        "staging"
    }

    fn supports(&self, volume: &Volume) -> bool {
        volume.nfs.is_some()
    }

    fn outlives_pods(&self) -> bool {
        true
    }

    fn staging_key(&self, volume: &Volume) -> Option<String> {
        volume.nfs.as_ref().map(|nfs| nfs.server.clone())
    }

    fn stage<'a>(&'a self, key: &'a str, _: &'a Volume) -> client::BoxFuture<'a, Result<(), VolumeError>> {
        Box::pin(async move { self.call("stage", key) })
    }

    fn set_up<'a>(
        &'a self,
        request: VolumeRequest<'a>,
    ) -> client::BoxFuture<'a, Result<plugin::SetUp, VolumeError>> {
        let path = request.place.path;
        let (uid, change) = (request.pod.uid(), request.change);
        Box::pin(async move {
            self.call("set_up", &format!("{uid} {change:?}"))?;
            Ok((MountedVolume { path, read_only: false }, None))
        })
    }

    fn tear_down<'a>(
        &'a self,
        uid: &'a str,
        place: &'a VolumePlace,
    ) -> client::BoxFuture<'a, Result<(), VolumeError>> {
        let name = place.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Box::pin(async move { self.call("tear_down", &format!("{uid} {name}")) })
    }

    fn unstage<'a>(&'a self, key: &'a str) -> client::BoxFuture<'a, Result<(), VolumeError>> {
        Box::pin(async move {
            if self.gate.is_closed.load(Ordering::Relaxed) {
                self.gate.reached.notify_one();
                self.gate.opened.notified().await;
            }
            self.call("unstage", key)
        })
    }
}

struct StagingBench {
    volumes: Volumes,
    host: Arc<RecordingHost>,
    journal: Journal,
    fails: Arc<Mutex<Option<&'static str>>>,
    gate: Arc<Gate>,
}

impl StagingBench {
    fn new() -> Self {
        let (host, fails) = (Arc::new(RecordingHost::default()), Arc::default());
        let journal = host.journal.clone();
        let gate: Arc<Gate> = Arc::default();
        let plugin =
            StagingPlugin { journal: journal.clone(), fails: Arc::clone(&fails), gate: gate.clone() };
        let volumes = Volumes::with_plugins("/pods".into(), host.clone(), vec![Box::new(plugin)]);
        StagingBench { volumes, host, journal, fails, gate }
    }

    async fn mount(&self, uid: &str) -> Result<Mounted, MountError> {
        let pod = crate::testing::named_pod(
            uid,
            uid,
            serde_json::json!({
                "containers": [],
                "securityContext": {"fsGroup": 7, "fsGroupChangePolicy": "OnRootMismatch"},
                "volumes": [{"name": "v", "nfs": {"server": "disk", "path": "/"}}],
            }),
        );
        let mounted = self.volumes.mount(&pod, &Resources::new(), now()).await;
        // What the plugin would have made.
        let place = self.volumes.place(uid, "staging", "v");
        self.host.make_directory(&place.path, 0o755).unwrap();
        mounted
    }

    fn journal(&self) -> Vec<String> {
        let mine = ["stage", "set_up", "tear_down", "unstage", "unmount_below", "remove_tree"];
        let lines = self.journal.take().into_iter();
        lines.filter(|line| mine.iter().any(|one| line.starts_with(one))).collect()
    }
}

#[tokio::test]
async fn what_several_pods_use_is_staged_once_and_until_the_last_has_gone() {
    let staged = StagingBench::new();
    staged.mount("one").await.unwrap();
    assert_eq!(staged.journal(), ["stage disk", "set_up one OnRootMismatch"]);
    staged.mount("two").await.unwrap();
    staged.mount("one").await.unwrap();
    assert_eq!(staged.journal(), ["set_up two OnRootMismatch", "set_up one OnRootMismatch"]);
    staged.volumes.remove("one").await.unwrap();
    assert_eq!(
        staged.journal(),
        [
            "unmount_below /pods/one/volume-subpaths",
            "tear_down one v",
            "unmount_below /pods/one",
            "remove_tree /pods/one",
        ]
    );
    staged.volumes.remove("two").await.unwrap();
    assert_eq!(staged.journal()[1..3], ["tear_down two v", "unstage disk"]);
    staged.mount("three").await.unwrap();
    assert_eq!(staged.journal()[0], "stage disk");
}

/// A pod that comes while the last one's volume is being taken back has it staged again.
#[tokio::test]
async fn what_is_being_taken_back_is_not_there_for_the_next_pod() {
    let staged = StagingBench::new();
    staged.mount("one").await.unwrap();
    staged.journal();
    staged.gate.is_closed.store(true, Ordering::Relaxed);
    let next = async {
        staged.gate.reached.notified().await;
        let mut mount = std::pin::pin!(staged.mount("two"));
        assert!(futures::poll!(&mut mount).is_pending(), "it waits");
        staged.gate.opened.notify_one();
        mount.await.unwrap();
    };
    let (removed, ()) = tokio::join!(staged.volumes.remove("one"), next);
    removed.unwrap();
    let steps: Vec<String> = staged
        .journal()
        .into_iter()
        .filter(|step| step.contains("stage") || step.contains("set_up"))
        .collect();
    assert_eq!(steps, ["unstage disk", "stage disk", "set_up two OnRootMismatch"]);
}

#[tokio::test]
async fn a_step_that_fails_is_named_and_the_next_is_not_taken() {
    let staged = StagingBench::new();
    *staged.fails.lock() = Some("stage");
    let error = staged.mount("one").await.unwrap_err();
    assert_eq!(error.to_string(), "MountVolume.SetUp failed for volume \"v\" : stage fails");
    assert_eq!(staged.journal(), ["stage disk"]);
    staged.mount("one").await.unwrap();
    assert_eq!(staged.journal(), ["stage disk", "set_up one OnRootMismatch"], "it is tried again");
    for step in ["tear_down", "unstage"] {
        *staged.fails.lock() = Some(step);
        assert_eq!(staged.volumes.remove("one").await.unwrap_err().to_string(), format!("{step} fails"));
        let journal = staged.journal();
        assert!(!journal.iter().any(|line| line.starts_with("remove_tree")), "{journal:?}");
    }
    staged.volumes.remove("one").await.unwrap();
    assert!(staged.journal().iter().any(|line| line == "unstage disk"));
}

#[tokio::test]
async fn a_volume_of_no_plugin_is_said_so() {
    let staged = StagingBench::new();
    let spec = serde_json::json!({"containers": [], "volumes": [{"name": "v", "emptyDir": {}}]});
    let error = staged.volumes.mount(&crate::testing::pod(spec), &Resources::new(), now()).await.unwrap_err();
    assert_eq!(error.to_string(), "MountVolume.SetUp failed for volume \"v\" : no volume plugin matched");
}

#[tokio::test]
async fn real_plugins_make_their_volumes_in_order() {
    let node = crate::testing::TestNode::new();
    let pod = crate::testing::pod(serde_json::json!({
        "containers": [],
        "securityContext": {"fsGroup": 7},
        "volumes": [
            {"name": "disk", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "machine", "hostPath": {"path": "/etc", "type": "Directory"}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        ],
    }));
    let volumes = &node.deps.volumes;
    let mounted = volumes.mount(&pod, &Resources::new(), now()).await.unwrap();
    assert!(mounted.refresh.is_some() && mounted.volumes["token"].read_only);
    let of = |plugin: &str, name: &str| format!("/data/pods/u/volumes/kubernetes.io~{plugin}/{name}");
    let (disk, memory, token) =
        (of("empty-dir", "disk"), of("empty-dir", "memory"), of("projected", "token"));
    let notes = "/data/pods/u/plugins/kubernetes.io~empty-dir";
    let made = [
        format!("make_directory {disk} 777"),
        format!("give {disk} to 7, Write, Always"),
        format!("write_file {notes}/disk/ready 600"),
        format!("make_directory {memory} 777"),
        format!("mount_memory {memory} of 1048576 777"),
        format!("give {memory} to 7, Write, Always"),
        format!("write_file {notes}/memory/ready 600"),
        "host_path /etc Directory".to_string(),
        format!("make_directory {token} 755"),
        format!("mount_memory {token} 755"),
        format!("write_volume {token} [token] for 7"),
    ];
    assert_eq!(node.host.journal.take(), made);
    volumes.mount(&pod, &Resources::new(), now()).await.unwrap();
    let again = ["host_path /etc Directory".to_string(), format!("write_volume {token} [token] for 7")];
    assert_eq!(node.host.journal.take(), again, "what containers write to is left alone");
    assert_eq!(node.journal.count("create token of default"), 1, "a token is used until it is due");
    volumes.remove("u").await.unwrap();
    let gone = node.host.journal.take();
    assert_eq!(gone.iter().filter(|line| line.starts_with("remove_tree")).count(), 4, "{gone:#?}");
    assert_eq!(gone.last().unwrap(), "remove_tree /data/pods/u");
    assert!(!gone.iter().any(|line| line.contains("/etc")), "a path of the machine stays: {gone:#?}");
}

#[test]
fn a_token_belongs_to_the_user_that_all_containers_run_as() {
    let user = |user: Option<i64>| json!({"name": "a", "securityContext": {"runAsUser": user}});
    let of = |context: serde_json::Value, init: Option<i64>, main: Option<i64>, group: Option<u32>| {
        let spec = json!({
            "securityContext": context, "initContainers": [user(init)], "containers": [user(main)],
        });
        content::token_access(&crate::testing::pod(spec), group, 0o644)
    };
    let none = || json!({});
    assert_eq!(of(none(), None, None, None), (0o644, None));
    assert_eq!(of(none(), None, Some(1000), None), (0o644, None));
    assert_eq!(of(none(), Some(1000), Some(1000), None), (0o600, Some(1000)));
    assert_eq!(of(none(), Some(1000), Some(2000), None), (0o644, None));
    assert_eq!(of(json!({"runAsUser": 1000}), None, Some(1000), None), (0o600, Some(1000)));
    // A group gets its bit later; the owner is the user all the same.
    assert_eq!(of(json!({"runAsUser": 1000}), None, None, Some(7)), (0o600, Some(1000)));
    assert_eq!(of(none(), None, Some(1000), Some(7)), (0o600, None));
}
