//! Places, and archives from end to end.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

#[test]
fn places_are_local_or_in_a_pod() {
    let local = |file: &str| Place { namespace: None, pod: None, file: file.into() };
    assert_eq!(place("/tmp/x").unwrap(), local("/tmp/x"));
    assert_eq!(place("p:/x").unwrap(), Place { namespace: None, pod: Some("p".into()), file: "/x".into() });
    let in_namespace = Place { namespace: Some("n".into()), pod: Some("p".into()), file: "x".into() };
    assert_eq!(place("n/p:x").unwrap(), in_namespace);
    assert!(place(":x").is_err() && place("a/b/c:x").is_err());
}

#[test]
fn paths_are_cleaned_as_go_does() {
    for (path, cleaned) in [
        ("/a/../b/./c//", "/b/c"),
        ("a/..", "."),
        ("../a", "../a"),
        ("/..", "/"),
        ("", "."),
        ("a/../../b", "../b"),
    ] {
        assert_eq!(clean(path), cleaned, "{path}");
    }
    assert_eq!((base("/a/b/"), base("b"), base("/")), ("b", "b", "/"));
    assert_eq!((parent("/a/b"), parent("/a"), parent("a")), ("/a", "/", ""));
}

fn packed(source: &std::path::Path, name: &str) -> Vec<Bytes> {
    let (sender, mut pieces) = mpsc::channel(1000);
    pack(source, name, Sender(sender)).unwrap();
    std::iter::from_fn(|| pieces.blocking_recv()).collect()
}

fn unpacked(pieces: Vec<Bytes>, prefix: &str, target: &std::path::Path) -> std::io::Result<()> {
    let (sender, receiver) = mpsc::channel(1000);
    for piece in pieces {
        sender.try_send(piece).unwrap();
    }
    drop(sender);
    unpack(receiver, prefix, target, "hint")
}

#[test]
fn a_tree_arrives_as_it_left_but_for_links() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir_all(source.join("deep/er")).unwrap();
    fs::create_dir(source.join("empty")).unwrap();
    fs::write(source.join("deep/er/file"), vec![7; 300_000]).unwrap();
    let long = "x".repeat(200);
    fs::write(source.join(&long), "long").unwrap();
    symlink("/etc/passwd", source.join("link")).unwrap();
    let target = folder.path().join("target");
    unpacked(packed(&source, "there"), "there", &target).unwrap();
    assert_eq!(fs::read(target.join("deep/er/file")).unwrap(), vec![7; 300_000]);
    assert_eq!(fs::read_to_string(target.join(long)).unwrap(), "long");
    assert!(target.join("empty").is_dir());
    assert!(fs::symlink_metadata(target.join("link")).is_err(), "links are passed over");
}

#[test]
fn one_file_takes_the_name_of_its_destination_and_its_mode_is_in_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a");
    fs::write(&file, "text").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o750)).unwrap();
    let pieces = packed(&file, "b");
    let whole: Vec<u8> = pieces.iter().flatten().copied().collect();
    let mut archive = tar::Archive::new(&whole[..]);
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.header().mode().unwrap() & 0o777, 0o750);
    unpacked(pieces, "b", &folder.path().join("new/c")).unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("new/c")).unwrap(), "text");
}

#[test]
fn an_archive_cannot_leave_the_destination() {
    let folder = tempfile::tempdir().unwrap();
    let archive = |name: &str| {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(3);
        header.set_mode(0o644);
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, &b"bad"[..]).unwrap();
        vec![Bytes::from(builder.into_inner().unwrap())]
    };
    let target = folder.path().join("target");
    unpacked(archive("data/../../escaped"), "data", &target).unwrap();
    assert!(!folder.path().join("escaped").exists());
    let error = unpacked(archive("other/file"), "data", &target).unwrap_err();
    assert_eq!(error.to_string(), "tar contents corrupted");
    let mut cut = archive("data/file");
    cut[0].truncate(600);
    assert!(unpacked(cut, "data", &target).is_err(), "half an archive is a failure");
}
