//! Facts of the machine, read once at start, and of its disk, memory and processes, read when asked.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::images;
use crate::spec::amount::Resources;

/// Left to the node itself by upstream's hard eviction threshold `memory.available<100Mi`.
const MEMORY_RESERVE: u64 = 100 * 1024 * 1024;

#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) cpus: u64,
    /// Bytes.
    pub(crate) memory: u64,
    pub(crate) disk: u64,
    /// Bytes by page size as resources name it, such as `2Mi`.
    pub(crate) huge_pages: BTreeMap<String, u64>,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
    pub(crate) swap: u64,
}

/// A file system, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disk {
    pub(crate) total: u64,
    /// What may be used at all: the whole less what the file system keeps back for itself. `df` counts so
    /// too.
    pub(crate) usable: u64,
    pub(crate) available: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
}

pub(crate) fn disk(path: &Path) -> Option<Disk> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    let unit = stat.fragment_size();
    Some(Disk {
        total: stat.blocks() * unit,
        usable: (stat.blocks() - stat.blocks_free() + stat.blocks_available()) * unit,
        available: stat.blocks_available() * unit,
        inodes: stat.files(),
        inodes_free: stat.files_free(),
    })
}

fn line(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_string()
}

/// Bytes of a line of `/proc/meminfo`.
pub(crate) fn meminfo(text: &str, key: &str) -> u64 {
    let line = text.lines().find(|line| line.split(':').next() == Some(key));
    let kib: Option<u64> =
        line.and_then(|line| line.split_whitespace().nth(1)).and_then(|word| word.parse().ok());
    kib.unwrap_or(0) * 1024
}

pub(crate) fn available_memory() -> u64 {
    meminfo(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemAvailable")
}

/// Processes that exist and that may exist.
pub(crate) fn processes() -> Option<(u64, u64)> {
    let loads = line("/proc/loadavg");
    let running = loads.split_whitespace().nth(3)?.split('/').nth(1)?.parse().ok()?;
    let most = line("/proc/sys/kernel/pid_max").parse().ok()?;
    Some((running, most))
}

impl Machine {
    pub(crate) fn read(data_dir: &Path) -> Self {
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count() as u64;
        let os_release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let pretty = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        let machine_id = [line("/etc/machine-id"), line("/var/lib/dbus/machine-id")];
        let uuid = [line("/sys/class/dmi/id/product_uuid"), line("/proc/device-tree/vm,uuid")];
        let machine_id = machine_id.into_iter().find(|id| !id.is_empty()).unwrap_or_default();
        let system_uuid = uuid.into_iter().find(|id| !id.is_empty()).unwrap_or_else(|| machine_id.clone());
        Machine {
            cpus: cpus.max(1),
            memory: meminfo(&memory, "MemTotal"),
            swap: meminfo(&memory, "SwapTotal"),
            disk: disk(data_dir).map_or(0, |disk| disk.total),
            huge_pages: huge_pages(),
            machine_id,
            system_uuid,
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel: line("/proc/sys/kernel/osrelease"),
            os_image: pretty.map_or_else(|| "Unknown".to_string(), |name| name.trim_matches('"').to_string()),
        }
    }

    pub(crate) fn architecture() -> &'static str {
        images::architecture()
    }

    pub(crate) fn capacity(&self, max_pods: u32) -> Resources {
        let mut list = Resources::new();
        let mut put = |name: &str, text: String| list.insert(name.to_string(), Quantity(text));
        put("cpu", self.cpus.to_string());
        put("memory", format!("{}Ki", self.memory / 1024));
        put("ephemeral-storage", format!("{}Ki", self.disk / 1024));
        put("pods", max_pods.to_string());
        for (size, bytes) in &self.huge_pages {
            put(
                &format!("hugepages-{size}"),
                if *bytes == 0 { "0".into() } else { format!("{}Ki", bytes / 1024) },
            );
        }
        list
    }

    /// Capacity less what the thresholds of hard eviction keep free: 100 Mi of memory and a tenth of the
    /// disk.
    pub(crate) fn allocatable(&self, max_pods: u32) -> Resources {
        let mut list = self.capacity(max_pods);
        let huge: u64 = self.huge_pages.values().sum();
        let memory = self.memory.saturating_sub(MEMORY_RESERVE).saturating_sub(huge);
        list.insert("memory".to_string(), Quantity(format!("{}Ki", memory / 1024)));
        list.insert("ephemeral-storage".to_string(), Quantity((self.disk / 10 * 9).to_string()));
        list
    }
}

fn huge_pages() -> BTreeMap<String, u64> {
    let mut pages = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return pages };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(kib) = name.strip_prefix("hugepages-").and_then(|rest| rest.strip_suffix("kB")) else {
            continue;
        };
        let Ok(kib) = kib.parse::<u64>() else { continue };
        let count: u64 = std::fs::read_to_string(entry.path().join("nr_hugepages"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        let size = match kib {
            kib if kib % (1024 * 1024) == 0 => format!("{}Gi", kib / 1024 / 1024),
            kib if kib % 1024 == 0 => format!("{}Mi", kib / 1024),
            kib => format!("{kib}Ki"),
        };
        pages.insert(size, count * kib * 1024);
    }
    pages
}
