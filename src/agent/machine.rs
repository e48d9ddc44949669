//! What the machine offers and lacks: root, a default route, containerd, capabilities, overlayfs, CNI
//! plugins.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::Problem;

/// A node needs root: it makes mounts, namespaces and cgroups.
pub fn require_root(command: &str) -> Result<(), Problem> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(not_root("run a node", format!("run 'sudo {command}', or a server with --disable-agent")))
}

/// The same for what changes the machine.
pub(crate) fn require_root_to(what: &str, command: &str) -> Result<(), Problem> {
    if nix::unistd::geteuid().is_root() {
        Ok(())
    } else {
        Err(not_root(what, format!("run 'sudo {command}'")))
    }
}

fn not_root(what: &str, advice: String) -> Problem {
    Problem::new(what, "this is not root", advice)
}

/// The address that this machine uses towards the rest of the world.
pub fn default_address() -> Option<IpAddr> {
    // Connecting a datagram socket sends nothing; the kernel only picks the route and with it the address.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 0, 8), 9)).ok()?;
    let address = socket.local_addr().as_ref().map(SocketAddr::ip).ok()?;
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// Every address under which other machines may reach this one, in order; not those of the interface
/// `except`.
pub fn addresses(except: &str) -> Vec<IpAddr> {
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let storage = interface.address.filter(|_| interface.interface_name != except)?;
        match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
            (Some(four), _) => Some(IpAddr::from(four.ip())),
            (_, Some(six)) => Some(IpAddr::from(six.ip())),
            _ => None,
        }
    };
    let reachable = |address: &IpAddr| match address {
        IpAddr::V4(four) => !four.is_loopback() && !four.is_unspecified() && !four.is_link_local(),
        IpAddr::V6(six) => !six.is_loopback() && !six.is_unspecified() && !six.is_unicast_link_local(),
    };
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let mut found: Vec<IpAddr> = all.filter_map(address).filter(reachable).collect();
    found.sort();
    found.dedup();
    found
}

pub fn node_address(given: Option<IpAddr>) -> Result<IpAddr, Problem> {
    given.or_else(default_address).ok_or_else(|| {
        Problem::new(
            "find the node's address",
            "there is no default route",
            "add one, or give the address with --node-ip",
        )
    })
}

/// The host's name as Kubernetes wants a node's name: lower case, and nothing but letters, digits, `-` and
/// `.`.
pub(crate) fn default_node_name() -> Result<String, Problem> {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    check_node_name(&name.to_ascii_lowercase())
}

/// Refuses what cannot be a node's name (RFC 1123 subdomain).
pub(crate) fn check_node_name(name: &str) -> Result<String, Problem> {
    let label = |part: &str| {
        let edge =
            |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        edge(part.bytes().next()) && edge(part.bytes().last()) && part.bytes().all(inner)
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(name.to_string());
    }
    let why = "only lower case letters, digits, '-' and '.' may be in it";
    Err(Problem::new(format!("use {name:?} as the node's name"), why, "give another with --node-name"))
}

/// Lets this process have as many descriptors as the machine allows it: the usual soft limit of 1,024 is for
/// programs that use `select`, and a server has one for each connection.
pub(crate) fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| match soft < hard {
        true => setrlimit(Resource::RLIMIT_NOFILE, hard, hard),
        false => Ok(()),
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// How many descriptors this process may have once [`raise_descriptor_limit`] has done what it can.
pub(crate) fn descriptor_limit() -> Option<usize> {
    use nix::sys::resource::{Resource, getrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    usize::try_from(hard).ok()
}

/// Whether this process may lower `oom_score_adj`. Where it may not (in containers, for one), runc must not
/// try.
pub(crate) fn may_lower_oom_score() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_none_or(|bits| bits & (1 << CAP_SYS_RESOURCE) != 0)
}

/// Whether overlayfs works on the file system of `place`, found out by trying (it does not on another
/// overlay, say).
pub(crate) fn overlay_works(place: &Path) -> bool {
    let probe = place.join(".overlay-probe");
    let folder = |name: &str| probe.join(name);
    let works =
        ["lower", "upper", "work", "merged"].iter().all(|name| fs::create_dir_all(folder(name)).is_ok()) && {
            let options = format!(
                "lowerdir={},upperdir={},workdir={}",
                folder("lower").display(),
                folder("upper").display(),
                folder("work").display()
            );
            let merged = folder("merged");
            let mounted =
                mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()));
            if mounted.is_ok() {
                let _ = umount2(&merged, MntFlags::MNT_DETACH);
            }
            mounted.is_ok()
        };
    let _ = fs::remove_dir_all(&probe);
    works
}

/// Whether cgroups are systemd's to make: where it runs the machine, has version 2 of them to itself, and can
/// be asked. On version 1 several may write to the tree, and directories are made in it.
pub(crate) fn systemd_makes_cgroups() -> bool {
    let is_v2 = nix::sys::statfs::statfs("/sys/fs/cgroup")
        .is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC);
    is_v2
        && ["/run/systemd/system", "/run/dbus/system_bus_socket"].iter().all(|path| Path::new(path).exists())
}

/// A program on `PATH` or in the places of system programs.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual =
        ["/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// The pod network's tools: nft must be there, iptables only where pods have host ports.
pub(crate) fn require_network_tools() -> Result<(), Problem> {
    if find_program("iptables").is_none() {
        tracing::warn!(
            "iptables is not installed: ports of the host cannot be mapped to pods (apt-get install iptables)"
        );
    }
    match find_program("nft") {
        Some(_) => Ok(()),
        None => Err(Problem::new(
            "set up the pod network",
            "nft is not installed",
            "install it (apt-get install nftables)",
        )),
    }
}

/// The oldest containerd whose CRI is v1.
const OLDEST_CONTAINERD: (u32, u32) = (1, 6);

/// containerd, if it is there and new enough.
pub(crate) async fn find_containerd() -> Result<PathBuf, Problem> {
    let what = "run containers";
    let advice = "install containerd 1.6 or newer (apt-get install containerd runc containernetworking-plugins), \
                  or give a running one with --container-runtime-endpoint";
    let program = find_program("containerd")
        .ok_or_else(|| Problem::new(what, "containerd is not installed", advice))?;
    if find_program("runc").is_none() {
        return Err(Problem::new(what, "runc is not installed", advice));
    }
    let output = tokio::process::Command::new(&program).arg("--version").output().await;
    let output = output.map_err(|error| {
        Problem::new(what, format!("{} does not run: {error}", program.display()), advice)
    })?;
    if !output.status.success() {
        let why = format!("{} --version fails with {}", program.display(), output.status);
        return Err(Problem::new(what, why, advice));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match version_of(&text) {
        Some(version) if version < OLDEST_CONTAINERD => {
            let why = format!("containerd {}.{} is too old", version.0, version.1);
            Err(Problem::new(what, why, advice))
        }
        Some(_) => Ok(program),
        // A build of one's own may call itself anything.
        None => {
            tracing::warn!(output = text.trim(), "containerd's version is not understood; going on");
            Ok(program)
        }
    }
}

/// Major and minor number in `containerd github.com/containerd/containerd v1.6.20~ds1 …`.
fn version_of(text: &str) -> Option<(u32, u32)> {
    let word = text.split_whitespace().nth(2)?.trim_start_matches('v');
    let mut numbers = word.split(['.', '~', '-', '+']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests;
