//! Both versions' files, as the kernel writes them.

use std::collections::HashMap;
use std::fs;

use super::*;

fn write(directory: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(directory).unwrap();
    files.iter().for_each(|(name, text)| fs::write(directory.join(name), text).unwrap());
}

#[test]
fn version_2_has_one_directory() {
    let root = tempfile::tempdir().unwrap();
    let files = [
        ("cpu.stat", "usage_usec 2500\nuser_usec 2000\n"),
        ("memory.current", "5000\n"),
        ("memory.max", "max\n"),
        ("memory.stat", "anon 3000\ninactive_file 1000\npgfault 7\npgmajfault 2\n"),
        ("pids.current", "4\n"),
        ("cgroup.procs", "17\n18\n"),
    ];
    write(&root.path().join("kubepods/podu"), &files);
    let tree = Hierarchy::V2(root.path().to_path_buf());
    let usage = tree.usage("/kubepods/podu").unwrap();
    let expected = CgroupUsage {
        cpu: 2_500_000,
        memory: 5000,
        working_set: 4000,
        rss: 3000,
        page_faults: 7,
        major_page_faults: 2,
        memory_limit: None,
        processes: 4,
    };
    assert_eq!(usage, expected);
    assert_eq!(tree.process("kubepods/podu"), Some(17));
    assert_eq!(tree.usage("/kubepods/none"), None);
}

#[test]
fn version_1_has_one_for_each_controller() {
    let root = tempfile::tempdir().unwrap();
    let mounts: HashMap<String, PathBuf> = ["memory", "cpuacct", "pids"]
        .into_iter()
        .map(|name| (name.to_string(), root.path().join(name)))
        .collect();
    write(&mounts["cpuacct"].join("p"), &[("cpuacct.usage", "900\n")]);
    write(
        &mounts["memory"].join("p"),
        &[
            ("memory.usage_in_bytes", "5000\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.stat", "rss 1\ntotal_rss 2000\ntotal_inactive_file 6000\ntotal_pgfault 9\n"),
        ],
    );
    let usage = Hierarchy::V1(mounts).usage("p").unwrap();
    assert_eq!((usage.cpu, usage.memory, usage.working_set, usage.rss), (900, 5000, 0, 2000));
    assert_eq!((usage.memory_limit, usage.page_faults, usage.processes), (None, 9, 0));
}
