//! What cannot be reset changes nothing; whole servers are in `tests/it/servers.rs`.

use super::*;

#[test]
fn what_is_no_member_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let instance = Instance::of(&data).unwrap();
    let refused = reset(&instance, None, &Given::default()).unwrap_err().to_string();
    assert!(refused.contains("there is no server's data") && !refused.contains('\n'), "{refused}");
    assert!(!data.exists(), "nothing is written");

    let store = instance.server_dir().join("store");
    fs::create_dir_all(&store).unwrap();
    let refused = reset(&instance, None, &Given::default()).unwrap_err().to_string();
    assert!(refused.contains("a cluster of its own already"), "{refused}");
    let missing = folder.path().join("no-snapshot");
    let refused = reset(&instance, Some(&missing), &Given::default()).unwrap_err().to_string();
    assert!(refused.contains("no-snapshot") && !refused.contains('\n'), "{refused}");

    fs::write(store.join("GROUP"), "what is this").unwrap();
    let refused = reset(&instance, None, &Given::default()).unwrap_err().to_string();
    assert!(refused.contains("GROUP") && refused.contains("--snapshot"), "{refused}");
    let left: Vec<_> = fs::read_dir(instance.server_dir()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    // Somebody uses it.
    fs::remove_file(store.join("GROUP")).unwrap();
    let _lock = instance.lock().unwrap();
    let refused = reset(&instance, Some(&missing), &Given::default()).unwrap_err().to_string();
    assert!(refused.contains("another minik8s runs on it"), "{refused}");
}
