//! `minik8s uninstall`: leaves the machine as it was before the instance of a data directory came.
//!
//! Works on what is there, not on what was noted: after kill -9 or a half-done uninstall it finds the rest.
//! Everything is found by the instance's name or places; nothing of others is touched. Distribution packages
//! stay and are listed.

pub(crate) mod kernel;
pub(crate) mod service;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, FromArgMatches};

use crate::claim::NodeClaim;
use crate::command::{finish, print, run_to_end};
use crate::containerd::{self, shims};
use crate::flags::{self, Stop};
use crate::instance::DEFAULT_DATA_DIR;
use crate::node::{containerd_config_dir, network_names};
use crate::process::Process;
use crate::{Instance, Problem, machine};

#[derive(Args, Clone, Debug)]
pub struct UninstallArgs {
    /// The instance to remove
    #[arg(long, short = 'd', env = "MINIK8S_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
}

/// The command's description, for parsing, help and completion.
pub fn clap_command(name: &'static str) -> clap::Command {
    UninstallArgs::augment_args(
        clap::Command::new(name).about("Stop an instance and remove all it has left on this machine"),
    )
}

/// Runs `minik8s uninstall`.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let command = clap_command("minik8s uninstall");
    let outcome = flags::parse(command, arguments, Path::new("/nonexistent")).and_then(|matches| {
        let arguments =
            UninstallArgs::from_arg_matches(&matches).map_err(|error| Problem::plain(error.to_string()))?;
        machine::require_root_to("uninstall", "minik8s uninstall")?;
        let instance = Instance::of(&arguments.data_dir)?;
        check(&instance)?;
        run_to_end(async {
            let left = uninstall(&instance).await;
            report(&instance, &left)
        })
        .map_err(Stop::from)
    });
    finish("minik8s uninstall", outcome)
}

/// A directory that is not ours is not removed.
fn check(instance: &Instance) -> Result<(), Problem> {
    let folder = instance.data_dir();
    let is_empty = fs::read_dir(folder).map(|mut entries| entries.next().is_none()).unwrap_or(true);
    let is_ours = ["lock", "server", "agent"].iter().any(|name| folder.join(name).exists());
    if is_ours || is_empty {
        return Ok(());
    }
    let why = "it is not a data directory of minik8s";
    Err(Problem::new(format!("remove {}", folder.display()), why, "give the right one with --data-dir"))
}

const SERVER_GRACE: Duration = Duration::from_secs(60);

/// Everything, in the order that leaves nobody without what it needs: processes, mounts, network, cgroups,
/// files. Answers with a sentence for each thing that could not be removed.
async fn uninstall(instance: &Instance) -> Vec<String> {
    let mut left = Vec::new();
    service::stop(instance).await;
    if let Some(process) = instance.holder().and_then(Process::open) {
        process.stop(SERVER_GRACE).await;
    }
    containerd::stop_all(&containerd_config_dir(instance)).await;
    let sockets = shim_sockets(&instance.run_dir());
    kill_shims(instance).await;
    let slice = kubelet::pods_slice(&instance.pods_cgroup());
    for cgroup in [&instance.pods_cgroup(), &slice] {
        kernel::kill_cgroup(cgroup).await;
    }
    // systemd removes what it has made, slices below it too.
    service::run("systemctl", &["stop", &slice]).await;
    left.extend(kernel::unmount_below(&[instance.data_dir().to_path_buf(), instance.run_dir()]));
    let network = network_names(instance);
    // Another node here has taken over what all nodes of a namespace use.
    let claim = NodeClaim::try_take(instance);
    left.extend(network::clean_up(&network, claim.is_ok()).await);
    if claim.is_ok() {
        network::restore_forwarding(&network);
    }
    left.extend(kernel::remove_cgroup(&instance.pods_cgroup()));
    left.extend(remove_kubeconfig(instance));
    for socket in sockets {
        let _ = fs::remove_file(socket);
    }
    // Gone only if empty: another containerd may use them.
    for shared in ["/run/containerd/s", "/run/containerd"] {
        let _ = fs::remove_dir(shared);
    }
    for folder in [instance.run_dir(), instance.data_dir().to_path_buf()] {
        left.extend(kernel::remove_folder(&folder).err().map(|error| error.to_string()));
    }
    left.extend(service::remove(instance).await);
    left
}

async fn kill_shims(instance: &Instance) {
    for shim in shims::of(&instance.run_dir(), &instance.containerd_socket()) {
        if let Some(process) = Process::open(shim.pid) {
            process.kill().await;
        }
    }
}

/// The sockets of the shims, whose place outside our directories is fixed; each bundle notes its own.
fn shim_sockets(run_dir: &Path) -> Vec<PathBuf> {
    let tasks = run_dir.join("containerd/io.containerd.runtime.v2.task");
    let namespaces = fs::read_dir(tasks).into_iter().flatten().flatten();
    let bundles =
        namespaces.flat_map(|namespace| fs::read_dir(namespace.path()).into_iter().flatten().flatten());
    let addresses = bundles.filter_map(|bundle| fs::read_to_string(bundle.path().join("address")).ok());
    addresses.filter_map(|address| address.trim().strip_prefix("unix://").map(PathBuf::from)).collect()
}

/// The file that this instance's server noted as having written, if it is still that server's.
fn remove_kubeconfig(instance: &Instance) -> Option<String> {
    let note = instance.server_dir().join("kubeconfig-path");
    let path = PathBuf::from(fs::read_to_string(note).ok()?.trim());
    let ca = fs::read_to_string(instance.server_dir().join("tls/server-ca.crt")).ok()?;
    let text = fs::read_to_string(&path).ok()?;
    if !text.contains(&base64_of(ca.as_bytes())) {
        return None;
    }
    let removed = fs::remove_file(&path);
    if let Some(folder) = path.parent().filter(|folder| *folder == Path::new("/etc/minik8s")) {
        let _ = fs::remove_dir(folder);
    }
    removed.err().map(|error| format!("{}: {error}", path.display()))
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// How many of the things that are left are named.
const MENTIONED: usize = 3;

fn report(instance: &Instance, left: &[String]) -> Result<(), Problem> {
    if !left.is_empty() {
        // One line that can be read, whatever happened.
        let more = left.len().saturating_sub(MENTIONED);
        let mut why = left.iter().take(MENTIONED).cloned().collect::<Vec<_>>().join("; ");
        if more > 0 {
            why.push_str(&format!("; and {more} more"));
        }
        return Err(Problem::new(
            format!("remove all of {}", instance.name()),
            why,
            "remove the rest by hand, or run this again",
        ));
    }
    let mut text = format!("{} is removed.\n", instance.data_dir().display());
    let packages = service::distribution_packages();
    if !packages.is_empty() {
        text.push_str(&format!("These distribution packages stay: {}\n", packages.join(" ")));
    }
    print(&text)
}
