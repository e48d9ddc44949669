//! What `install.sh` put on the machine for an instance: service units, the program, links.
//!
//! `install.sh` notes the data directory and every file it makes, one a line; only those are removed.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::instance::DEFAULT_DATA_DIR;
use crate::{Instance, machine};

/// Written by `install.sh`.
const NOTE: &str = "/etc/minik8s/installed-files";

/// Packages that `install.sh` may have installed.
const PACKAGES: &[&str] = &[
    "containerd",
    "runc",
    "containernetworking-plugins",
    "nftables",
    "iptables",
    "iproute2",
    "protobuf-compiler",
    "libprotobuf-dev",
];

fn noted(instance: &Instance) -> Vec<PathBuf> {
    let text = fs::read_to_string(NOTE).unwrap_or_default();
    let of = text.lines().find_map(|line| line.strip_prefix("# data-dir ")).unwrap_or(DEFAULT_DATA_DIR);
    if !Instance::of(Path::new(of)).is_ok_and(|noted| noted == *instance) {
        return Vec::new();
    }
    text.lines().filter(|line| line.starts_with('/')).map(PathBuf::from).collect()
}

pub(super) async fn run(program: &str, arguments: &[&str]) {
    if machine::find_program(program).is_some() {
        // A service manager that does not know the unit, or does not run, has nothing to stop.
        let _ = Command::new(program).args(arguments).output().await;
    }
}

/// Tells the service manager, lest it start again what is being removed.
pub(super) async fn stop(instance: &Instance) {
    for file in noted(instance) {
        let unit = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if file.starts_with("/etc/systemd") {
            run("systemctl", &["disable", "--now", &unit]).await;
        } else if file.starts_with("/etc/init.d") {
            run("rc-service", &[&unit, "stop"]).await;
            run("rc-update", &["del", &unit]).await;
        }
    }
}

/// Removes the files that were noted, then the note.
pub(super) fn remove(instance: &Instance) -> Vec<String> {
    let files = noted(instance);
    let mut left = Vec::new();
    for file in &files {
        let gone = fs::remove_file(file);
        if let Err(error) = gone
            && error.kind() != std::io::ErrorKind::NotFound
        {
            left.push(format!("{}: {error}", file.display()));
        }
    }
    if !files.is_empty() && left.is_empty() {
        let _ = fs::remove_file(NOTE);
        let _ = fs::remove_dir(Path::new(NOTE).parent().unwrap_or(Path::new("/nonexistent")));
    }
    left
}

/// Which of the packages that the installation needs are there.
pub(super) fn distribution_packages() -> Vec<String> {
    let is_installed = |name: &&&str| {
        let lists =
            [format!("/var/lib/dpkg/info/{name}.list"), format!("/var/lib/dpkg/info/{name}:amd64.list")];
        lists.iter().any(|list| Path::new(list).exists())
    };
    PACKAGES.iter().filter(is_installed).map(|name| name.to_string()).collect()
}
