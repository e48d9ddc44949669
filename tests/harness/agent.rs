//! A node of its own, which joins a server as another machine does.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::cluster::{binary, signal};
use crate::leftovers::owned_directory;
use crate::{Cluster, Network, run, write_busybox_image};

/// A node of its own in the cluster's second namespace.
pub struct Agent {
    process: Option<Child>,
    folder: TempDir,
    name: String,
    /// What it shows to join; without one, nothing.
    token: Option<String>,
}

impl Agent {
    /// Starts an agent with the agents' token; returns at once.
    pub fn start(cluster: &Cluster, name: &str) -> Self {
        let token = fs::read_to_string(cluster.data_dir().join("server/agent-token")).expect("a token");
        Self::start_with_token(cluster, name, token.trim())
    }

    /// Starts an agent that shows this token; returns at once.
    pub fn start_with_token(cluster: &Cluster, name: &str, token: &str) -> Self {
        Self::start_at(&cluster.network, &Self::url(cluster), name, token)
    }

    /// The same with the server at this URL, in the network's second namespace.
    pub fn start_at(network: &Network, url: &str, name: &str, token: &str) -> Self {
        let folder = owned_directory("mk8s-agent-");
        let images = folder.path().join("data/agent/images");
        fs::create_dir_all(&images).expect("a directory for images");
        write_busybox_image(&images.join("busybox.tar")).expect("the busybox image");
        let mut agent =
            Agent { process: None, folder, name: name.to_string(), token: Some(token.to_string()) };
        agent.restart_at(network, url);
        agent
    }

    fn url(cluster: &Cluster) -> String {
        let kubeconfig = fs::read_to_string(cluster.kubeconfig()).expect("a kubeconfig");
        let port = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("server: https://127.0.0.1:"));
        format!("https://{}:{}", cluster.network.address(0), port.expect("a port"))
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("agent.log")).unwrap_or_default()
    }

    /// Has it show this token from its next start on, or none.
    pub fn set_token(&mut self, token: Option<&str>) {
        self.token = token.map(str::to_string);
    }

    /// Starts it again after [`Agent::kill`].
    pub fn restart(&mut self, cluster: &Cluster) {
        self.restart_at(&cluster.network, &Self::url(cluster));
    }

    /// The same with the server at this URL.
    pub fn restart_at(&mut self, network: &Network, url: &str) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("agent.log"))
            .expect("a log");
        let mut command = network.command(1, &binary());
        command.args(["agent", "--server", url, "--node-name", &self.name]);
        command.args(self.token.iter().flat_map(|token| ["--token", token]));
        command.args(["--kubelet-port", "0", "--data-dir"]).arg(self.data_dir());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.process = Some(command.spawn().expect("the agent"));
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            signal(&process, Signal::SIGKILL);
            let _ = process.wait();
        }
    }

    /// Removes the node's traces; must come before its namespace goes.
    pub fn remove(self, cluster: &Cluster) {
        self.remove_from(&cluster.network);
    }

    /// The same in this network.
    pub fn remove_from(mut self, network: &Network) {
        self.kill();
        run(network.command(1, &binary()).args(["uninstall", "--data-dir"]).arg(self.data_dir()), "").ok();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        // After a failed test: the namespace is still there, and everything else is found by name.
        let _ = run(Command::new(binary()).args(["uninstall", "--data-dir"]).arg(self.data_dir()), "");
    }
}
