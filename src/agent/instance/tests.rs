//! Names of instances and the claim on a data directory.

use super::*;

#[test]
fn the_default_instance_has_plain_names() {
    let instance = Instance { data_dir: DEFAULT_DATA_DIR.into(), suffix: String::new() };
    assert_eq!(instance.name(), "minik8s");
    assert_eq!(instance.bridge(), "mk8s0");
    assert_eq!(instance.run_dir(), Path::new("/run/minik8s"));
    assert_eq!(instance.pods_cgroup(), "/kubepods-minik8s");
}

#[test]
fn other_instances_have_names_of_their_own_that_the_kernel_accepts() {
    let one = Instance::of(Path::new("/nowhere/one")).unwrap();
    let two = Instance::of(Path::new("/nowhere/two")).unwrap();
    assert_ne!(one.name(), two.name());
    assert_eq!(one, Instance::of(Path::new("/nowhere/./one/")).unwrap());
    assert!(one.bridge().len() <= 15, "{}", one.bridge());
    assert!(!one.table().contains('-'));
}

#[test]
fn a_data_directory_has_one_holder_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let instance = Instance::of(folder.path()).unwrap();
    assert_eq!(instance.holder(), None);
    let lock = instance.lock().unwrap();
    assert_eq!(instance.holder(), Some(std::process::id() as i32));
    let refused = instance.lock().unwrap_err().to_string();
    assert!(refused.contains("another minik8s runs on it"), "{refused}");
    drop(lock);
    instance.lock().unwrap();
}
