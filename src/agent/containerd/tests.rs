//! The generated configuration.

use std::path::Path;

use super::*;

#[test]
fn the_configuration_keeps_everything_in_places_of_the_instance() {
    let settings = Settings {
        config_dir: "/d/agent/containerd".into(),
        root: "/d/agent/containerd/root".into(),
        run_dir: "/run/x".into(),
        state: "/run/x/containerd".into(),
        socket: "/run/x/containerd.sock".into(),
        log: "/d/agent/containerd.log".into(),
        cni_conf_dir: "/d/agent/cni".into(),
        cni_bin_dir: "/usr/lib/cni".into(),
        registries: "/d/agent/registries".into(),
        sandbox_image: "minik8s/pause:1".into(),
        snapshotter: "overlayfs",
        systemd_cgroup: true,
        restrict_oom_score_adj: true,
    };
    let text = settings.text();
    for line in [
        "root = \"/d/agent/containerd/root\"",
        "state = \"/run/x/containerd\"",
        "address = \"/run/x/containerd.sock\"",
        "SystemdCgroup = true",
        "restrict_oom_score_adj = true",
        "Root = \"/run/x/containerd/runc\"",
        "conf_dir = \"/d/agent/cni\"",
    ] {
        assert!(text.contains(line), "{line} is missing in {text}");
    }
    assert!(!text.contains("/var/lib/containerd") && !text.contains("/run/containerd"));
}

#[test]
fn nothing_runs_on_a_configuration_that_nobody_wrote() {
    assert!(processes_of(Path::new("/nowhere/containerd")).is_empty());
}
