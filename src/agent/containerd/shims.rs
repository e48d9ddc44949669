//! The shims of an instance, and the end of those that its containerd does not know.
//!
//! A shim holds a pod. It and the pod outlive containerd, which finds them again by its records; if these
//! were moved away or are older than the pod, containerd forgets the pod and leaves it running: nobody shows
//! it, and its addresses are given to others. So what runs and is not known is ended whenever containerd has
//! come up, before the kubelet makes a pod.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{self, Process};
use crate::uninstall::kernel;

/// The CRI's namespace in containerd.
const NAMESPACE: &str = "k8s.io";

/// A running shim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shim {
    pub(crate) pid: i32,
    /// The sandbox that it was started for.
    id: String,
}

/// The shims that the containerd of this socket in `run_dir` has started.
pub(crate) fn of(run_dir: &Path, socket: &Path) -> Vec<Shim> {
    let socket = socket.display().to_string();
    let pids = process::find(run_dir, |arguments| sandbox_of(arguments, &socket).is_some());
    let shims = pids.into_iter().filter_map(|pid| {
        let id = sandbox_of(&process::arguments(pid), &socket)?;
        Some(Shim { pid, id })
    });
    shims.collect()
}

/// The sandbox of a shim of the containerd of this socket; none if it is none.
fn sandbox_of(arguments: &[String], socket: &str) -> Option<String> {
    let (program, flags) = arguments.split_first()?;
    let value = |flag: &str| {
        let at = flags.iter().position(|argument| argument == flag)?;
        flags.get(at + 1)
    };
    let is_ours = program.contains("containerd-shim")
        && value("-address").is_some_and(|address| address == socket)
        && value("-namespace").is_some_and(|namespace| namespace == NAMESPACE);
    is_ours.then(|| value("-id").cloned().unwrap_or_default())
}

/// Ends the pods that containerd does not know. `run_dir` is the instance's.
pub(super) async fn end_unknown(run_dir: &Path, socket: &Path, network: &network::Config) {
    // In this order: whatever is started meanwhile is known before its shim runs.
    let shims = of(run_dir, socket);
    if shims.is_empty() {
        return;
    }
    let known = match kubelet::known_containers(socket).await {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(%error, "containerd does not tell its containers: pods that it does not know run on");
            return;
        }
    };
    for shim in shims.into_iter().filter(|shim| !known.contains(&shim.id)) {
        tracing::warn!(sandbox = %shim.id, "a pod runs that containerd has no record of: it is ended");
        let id = shim.id.clone();
        for left in end(shim, run_dir).await {
            tracing::warn!(sandbox = %id, "{left}");
        }
        for left in network::forget_sandbox(network, &id).await {
            tracing::warn!(sandbox = %id, "{left}");
        }
    }
}

/// Ends a pod with its shim, and unmounts what it had; a sentence for each thing that is left.
async fn end(shim: Shim, run_dir: &Path) -> Vec<String> {
    const ROUNDS: usize = 20;
    let mut marks = Marks { names: [shim.id.clone()].into(), ..Marks::default() };
    let sockets = sockets_of(shim.pid);
    // A process may fork while it is looked for.
    for _ in 0..ROUNDS {
        let below = descendants(&parents(), shim.pid);
        if below.is_empty() {
            break;
        }
        for pid in below {
            marks.note(pid);
            if let Some(process) = Process::open(pid) {
                process.kill().await;
            }
        }
    }
    if let Some(process) = Process::open(shim.pid) {
        process.kill().await;
    }
    for socket in sockets {
        let _ = fs::remove_file(socket);
    }
    kernel::unmount(|mount| marks.cover(mount, run_dir))
}

/// By what a pod's mounts are known.
#[derive(Debug, Default)]
struct Marks {
    /// Its uid, and the ids of its sandbox and containers: all of them random.
    names: BTreeSet<String>,
    /// Its network namespaces, as the kernel writes them.
    namespaces: BTreeSet<String>,
}

impl Marks {
    /// Notes what a process of the pod tells.
    fn note(&mut self, pid: i32) {
        let namespace = |who: &str| fs::read_link(format!("/proc/{who}/ns/net")).ok();
        if let Some(own) = namespace(&pid.to_string())
            && namespace("self").is_some_and(|ours| ours != own)
        {
            self.namespaces.insert(own.display().to_string());
        }
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        self.names.extend(groups.lines().flat_map(names_in));
    }

    fn cover(&self, mount: &kernel::Mount, run_dir: &Path) -> bool {
        let is_namespace = self.namespaces.contains(&mount.root) && mount.point.starts_with(run_dir);
        let is_named = |part: std::path::Component<'_>| {
            part.as_os_str().to_str().is_some_and(|part| self.names.contains(part))
        };
        is_namespace || mount.point.components().any(is_named)
    }
}

/// The uid of a pod and the id of a container in a line of a process's cgroups, whoever has made these:
/// `…/podUID/ID`, or `…-podUID.slice/cri-containerd-ID.scope` with `_` for `-` in the uid.
fn names_in(line: &str) -> Vec<String> {
    let path = line.rsplit(':').next().unwrap_or_default();
    let Some((above, last)) = path.rsplit_once('/') else { return Vec::new() };
    let group = above.rsplit('/').next().unwrap_or_default();
    let (uid, id) = match group.strip_suffix(".slice").and_then(|slice| slice.rsplit_once("-pod")) {
        Some((_, uid)) => (
            Some(uid.replace('_', "-")),
            last.strip_suffix(".scope").and_then(|scope| scope.rsplit('-').next()),
        ),
        None => (group.strip_prefix("pod").map(str::to_string), Some(last)),
    };
    // Short names would be no marks.
    let names = uid.into_iter().chain(id.map(str::to_string));
    names.filter(|name| name.len() >= 32).collect()
}

/// Who has started whom, of the processes that have not ended.
fn parents() -> BTreeMap<i32, i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parent = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in brackets, may hold anything.
        let mut words = stat.rsplit_once(')')?.1.split_whitespace();
        let has_ended = matches!(words.next()?, "Z" | "X");
        let parent = words.next()?.parse().ok()?;
        (!has_ended).then_some((pid, parent))
    };
    pids.filter_map(parent).collect()
}

/// All that a process has started, directly or not.
fn descendants(parents: &BTreeMap<i32, i32>, of: i32) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    loop {
        let is_new = |(pid, parent): &(&i32, &i32)| {
            (**parent == of || found.contains(*parent)) && !found.contains(*pid)
        };
        let more: Vec<i32> = parents.iter().filter(is_new).map(|(pid, _)| *pid).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// The files of the sockets that a shim listens on, whose place outside our directories is fixed.
fn sockets_of(pid: i32) -> Vec<PathBuf> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    let inodes: BTreeSet<String> = links
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_string()))
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    let own = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let inode = words.nth(6)?;
        let path = words.next()?;
        (inodes.contains(inode) && path.starts_with("/run/containerd/s/")).then(|| PathBuf::from(path))
    });
    own.collect()
}

#[cfg(test)]
mod tests;
