//! `kubectl proxy` in a cluster's namespace, and curl through it: for requests that kubectl itself makes in
//! its own way.

use std::process::{Child, Stdio};

use crate::{Cluster, CommandOutcome, kubectls, run};

/// Ended on drop.
pub struct KubectlProxy<'a> {
    cluster: &'a Cluster,
    port: u16,
    child: Child,
}

impl<'a> KubectlProxy<'a> {
    /// Of the machine's own kubectl, if it has one, and of the bundled one.
    pub fn each(cluster: &'a Cluster) -> impl Iterator<Item = Self> {
        let bundled = [false, true].into_iter().filter(|bundled| *bundled || !kubectls().is_empty());
        bundled.map(move |bundled| Self::start(cluster, bundled))
    }

    fn start(cluster: &'a Cluster, bundled: bool) -> Self {
        let mut command =
            if bundled { cluster.minik8s(&["kubectl"]) } else { cluster.command("kubectl".as_ref()) };
        let port = if bundled { 8081 } else { 8080 };
        command
            .args(["proxy", "--port", &port.to_string()])
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("HOME", cluster.folder());
        let child = command.stdout(Stdio::null()).spawn().expect("kubectl starts");
        KubectlProxy { cluster, port, child }
    }

    /// Asks for a path of the API, with further arguments of curl.
    pub fn curl(&self, path: &str, arguments: &[&str]) -> CommandOutcome {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        run(self.cluster.command("curl".as_ref()).arg("-sS").args(arguments).arg(url), "")
    }
}

impl Drop for KubectlProxy<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
