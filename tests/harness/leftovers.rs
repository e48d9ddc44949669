//! What earlier runs left that were killed before they could tidy up: found by the process in its name, and
//! removed.
//!
//! Namespaces, cgroups and directories of tests are called `mk8s-…-PID-…` after the process that made them;
//! directories have the process and its start time in a file, for numbers of processes come again. Only what
//! belongs to a process that is gone is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

use crate::{binary, eventually, run};

/// In every directory of a test: `PID START` of its process.
const OWNER: &str = ".owner";

/// When a process started, in ticks since boot; none if there is no such process.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// A directory for a test that says whose it is.
pub(crate) fn owned_directory(prefix: &str) -> tempfile::TempDir {
    sweep_once();
    let folder = tempfile::Builder::new().prefix(prefix).tempdir().expect("a temporary directory");
    let pid = std::process::id();
    fs::write(folder.path().join(OWNER), format!("{pid} {}", start_time(pid).unwrap_or_default()))
        .expect("a note");
    folder
}

/// Whether the process that a note names is gone.
fn is_orphaned(note: &str) -> bool {
    let mut words = note.split_whitespace().map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(start))) = (words.next(), words.next()) else { return false };
    u32::try_from(pid).is_ok_and(|pid| start_time(pid) != Some(start))
}

/// The process in `mk8s-test-PID-…`, if it is gone.
fn orphaned_name(name: &str) -> bool {
    let pid = name
        .strip_prefix("mk8s-test-")
        .and_then(|rest| rest.split('-').next())
        .and_then(|pid| pid.parse().ok());
    pid.is_some_and(|pid| start_time(pid).is_none())
}

/// Removes leftovers, once a run. Two runs that start at the same time may both try: what is gone already is
/// fine.
pub(crate) fn sweep_once() {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| sweep(&std::env::temp_dir()));
}

fn names_in(folder: &Path) -> Vec<String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn sweep(temporary: &Path) {
    let spaces: Vec<String> =
        names_in(Path::new("/run/netns")).into_iter().filter(|name| orphaned_name(name)).collect();
    for name in names_in(temporary) {
        let folder = temporary.join(&name);
        let note = fs::read_to_string(folder.join(OWNER)).unwrap_or_default();
        if !name.starts_with("mk8s-") || !is_orphaned(&note) {
            continue;
        }
        eprintln!("removing {}, which a test that was killed has left", folder.display());
        kill_machine(&folder);
        remove_instance(&folder.join("data"), &spaces);
        let _ = fs::remove_dir_all(&folder);
    }
    for name in &spaces {
        let _ = Command::new("ip").args(["netns", "delete", name]).status();
    }
    for place in group_places() {
        for name in names_in(&place).iter().filter(|name| orphaned_name(name)) {
            remove_groups(name);
        }
    }
}

/// A bare machine's process 1 has the machine's root as its own.
fn kill_machine(root: &Path) {
    if !root.join(".booted").exists() {
        return;
    }
    let wanted = fs::metadata(root).map(|it| inode(&it)).ok();
    for name in names_in(Path::new("/proc")) {
        let Ok(pid) = name.parse::<i32>() else { continue };
        if wanted.is_some() && fs::metadata(format!("/proc/{pid}/root/")).map(|it| inode(&it)).ok() == wanted
        {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

fn inode(metadata: &fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// An instance is removed as a user would, from wherever its node ran.
fn remove_instance(data: &Path, spaces: &[String]) {
    if !data.exists() {
        return;
    }
    for space in spaces {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{space}")).arg("--").arg(binary());
        let _ = command.args(["uninstall", "--data-dir"]).arg(data).output();
    }
    // What is noted of a network that is gone must not be undone in this one.
    let _ = fs::remove_dir_all(data.join("agent/network"));
    let _ = Command::new(binary()).args(["uninstall", "--data-dir"]).arg(data).output();
}

/// The places where cgroups are: every version 1 hierarchy, and version 2's.
fn group_places() -> Vec<PathBuf> {
    let top = PathBuf::from("/sys/fs/cgroup");
    let mut places: Vec<PathBuf> =
        names_in(&top).into_iter().map(|name| top.join(name)).filter(|place| place.is_dir()).collect();
    places.push(top);
    places
}

/// Removes the cgroups of that name, whose processes have been killed.
pub(crate) fn remove_groups(name: &str) {
    for place in group_places() {
        let group = place.join(name);
        if !group.is_dir() {
            continue;
        }
        eventually("a cgroup is left by its processes", Duration::from_secs(10), || {
            run(
                Command::new("find").arg(&group).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]),
                "",
            );
            if group.exists() { Err(group.display().to_string()) } else { Ok(()) }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_the_dead_is_orphaned() {
        let me = std::process::id();
        let start = start_time(me).expect("this process has started");
        assert!(!is_orphaned(&format!("{me} {start}")));
        assert!(is_orphaned(&format!("{me} {}", start + 1)), "the number was given to another");
        assert!(!is_orphaned(""), "whose it is is not known");
        assert!(!orphaned_name(&format!("mk8s-test-{me}-0a")));
        assert!(orphaned_name("mk8s-test-4194305-0a"), "above the highest number there can be");
        assert!(!orphaned_name("mk8s-test-x-0a") && !orphaned_name("other-4194305"));
    }

    #[test]
    fn directories_of_the_dead_are_removed_and_others_stay() {
        let folder = tempfile::tempdir().expect("a directory");
        for (name, note) in
            [("mk8s-test-dead", "4194305 1"), ("mk8s-test-unknown", ""), ("precious", "4194305 1")]
        {
            fs::create_dir(folder.path().join(name)).expect("a directory");
            fs::write(folder.path().join(name).join(OWNER), note).expect("a note");
        }
        sweep(folder.path());
        let mut left = names_in(folder.path());
        left.sort();
        assert_eq!(left, ["mk8s-test-unknown", "precious"]);
    }
}
