//! Atomic updates, host paths, refresh times.

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
    write(root, &files(&[("a", "1"), ("d/b", "2")]), now()).unwrap();
    assert_eq!(std::fs::read_to_string(root.join("a")).unwrap(), "1");
    assert_eq!(std::fs::read_to_string(root.join("d/b")).unwrap(), "2");
    assert_eq!(std::fs::metadata(root.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
    let first = std::fs::read_link(root.join("..data")).unwrap();
    write(root, &files(&[("a", "1"), ("d/b", "2")]), now()).unwrap();
    assert_eq!(std::fs::read_link(root.join("..data")).unwrap(), first, "no change, no swap");
    write(root, &files(&[("a", "3")]), now()).unwrap();
    assert_eq!(std::fs::read_to_string(root.join("a")).unwrap(), "3");
    assert!(!root.join("d").exists() && std::fs::symlink_metadata(root.join("d")).is_err());
    assert!(!root.join(first).exists(), "the old files are gone");
}

#[test]
fn paths_cannot_leave_the_volume() {
    let volume = tempfile::tempdir().unwrap();
    for bad in ["../x", "/x", "a/../../x", "", "..x"] {
        assert!(write(volume.path(), &files(&[(bad, "1")]), now()).is_err(), "{bad}");
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
