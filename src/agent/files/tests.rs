//! Writing files: what is so already is left alone.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

#[test]
fn a_file_that_is_so_already_is_left_alone_and_any_other_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let inode = || fs::symlink_metadata(&path).unwrap().ino();
    write(&path, b"a", 0o600).unwrap();
    let first = inode();
    write(&path, b"a", 0o600).unwrap();
    assert_eq!(inode(), first, "nothing has changed");

    write(&path, b"b", 0o600).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"b");
    write(&path, b"b", 0o640).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);

    let elsewhere = dir.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    write(&path, b"b", 0o640).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_file(), "a link is not the file");
}
