//! What the processes of a cgroup have used, read from its files. A file that is not there counts as
//! nothing.

use std::path::{Path, PathBuf};

use super::tree::Hierarchy;

/// Cumulative, but for what is in use now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CgroupUsage {
    /// Nanoseconds of processor time.
    pub(crate) cpu: u64,
    /// Bytes; page cache that could go is not in the working set.
    pub(crate) memory: u64,
    pub(crate) working_set: u64,
    pub(crate) rss: u64,
    pub(crate) page_faults: u64,
    pub(crate) major_page_faults: u64,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) processes: u64,
}

fn number(directory: &Path, file: &str) -> Option<u64> {
    std::fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok()
}

/// The number after a word at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

impl Hierarchy {
    fn directory(&self, controller: &str, cgroup: &str) -> Option<PathBuf> {
        let cgroup = cgroup.trim_start_matches('/');
        match self {
            Hierarchy::V1(mounts) => Some(mounts.get(controller)?.join(cgroup)),
            Hierarchy::V2(root) => Some(root.join(cgroup)),
        }
    }

    /// `None` if there is no such cgroup.
    pub(crate) fn usage(&self, cgroup: &str) -> Option<CgroupUsage> {
        let is_v2 = matches!(self, Hierarchy::V2(_));
        let memory = self.directory("memory", cgroup).filter(|directory| directory.is_dir())?;
        let stat = std::fs::read_to_string(memory.join("memory.stat")).unwrap_or_default();
        let of = |name: &str| field(&stat, name).unwrap_or(0);
        let mut usage = CgroupUsage::default();
        let inactive = if is_v2 {
            let cpu = std::fs::read_to_string(memory.join("cpu.stat")).unwrap_or_default();
            usage.cpu = field(&cpu, "usage_usec").unwrap_or(0).saturating_mul(1000);
            usage.memory = number(&memory, "memory.current").unwrap_or(0);
            usage.memory_limit = number(&memory, "memory.max");
            usage.rss = of("anon");
            of("inactive_file")
        } else {
            let cpu = self.directory("cpuacct", cgroup);
            usage.cpu = cpu.and_then(|directory| number(&directory, "cpuacct.usage")).unwrap_or(0);
            usage.memory = number(&memory, "memory.usage_in_bytes").unwrap_or(0);
            // Without a limit the file has the largest number of whole pages.
            usage.memory_limit =
                number(&memory, "memory.limit_in_bytes").filter(|limit| *limit < i64::MAX as u64 / 2);
            usage.rss = of("total_rss");
            of("total_inactive_file")
        };
        usage.working_set = usage.memory.saturating_sub(inactive);
        let total = if is_v2 { "" } else { "total_" };
        usage.page_faults = of(&format!("{total}pgfault"));
        usage.major_page_faults = of(&format!("{total}pgmajfault"));
        let pids = self.directory("pids", cgroup);
        usage.processes = pids.and_then(|directory| number(&directory, "pids.current")).unwrap_or(0);
        Some(usage)
    }

    /// A process of a cgroup.
    pub(crate) fn process(&self, cgroup: &str) -> Option<u32> {
        let directory = self.directory("memory", cgroup)?;
        let text = std::fs::read_to_string(directory.join("cgroup.procs")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests;
