//! Which tree a machine has, and how cgroups are named in it.

use std::path::Path;

use super::tree::{Hierarchy, detect, v2_weight};
use super::*;

#[test]
fn hybrid_is_v1_and_pure_v2_is_v2() {
    let hybrid = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    assert!(
        matches!(detect(hybrid), Hierarchy::V1(mounts) if mounts["cpu"] == Path::new("/sys/fs/cgroup/cpu"))
    );
    let pure = "30 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    assert!(matches!(detect(pure), Hierarchy::V2(root) if root == Path::new("/sys/fs/cgroup")));
}

#[test]
fn weights() {
    assert_eq!((v2_weight(2), v2_weight(1024), v2_weight(262_144)), (1, 39, 10_000));
}

#[test]
fn slices_are_named_by_their_place() {
    let parts = ["kubepods-minik8s", "burstable", "pod1b2c-3d"].map(str::to_string);
    assert_eq!(systemd::unit(&parts), "kubepods_minik8s-burstable-pod1b2c_3d.slice");
    assert_eq!(
        systemd::path(&parts),
        "kubepods_minik8s.slice/kubepods_minik8s-burstable.slice/kubepods_minik8s-burstable-pod1b2c_3d.slice"
    );
    assert_eq!(systemd::pod_uid(&systemd::unit(&parts)).as_deref(), Some("1b2c-3d"));
    assert_eq!(systemd::pod_uid("kubepods_minik8s-burstable.slice"), None);
    assert_eq!(systemd::pod_uid("cri-containerd-1.scope"), None);
}
