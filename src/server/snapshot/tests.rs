//! Tests of names, pruning and deletion.

use std::fs;

use super::{fresh_name, list, prune, remove};

fn write(folder: &std::path::Path, names: &[&str]) {
    for name in names {
        fs::write(folder.join(name), "x").unwrap();
    }
}

#[test]
fn names_sort_by_time_and_are_never_taken() {
    let folder = tempfile::tempdir().unwrap();
    let now: jiff::Timestamp = "2026-11-21T09:30:05Z".parse().unwrap();
    let first = fresh_name(folder.path(), now);
    assert!(first.ends_with("snapshot-20261121T093005Z.db"));
    fs::write(&first, "x").unwrap();
    assert!(fresh_name(folder.path(), now).ends_with("snapshot-20261121T093005Z-2.db"));
}

#[test]
fn pruning_keeps_the_newest_and_what_users_named() {
    let folder = tempfile::tempdir().unwrap();
    let names =
        ["snapshot-20260103T000000Z.db", "snapshot-20260101T000000Z.db", "snapshot-20260102T000000Z.db"];
    write(folder.path(), &names);
    write(folder.path(), &["before-upgrade.db", "notes.txt", "snapshot-20250101T000000Z.db.part"]);
    assert_eq!(prune(folder.path(), 2).unwrap(), ["snapshot-20260101T000000Z.db"]);
    assert_eq!(prune(folder.path(), 2).unwrap(), Vec::<String>::new());
    let left: Vec<_> = list(folder.path()).unwrap().into_iter().map(|entry| entry.name).collect();
    assert!(left.contains(&"before-upgrade.db".to_string()) && left.len() == 3, "{left:?}");
    assert!(folder.path().join("notes.txt").exists());
}

#[test]
fn only_snapshots_of_the_folder_are_deleted() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &["a.db", "notes.txt"]);
    for wrong in ["../a.db", "notes.txt", "", "/etc/passwd", "b.db"] {
        assert!(remove(folder.path(), wrong).is_err(), "{wrong}");
    }
    remove(folder.path(), "a.db").unwrap();
    assert!(!folder.path().join("a.db").exists());
}

#[test]
fn a_folder_that_is_not_there_has_no_snapshots() {
    let folder = tempfile::tempdir().unwrap();
    assert!(list(&folder.path().join("none")).unwrap().is_empty());
}
