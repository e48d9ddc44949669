//! What an instance could leave on a machine: a picture before and one after must be the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::{Network, run};

/// Mounts, cgroups, processes, files in shared places, and a namespace's interfaces, routes and rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces(BTreeSet<String>);

fn cgroups(folder: &Path, depth: usize, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            into.insert(format!("cgroup {}", entry.path().display()));
            if depth > 0 {
                cgroups(&entry.path(), depth - 1, into);
            }
        }
    }
}

impl Traces {
    /// What there is now, as far as it concerns nodes.
    pub fn take(network: &Network) -> Self {
        let mut all = BTreeSet::new();
        for line in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
            all.extend(line.split(' ').nth(4).map(|point| format!("mount {point}")));
        }
        cgroups(Path::new("/sys/fs/cgroup"), 2, &mut all);
        for folder in [
            "/run",
            "/run/containerd",
            "/run/containerd/s",
            "/run/netns",
            "/var/lib/cni",
            "/var/lib/cni/results",
            "/etc",
            "/opt",
            "/etc/cni",
            "/var/lib",
            "/var/log",
        ] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                all.insert(format!("file {}", entry.path().display()));
            }
        }
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if ["containerd", "minik8s server", "minik8s agent", "/pause"]
                .iter()
                .any(|name| line.contains(name))
            {
                all.insert(format!("process {line}"));
            }
        }
        for (program, arguments) in [
            ("ip", &["-o", "link"][..]),
            ("ip", &["route"][..]),
            ("nft", &["list", "ruleset"][..]),
            ("sysctl", &["net.ipv4.ip_forward"][..]),
        ] {
            let outcome = run(network.command(0, Path::new(program)).args(arguments), "");
            // Interfaces are numbered anew.
            let lines = outcome
                .stdout
                .lines()
                .map(|line| line.split_once(": ").map_or(line, |(_, rest)| rest).to_string());
            all.extend(lines.map(|line| format!("{OWN_NETWORK} {program} {line}")));
        }
        Traces(all)
    }

    /// What is here and not in `before`, as far as it is of the namespace or names one of `marks`: other
    /// clusters may be at work on the machine.
    pub fn beyond(&self, before: &Traces, marks: &[String]) -> Vec<String> {
        let mine =
            |line: &&String| line.starts_with(OWN_NETWORK) || marks.iter().any(|mark| line.contains(mark));
        self.0.difference(&before.0).filter(mine).cloned().collect()
    }
}

/// Begins lines about the test's own namespace.
const OWN_NETWORK: &str = "network:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_differ_by_what_is_new() {
        let before = Traces(["a".to_string()].into());
        let after = Traces(["a".to_string(), "mine 1".to_string(), "other".to_string()].into());
        assert_eq!(after.beyond(&before, &["mine".to_string()]), ["mine 1"]);
    }
}
