//! Network namespaces of the tests' own, with an address and a default route, linked in pairs or as a star.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::run;

/// Namespaces on one wire: `192.168.77.1` in the first, `192.168.77.2` in the second and so on. Gone on drop.
pub struct Network {
    names: Vec<String>,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments), "").ok();
}

impl Network {
    #[expect(clippy::new_without_default, reason = "it changes the machine")]
    pub fn new() -> Self {
        let network = Self::of(2);
        let (a, b) = (&network.names[0], &network.names[1]);
        ip(&["-n", a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b]);
        for (index, name) in [a, b].into_iter().enumerate() {
            ip(&["-n", name, "link", "set", "lo", "up"]);
            ip(&["-n", name, "address", "add", &format!("192.168.77.{}/24", index + 1), "dev", "eth0"]);
            ip(&["-n", name, "link", "set", "eth0", "up"]);
            ip(&[
                "-n",
                name,
                "route",
                "add",
                "default",
                "via",
                &format!("192.168.77.{}", 2 - index),
                "dev",
                "eth0",
            ]);
        }
        network
    }

    /// So many namespaces around a first one, which has a bridge and sees everything.
    pub fn star(ends: usize) -> Self {
        let network = Self::of(ends + 1);
        let hub = &network.names[0];
        ip(&["-n", hub, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", hub, "link", "set", "lo", "up"]);
        ip(&["-n", hub, "address", "add", &format!("{}/24", network.address(0)), "dev", "br0"]);
        ip(&["-n", hub, "link", "set", "br0", "up"]);
        for (end, name) in network.names.iter().enumerate().skip(1) {
            let port = format!("port{end}");
            ip(&["-n", hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", name]);
            ip(&["-n", hub, "link", "set", &port, "master", "br0", "up"]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
            ip(&["-n", name, "address", "add", &format!("{}/24", network.address(end)), "dev", "eth0"]);
            ip(&["-n", name, "link", "set", "eth0", "up"]);
            ip(&["-n", name, "route", "add", "default", "via", &network.address(0), "dev", "eth0"]);
        }
        network
    }

    fn of(count: usize) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let letters = ('a'..='z').take(count);
        let names: Vec<String> =
            letters.map(|end| format!("mk8s-test-{}-{number}{end}", std::process::id())).collect();
        for name in &names {
            ip(&["netns", "add", name]);
        }
        Network { names }
    }

    /// Has a namespace hear nothing of these addresses from now on, nor of others that it did not hear.
    pub fn deafen(&self, end: usize, to: &[String]) {
        let mut rules = "add table inet cut\nadd chain inet cut input \
                         { type filter hook input priority -300; }\n"
            .to_string();
        for address in to {
            rules.push_str(&format!("add rule inet cut input ip saddr {address} drop\n"));
        }
        run(self.command(end, "nft".as_ref()).args(["-f", "-"]), &rules).ok();
    }

    /// Has it hear everybody again.
    pub fn heal(&self, end: usize) {
        run(
            self.command(end, "nft".as_ref()).args(["-f", "-"]),
            "add table inet cut\ndelete table inet cut\n",
        )
        .ok();
    }

    /// Address in the first (0) namespace, the second (1) and so on.
    pub fn address(&self, end: usize) -> String {
        format!("192.168.77.{}", end + 1)
    }

    /// The namespace's file.
    pub fn path(&self, end: usize) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.names[end])
    }

    /// Changes one of the namespaces with `ip`.
    pub fn ip(&self, end: usize, arguments: &[&str]) {
        ip(&[&["-n", &self.names[end]], arguments].concat());
    }

    /// A port that is taken in one of the namespaces for as long as the listener lives.
    pub fn listen(&self, end: usize, address: &str) -> TcpListener {
        let (namespace, address) = (File::open(self.path(end)).expect("the namespace"), address.to_string());
        let listening = std::thread::spawn(move || {
            // This thread alone goes there; its sockets stay there.
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("the namespace");
            TcpListener::bind(address).expect("a free port")
        });
        listening.join().expect("a listener")
    }

    /// A program that runs in one of the namespaces. (`ip netns exec` would hide the cgroups.)
    pub fn command(&self, end: usize, program: &std::path::Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path(end).display())).arg("--").arg(program);
        command
    }

    /// As [`Network::command`], for programs that must end by themselves: one that hangs is ended, with
    /// status 124.
    pub fn limited_command(&self, end: usize, program: &std::path::Path) -> Command {
        let mut command = self.command(end, "timeout".as_ref());
        command.arg("150").arg(program);
        command
    }
}

/// Does something in a network namespace, on a thread of its own that ends with it.
pub fn in_namespace<T: Send + 'static>(path: &Path, task: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(path).expect("the namespace");
    let working = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("the namespace");
        task()
    });
    working.join().expect("an outcome")
}

/// What HTTP answers to a GET in a namespace, without its headers.
pub fn fetch(path: &Path, address: &str, page: &str) -> io::Result<String> {
    let (address, page) = (address.to_string(), page.to_string());
    in_namespace(path, move || {
        let limit = Duration::from_secs(5);
        let address: SocketAddr = address.parse().expect("an address and a port");
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        write!(stream, "GET {page} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let answer = answer.replace("\r\n", "\n");
        let (head, body) = answer.split_once("\n\n").unwrap_or((&answer, ""));
        match head.split_whitespace().nth(1) {
            Some("200") => Ok(body.trim_end().to_string()),
            _ => Err(io::Error::other(answer)),
        }
    })
}

/// The namespace of a pod of one instance, by its address: other instances have pods with the same one.
pub(crate) fn pod_namespace(instance: &str, address: &str) -> Option<PathBuf> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let own = format!("|-- {address}");
    let has_it = |trie: String| {
        let lines: Vec<&str> = trie.lines().map(str::trim).collect();
        lines.windows(2).any(|pair| pair == [own.as_str(), "/32 host LOCAL"])
    };
    processes
        .filter(|process| fs::read_to_string(process.join("net/fib_trie")).is_ok_and(has_it))
        .filter(|process| is_child_of_shim(process, instance))
        .map(|process| process.join("ns/net"))
        .next()
}

/// Whether the process is a container's first: its parent is a shim, which names the instance's containerd.
fn is_child_of_shim(process: &Path, instance: &str) -> bool {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let Some(parent) = status.lines().find_map(|line| line.strip_prefix("PPid:")) else { return false };
    let command = fs::read(Path::new("/proc").join(parent.trim()).join("cmdline")).unwrap_or_default();
    let directory = format!("/run/minik8s-{instance}/");
    String::from_utf8_lossy(&command).split('\0').any(|word| word.starts_with(&directory))
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            let outcome = run(Command::new("ip").args(["netns", "delete", name]), "");
            if !outcome.success {
                eprintln!("{outcome}");
            }
        }
    }
}
