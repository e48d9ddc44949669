//! Servers of one cluster, each with an address of its own in one namespace.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use minik8s_tests::{CommandOutcome, Network, binary, eventually, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

pub(super) const LIMIT: Duration = Duration::from_secs(90);

/// Servers without nodes, each with an address of its own in one namespace.
pub(super) struct Servers {
    pub(super) servers: Vec<Server>,
    pub(super) network: Arc<Network>,
}

pub(super) struct Server {
    pub(super) process: Option<Child>,
    pub(super) folder: TempDir,
    pub(super) network: Arc<Network>,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) flags: Vec<String>,
    /// Its namespace in the network.
    pub(super) end: usize,
}

impl Server {
    pub(super) fn new(network: &Arc<Network>, number: usize) -> Server {
        let address = match number {
            0 => network.address(0),
            _ => format!("192.168.77.{}", 10 + number),
        };
        if number > 0 {
            network.ip(0, &["address", "add", &format!("{address}/24"), "dev", "eth0"]);
        }
        let folder = tempfile::Builder::new().prefix("mk8s-servers-").tempdir().expect("a directory");
        Server {
            process: None,
            folder,
            network: network.clone(),
            name: format!("server-{number}"),
            address,
            flags: Vec::new(),
            end: 0,
        }
    }

    /// One in a namespace of its own.
    pub(super) fn at(network: &Arc<Network>, end: usize) -> Server {
        let folder = tempfile::Builder::new().prefix("mk8s-servers-").tempdir().expect("a directory");
        let (name, address) = (format!("server-{end}"), network.address(end));
        Server { process: None, folder, network: network.clone(), name, address, flags: Vec::new(), end }
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}:6443", self.address)
    }

    /// Where etcd's API is.
    pub(super) fn etcd(&self) -> String {
        format!("{}:2379", self.address)
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(super) fn token(&self) -> String {
        fs::read_to_string(self.data_dir().join("server/token")).expect("a token").trim().to_string()
    }

    pub(super) fn command(&self) -> std::process::Command {
        let mut command = self.network.command(self.end, &binary());
        command.args(["server", "--disable-agent", "--etcd-listen", &self.etcd(), "--node-name", &self.name]);
        command.args(["--bind-address", &self.address, "--snapshot-schedule-cron", "off", "--data-dir"]);
        command.arg(self.data_dir()).args(&self.flags);
        command
    }

    /// Starts it; returns at once.
    pub(super) fn spawn(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log"));
        let log = log.expect("a log");
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.process = Some(command.spawn().expect("the server"));
    }

    pub(super) fn wait(&mut self) {
        eventually(&format!("{} is ready", self.name), LIMIT, || {
            if let Ok(Some(status)) = self.process.as_mut().expect("a process").try_wait() {
                panic!("{} ended with {status}:\n{}", self.name, self.log());
            }
            let outcome = self.kubectl(&["get", "--raw", "/readyz"], "");
            if outcome.success { Ok(()) } else { Err(format!("{outcome}\n{}", self.log())) }
        });
    }

    pub(super) fn signal(&mut self, signal: Signal) {
        let Some(mut process) = self.process.take() else { return };
        let pid = Pid::from_raw(i32::try_from(process.id()).expect("a pid"));
        let _ = kill(pid, signal);
        let _ = process.wait();
    }

    /// Stops the process where it is, or lets it go on.
    pub(super) fn pause(&self, pause: bool) {
        let process = self.process.as_ref().expect("a process");
        let pid = Pid::from_raw(i32::try_from(process.id()).expect("a pid"));
        kill(pid, if pause { Signal::SIGSTOP } else { Signal::SIGCONT }).expect("a running process");
    }

    pub(super) fn kubectl(&self, arguments: &[&str], input: &str) -> CommandOutcome {
        let mut command = self.network.limited_command(self.end, &binary());
        let config = self.data_dir().join("server/kubeconfig.yaml");
        command.arg("kubectl").args(arguments).env("HOME", self.folder.path()).env("KUBECONFIG", config);
        run(&mut command, input)
    }

    pub(super) fn minik8s(&self, arguments: &[&str]) -> CommandOutcome {
        let mut command = self.network.limited_command(self.end, &binary());
        run(command.args(arguments).arg("--data-dir").arg(self.data_dir()), "")
    }

    pub(super) fn members(&self) -> Vec<Value> {
        let listed = self.minik8s(&["server", "list", "--json"]).json();
        listed.as_array().expect("a list").clone()
    }

    pub(super) fn create(&self, name: &str) -> CommandOutcome {
        self.kubectl(&["create", "configmap", name], "")
    }

    /// Creates it at last. On a machine that is busy enough the group may find no majority in time and says
    /// so: whether it has been written is then not known, and who wants it asks again.
    pub(super) fn created(&self, name: &str) {
        let mut unknown = false;
        eventually("it is written", LIMIT, || {
            let outcome = self.create(name);
            let written = outcome.success || unknown && outcome.stderr.contains("already exists");
            unknown |= outcome.stderr.contains("no quorum");
            match (written, unknown) {
                (true, _) => Ok(()),
                (false, true) => Err(outcome.stderr),
                (false, false) => panic!("{outcome}"),
            }
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        // Before its data directory, by which everything of it is found.
        let _ = self.minik8s(&["uninstall"]);
    }
}

impl Servers {
    /// One server that is ready.
    pub(super) fn one() -> Servers {
        let network = Arc::new(Network::new());
        let mut first = Server::new(&network, 0);
        first.spawn();
        first.wait();
        Servers { servers: vec![first], network }
    }

    /// A further one, which joins the first with this token; not started.
    pub(super) fn prepare(&self, token: &str) -> Server {
        let mut server = Server::new(&self.network, self.servers.len());
        server.flags = ["--server", &self.servers[0].url(), "--token", token].map(str::to_string).to_vec();
        server
    }

    pub(super) fn join(&mut self) {
        let mut server = self.prepare(&self.servers[0].token());
        server.spawn();
        server.wait();
        self.servers.push(server);
    }

    pub(super) fn three() -> Servers {
        let mut servers = Self::one();
        servers.join();
        servers.join();
        servers
    }

    /// The server that leads, as one that runs says.
    pub(super) fn leader(&self, asked: usize) -> usize {
        eventually("somebody leads", LIMIT, || {
            let members = self.servers[asked].members();
            let leader = members.iter().find(|member| member["role"] == "leader");
            let name = leader.and_then(|leader| leader["name"].as_str()).unwrap_or_default();
            self.servers.iter().position(|server| server.name == name).ok_or_else(|| format!("{members:?}"))
        })
    }
}
