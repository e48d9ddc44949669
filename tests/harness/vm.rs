//! Virtual machines: a whole Debian with its own kernel, systemd as process 1 and cgroup version 2, whose
//! power can be cut.
//!
//! Emulated, because a machine in a data centre seldom offers more: a boot takes about a minute. The machine
//! has no network but the port that it is reached by; everything it needs is in its image.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::leftovers::owned_directory;
use crate::{CommandOutcome, eventually, run};

const PACKAGES: &str = "systemd-sysv,dbus,udev,linux-image-cloud-amd64,iproute2,ifupdown,openssh-server,curl,\
                        containerd,runc,containernetworking-plugins,nftables,iptables,procps";

/// The addresses of the emulator's own network; its router leads nowhere, but a node wants to have one.
const INTERFACES: &str = "auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet static\n  address 10.0.2.15/24\n  gateway 10.0.2.2\n";

/// How long an emulated machine may take to do what a real one does in seconds.
const BOOT_TIMEOUT: Duration = Duration::from_secs(300);

/// A virtual machine, running or with its power cut. Removed on drop.
pub struct VirtualMachine {
    qemu: Child,
    port: u16,
    folder: TempDir,
}

impl VirtualMachine {
    /// Makes and boots a machine. `root` is made with debootstrap if it is not there yet; `files` are put
    /// into `/opt`. None where the tools for it are not there.
    pub fn boot(root: &Path, files: &[(&str, &Path)]) -> Option<Self> {
        let tools = ["qemu-system-x86_64", "debootstrap", "mkfs.ext4", "ssh", "ssh-keygen"];
        let there = |name: &&str| {
            ["/usr/bin", "/usr/sbin", "/sbin"].iter().any(|folder| Path::new(folder).join(name).exists())
        };
        if !cfg!(target_arch = "x86_64") || !tools.iter().all(there) {
            return None;
        }
        if !root.exists() {
            make_root(root);
        }
        let folder = owned_directory("mk8s-machine-");
        let own = folder.path().join("root");
        run(Command::new("cp").arg("-a").arg(root).arg(&own), "").ok();
        run(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.path().join("key")),
            "",
        )
        .ok();
        fs::create_dir_all(own.join("root/.ssh")).expect("a folder for the key");
        fs::copy(folder.path().join("key.pub"), own.join("root/.ssh/authorized_keys")).expect("the key");
        for (name, file) in files {
            fs::copy(file, own.join("opt").join(name)).expect("a file for the machine");
        }
        let disk = folder.path().join("disk");
        let file = fs::File::create(&disk).and_then(|file| file.set_len(8 << 30));
        file.expect("a disk");
        run(Command::new("mkfs.ext4").arg("-q").arg("-d").arg(&own).arg(&disk), "").ok();
        for (pattern, name) in [("vmlinuz-", "kernel"), ("initrd.img-", "initrd")] {
            fs::copy(found(&own.join("boot"), pattern), folder.path().join(name)).expect("a kernel");
        }
        fs::remove_dir_all(&own).expect("the root is on the disk");
        let port = free_port();
        let qemu = power_on(folder.path(), port);
        let machine = VirtualMachine { qemu, port, folder };
        machine.wait_for_boot();
        Some(machine)
    }

    fn wait_for_boot(&self) {
        eventually("the machine has booted", BOOT_TIMEOUT, || {
            let outcome = self.sh("true");
            if outcome.success { Ok(()) } else { Err(outcome.to_string()) }
        });
    }

    /// Runs a shell line in it.
    pub fn sh(&self, line: &str) -> CommandOutcome {
        let mut command = Command::new("ssh");
        command.arg("-i").arg(self.folder.path().join("key")).args(["-p", &self.port.to_string()]);
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=20",
            "ServerAliveInterval=20",
        ] {
            command.args(["-o", option]);
        }
        run(command.args(["root@127.0.0.1", line]), "")
    }

    /// Takes the power away: what its kernel has not brought to the disk is lost. Then boots again.
    pub fn cut_power(&mut self) {
        self.qemu.kill().expect("the emulator runs");
        let _ = self.qemu.wait();
        self.qemu = power_on(self.folder.path(), self.port);
        self.wait_for_boot();
    }
}

impl Drop for VirtualMachine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn make_root(root: &Path) {
    let fresh = root.with_extension(std::process::id().to_string());
    let mut command = Command::new("debootstrap");
    command.arg("--variant=minbase").arg(format!("--include={PACKAGES}")).arg("bookworm").arg(&fresh);
    run(&mut command, "").ok();
    let etc = |name: &str, text: &str| fs::write(fresh.join("etc").join(name), text).expect("a file of /etc");
    etc("hostname", "vm\n");
    etc("hosts", "127.0.0.1 localhost\n127.0.1.1 vm\n");
    etc("network/interfaces", INTERFACES);
    etc("fstab", "/dev/vda / ext4 defaults 0 1\n");
    fs::rename(&fresh, root).expect("a name for the finished root");
}

/// The file of a folder whose name begins so.
fn found(folder: &Path, prefix: &str) -> PathBuf {
    let names = fs::read_dir(folder).expect("a folder").flatten();
    let mut fitting = names.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    fitting.next().expect("a file of that name").path()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its number").port()
}

fn power_on(folder: &Path, port: u16) -> Child {
    let path = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3072", "-display", "none"])
        .args(["-serial", &format!("file:{}", path("console"))])
        .args(["-kernel", &path("kernel"), "-initrd", &path("initrd")])
        .args(["-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0"])
        // Past this machine's page cache, so that a sync in the machine is one on the disk.
        .args(["-drive", &format!("file={},if=virtio,format=raw,cache=none", path("disk"))])
        .args(["-netdev", &format!("user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22")])
        .args(["-device", "virtio-net-pci,netdev=n"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the emulator")
}
