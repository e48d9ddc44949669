//! What `install.sh` put on the machine for an instance: service units, the program, links.
//!
//! `install.sh` notes the data directory and every file it makes, one a line; only those are removed. A line
//! that ends with a slash is a directory that it made: removed if nothing is left in it.

use std::fs;
use std::io::ErrorKind;
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
    "curl",
    "ca-certificates",
    "gcc",
    "libc6-dev",
    "protobuf-compiler",
    "libprotobuf-dev",
];

/// The data directory that the installer was told of; none if it has not run.
pub(crate) fn installed_data_dir() -> Option<PathBuf> {
    fs::read_to_string(NOTE).ok().map(|text| PathBuf::from(data_dir_in(&text)))
}

fn data_dir_in(note: &str) -> &str {
    note.lines().find_map(|line| line.strip_prefix("# data-dir ")).unwrap_or(DEFAULT_DATA_DIR)
}

pub(crate) fn noted(instance: &Instance) -> Vec<PathBuf> {
    let text = fs::read_to_string(NOTE).unwrap_or_default();
    let of = data_dir_in(&text);
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

/// Removes what was noted, files first, then the note.
pub(super) async fn remove(instance: &Instance) -> Vec<String> {
    let noted = noted(instance);
    let (folders, files): (Vec<&PathBuf>, Vec<&PathBuf>) =
        noted.iter().partition(|path| path.as_os_str().as_encoded_bytes().ends_with(b"/"));
    let removals = files.into_iter().map(|file| (file, fs::remove_file(file)));
    let removals = removals.chain(folders.into_iter().rev().map(|folder| (folder, fs::remove_dir(folder))));
    let fine = [ErrorKind::NotFound, ErrorKind::DirectoryNotEmpty];
    let left: Vec<String> = removals
        .filter_map(|(path, gone)| {
            gone.err().filter(|error| !fine.contains(&error.kind())).map(|error| (path, error))
        })
        .map(|(path, error)| format!("{}: {error}", path.display()))
        .collect();
    if noted.iter().any(|path| path.starts_with("/etc/systemd")) {
        run("systemctl", &["daemon-reload"]).await;
    }
    if !noted.is_empty() && left.is_empty() {
        let _ = fs::remove_file(NOTE);
        let _ = fs::remove_dir(Path::new(NOTE).parent().unwrap_or(Path::new("/nonexistent")));
    }
    left
}

/// Which of the packages that the installation needs are there.
pub(super) fn distribution_packages() -> Vec<String> {
    let is_installed = |name: &&&str| {
        let lists = ["", ":amd64", ":arm64"].map(|suffix| format!("/var/lib/dpkg/info/{name}{suffix}.list"));
        lists.iter().any(|list| Path::new(list).exists())
    };
    PACKAGES.iter().filter(is_installed).map(|name| name.to_string()).collect()
}
