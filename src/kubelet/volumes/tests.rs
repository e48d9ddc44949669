//! Atomic updates, host paths, refresh times, and what is done to a volume only once.

use std::os::unix::fs::{MetadataExt, symlink};

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;

use super::atomic::{File, Files, write};
use super::*;

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
    let error = hostpath::check(&at("file"), "Directory").unwrap_err();
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
        emptydir::Place { path: pod.path().join("volumes/empty-dir/v"), ready: pod.path().join("plugins/v") };
    emptydir::set_up(&place, &EmptyDirVolumeSource::default(), group, GroupChange::Always).unwrap();
    assert_eq!(mode(&place.path), 0o2777);
    // What a container does while the next sync looks at the same volume.
    let own = place.path.join("own");
    std::fs::write(&own, "").unwrap();
    set_mode(&own, 0o600);
    symlink(&outside, place.path.join("link")).unwrap();
    emptydir::set_up(&place, &EmptyDirVolumeSource::default(), group, GroupChange::Always).unwrap();
    assert_eq!((mode(&own), mode(&outside)), (0o600, 0o600));
    // A set-up that was cut short is done again.
    std::fs::remove_file(place.ready.join("ready")).unwrap();
    emptydir::set_up(&place, &EmptyDirVolumeSource::default(), group, GroupChange::Always).unwrap();
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
