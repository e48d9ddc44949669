//! Bare machines: a distribution's smallest root in namespaces of its own, with nothing that `debootstrap`
//! does not bring.
//!
//! Everything is the machine's own (processes, mounts, host name, network, cgroups) but the kernel. Packages
//! come from the mirror that this machine uses, through a listener inside the machine's network namespace, so
//! that this machine's network is not changed.

use std::fs;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::leftovers::{owned_directory, remove_groups};
use crate::{CommandOutcome, Network, eventually, run};

/// Where this machine's packages come from, and a root made of them.
pub struct Distribution {
    host: String,
    base: PathBuf,
}

impl Distribution {
    /// That of this machine; the root is kept in `cache` for the next time. None where there is no
    /// debootstrap or no plain mirror: a test of bare machines cannot be had there, and says so.
    pub fn of_this_machine(cache: &Path) -> Option<Self> {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?.to_string();
        let program = ["/usr/sbin/debootstrap", "/usr/bin/debootstrap"]
            .into_iter()
            .find(|path| Path::new(path).exists())?;
        let targets = Command::new("apt-get")
            .args(["indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"])
            .output()
            .ok()?;
        let targets = String::from_utf8_lossy(&targets.stdout).into_owned();
        let mirror = targets
            .lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(_, of)| *of == suite)?
            .0
            .to_string();
        let host = mirror.strip_prefix("http://")?.split('/').next()?.to_string();
        let base = cache.join(format!("bare-{suite}"));
        if !base.exists() {
            let fresh = cache.join(format!("bare-{suite}.{}", std::process::id()));
            run(Command::new(program).args(["--variant=minbase", &suite]).arg(&fresh).arg(&mirror), "").ok();
            fs::rename(&fresh, &base).expect("a name for the finished root");
        }
        Some(Distribution { host, base })
    }
}

/// A running bare machine. Stopped and removed on drop, with everything in it.
pub struct Machine {
    unshare: Child,
    init: i32,
    group: String,
    root: TempDir,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Enters cgroups of the machine's own. `$1`: their name.
const ENTER_GROUPS: &str = r#"
for place in /sys/fs/cgroup /sys/fs/cgroup/*; do
  [ -e "$place/cgroup.procs" ] && [ ! -L "$place" ] || continue
  case $place in /sys/fs/cgroup) [ -e "$place/cgroup.controllers" ] || continue ;; esac
  mkdir -p "$place/$1" 2>/dev/null || continue
  for limit in cpus mems; do
    if [ -e "$place/cpuset.$limit" ] && [ -e "$place/$1/cpuset.$limit" ]; then
      cat "$place/cpuset.$limit" >"$place/$1/cpuset.$limit"
    fi
  done
  echo $$ >"$place/$1/cgroup.procs"
done
shift
exec "$@"
"#;

/// Process 1: makes the machine's mounts, then takes care of orphans. `$1`: the root; `$2`: the host's name.
const INIT: &str = r#"
set -e
hostname "$2"
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else
  grep -E ' cgroup2? ' /proc/mounts >.groups
  mount -t tmpfs tmpfs sys/fs/cgroup
  while read -r device point kind options rest; do
    case $point in /sys/fs/cgroup/*) ;; *) continue ;; esac
    mkdir -p ".$point"
    if [ "$kind" = cgroup2 ]; then mount -t cgroup2 cgroup2 ".$point"; continue; fi
    own=$(echo "$options" | tr , '\n' | grep -vE '^(rw|ro|nosuid|nodev|noexec|relatime|xattr|release_agent=.*)$' | tr '\n' , | sed 's/,$//')
    case $own in name=*) own=none,$own ;; esac
    mount -t cgroup -o "$own" cgroup ".$point"
  done <.groups
fi
mkdir .before
pivot_root . .before
umount -l /.before
rmdir /.before
touch /.booted
exec >/dev/null 2>&1
while :; do sleep 3600 & wait $!; done
"#;

impl Machine {
    /// Starts one at an end of a network, with the distribution's mirror within reach.
    pub fn boot(distribution: &Distribution, network: &Network, end: usize) -> Self {
        let root = owned_directory("mk8s-machine-");
        run(
            Command::new("cp").arg("-a").arg(format!("{}/.", distribution.base.display())).arg(root.path()),
            "",
        )
        .ok();
        let hosts = format!("127.0.0.1 localhost\n127.0.0.2 {}\n", distribution.host);
        fs::write(root.path().join("etc/hosts"), hosts).expect("a file of hosts");
        forward(network.path(end), &distribution.host);

        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let group = format!("mk8s-test-{}-{number}", std::process::id());
        let mut command = network.command(end, "sh".as_ref());
        command.args([
            "-c",
            ENTER_GROUPS,
            "sh",
            &group,
            "unshare",
            "--cgroup",
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            "--fork",
        ]);
        command
            .args(["--propagation", "private", "bash", "-c", INIT, "init"])
            .arg(root.path())
            .arg(format!("bare-{number}"));
        let log = fs::File::create(root.path().join("boot.log")).expect("a log");
        let log_too = log.try_clone().expect("a second handle");
        let mut unshare =
            command.stdin(Stdio::null()).stdout(log).stderr(log_too).spawn().expect("a machine");
        let init = eventually("the machine has started", Duration::from_secs(30), || {
            let said = || fs::read_to_string(root.path().join("boot.log")).unwrap_or_default();
            assert!(matches!(unshare.try_wait(), Ok(None)), "the machine does not start: {}", said());
            let pid = unshare.id();
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            let child = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
            child.filter(|_| root.path().join(".booted").exists()).ok_or_else(said)
        });
        Machine { unshare, init, group, root }
    }

    /// A path of the machine as this machine sees it; not for what is mounted there.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.path().join(inside.trim_start_matches('/'))
    }

    /// Runs a shell line in it, with nothing of this machine's environment.
    pub fn sh(&self, line: &str) -> CommandOutcome {
        let mut command = Command::new("timeout");
        command.args([
            "300",
            "sh",
            "-c",
            ENTER_GROUPS,
            "sh",
            &self.group,
            "nsenter",
            "--target",
            &self.init.to_string(),
            "--all",
        ]);
        command.args([
            "env",
            "-i",
            "HOME=/root",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ]);
        run(command.args(["sh", "-c", line]), "")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With its process 1 go all others of the machine, and with them its mounts.
        let _ = kill(Pid::from_raw(self.init), Signal::SIGKILL);
        let _ = self.unshare.wait();
        remove_groups(&self.group);
    }
}

/// Port 80 of 127.0.0.2 in the namespace leads to port 80 of `host` as this machine reaches it, until the
/// process ends.
fn forward(namespace: PathBuf, host: &str) {
    let target = (host, 80).to_socket_addrs().expect("the mirror's address").next().expect("an address");
    // Only this thread enters the namespace; the socket stays in it.
    let listener = std::thread::spawn(move || {
        let namespace = fs::File::open(namespace).expect("a network namespace");
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("root");
        TcpListener::bind(("127.0.0.2", 80)).expect("port 80 of a new namespace")
    });
    let listener = listener.join().expect("a listener");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let Ok(server) = TcpStream::connect(target) else { return };
                let (Ok(from), Ok(to)) = (server.try_clone(), client.try_clone()) else { return };
                let back = std::thread::spawn(move || pass(from, to));
                pass(client, server);
                let _ = back.join();
            });
        }
    });
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Write);
}
