//! containerd's configuration file.
//!
//! Version 2 of the format: 1.6 and 1.7 know no other, 2.x converts it when it reads it.

use std::path::PathBuf;

/// Everything that tells one containerd from another.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where generated configurations are.
    pub config_dir: PathBuf,
    /// Images, snapshots and metadata; kept over a reboot.
    pub root: PathBuf,
    /// The instance's directory for what a reboot clears.
    pub run_dir: PathBuf,
    /// State of running containers; in that directory.
    pub state: PathBuf,
    pub socket: PathBuf,
    pub log: PathBuf,
    pub cni_conf_dir: PathBuf,
    pub cni_bin_dir: PathBuf,
    /// `NAME/hosts.toml` for mirrors and private registries, as containerd documents it.
    pub registries: PathBuf,
    pub sandbox_image: String,
    /// `overlayfs` or `native`.
    pub snapshotter: &'static str,
    /// Whether systemd makes the cgroups of containers.
    pub systemd_cgroup: bool,
    /// For where `oom_score_adj` may not be lowered.
    pub restrict_oom_score_adj: bool,
}

/// A TOML string.
fn quoted(text: impl std::fmt::Display) -> String {
    serde_json::Value::String(text.to_string()).to_string()
}

impl Settings {
    pub(super) fn text(&self) -> String {
        let path = |path: &PathBuf| quoted(path.display());
        format!(
            r#"# Written by minik8s at every start.
version = 2
root = {root}
state = {state}
disabled_plugins = [
  "io.containerd.internal.v1.tracing",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = {socket}

[plugins."io.containerd.internal.v1.opt"]
  path = {opt}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {sandbox_image}
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = {restrict}
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {cni_bin}
    conf_dir = {cni_conf}

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = {registries}

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = {snapshotter}
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = {systemd_cgroup}
        Root = {runc}
"#,
            root = path(&self.root),
            state = path(&self.state),
            socket = path(&self.socket),
            opt = path(&self.root.join("opt")),
            sandbox_image = quoted(&self.sandbox_image),
            restrict = self.restrict_oom_score_adj,
            cni_bin = path(&self.cni_bin_dir),
            cni_conf = path(&self.cni_conf_dir),
            registries = path(&self.registries),
            systemd_cgroup = self.systemd_cgroup,
            snapshotter = quoted(self.snapshotter),
            runc = path(&self.state.join("runc")),
        )
    }
}
