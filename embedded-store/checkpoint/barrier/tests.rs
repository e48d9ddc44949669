//! sled's own syncs.

#[test]
fn sled_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let db = sled::open(dir.path()).unwrap();
    let before = super::count();
    db.insert("a", "b").unwrap();
    db.flush().unwrap();
    assert!(super::count() > before, "sled calls the C library's function, which does not wait for the disk");
}
