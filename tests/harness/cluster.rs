//! A cluster made of the real binary: started, restarted, killed, asked, and removed whatever happens.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::leftovers::owned_directory;
use crate::network::pod_namespace;
use crate::tools::real_kubectl;
use crate::{CommandOutcome, Network, eventually, run, write_busybox_image};

/// The binary under test, which `tests/run.sh` (or `cargo build`) has built.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("MINIK8S_TEST_BINARY") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test.ancestors().nth(2).expect("tests are in target/PROFILE/deps");
    let path = folder.join("minik8s");
    assert!(path.exists(), "{} is missing: run 'cargo build --bin minik8s' first", path.display());
    path
}

/// How a cluster is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Run a node, with the busybox image.
    pub node: bool,
    /// Further flags.
    pub flags: Vec<String>,
}

/// A server in a namespace and a directory of its own.
pub struct Cluster {
    // Dropped in this order: processes are stopped in `drop`, then the namespaces go, then the files.
    server: Option<Child>,
    pub network: Network,
    folder: TempDir,
    options: Options,
    variables: Vec<(String, String)>,
}

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(60);

impl Cluster {
    /// A control plane without a node.
    pub fn control_plane() -> Self {
        Self::start_with(Options::default())
    }

    /// A server with its node, Ready, and with the busybox image.
    pub fn with_node() -> Self {
        let cluster = Self::start_with(Options { node: true, flags: Vec::new() });
        cluster.wait_until_ready();
        cluster
    }

    pub fn start_with(options: Options) -> Self {
        let mut cluster = Self::prepare(options);
        cluster.start();
        cluster
    }

    /// Everything but the running server.
    pub fn prepare(options: Options) -> Self {
        let folder = owned_directory("mk8s-test-");
        let cluster =
            Cluster { server: None, network: Network::new(), folder, options, variables: Vec::new() };
        if cluster.options.node {
            let images = cluster.data_dir().join("agent/images");
            fs::create_dir_all(&images).expect("a directory for images");
            write_busybox_image(&images.join("busybox.tar")).expect("the busybox image");
        }
        cluster
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The network namespace of a pod of this cluster's first node, by its address.
    #[track_caller]
    pub fn pod_namespace(&self, address: &str) -> PathBuf {
        pod_namespace(&self.instance_suffix(), address).expect("the pod's namespace")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("server/kubeconfig.yaml")
    }

    pub fn log_file(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// Gives the server a variable, from its next start on.
    pub fn set_variable(&mut self, name: &str, value: impl Into<String>) {
        self.variables.push((name.to_string(), value.into()));
    }

    /// A program in the cluster's network namespace.
    pub fn command(&self, program: &Path) -> Command {
        self.network.command(0, program)
    }

    /// A command of the binary in the cluster's namespace.
    pub fn minik8s(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&binary());
        command.args(arguments);
        command
    }

    fn server_command(&self) -> Command {
        let mut command = self.minik8s(&["server", "--data-dir"]);
        command.arg(self.data_dir()).args([
            "--https-listen-port",
            "0",
            "--kubelet-port",
            "0",
            "--node-name",
            "one",
        ]);
        if !self.options.node {
            command.arg("--disable-agent");
        }
        command.args(&self.options.flags);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Flags for the next start, beside those it was made with.
    pub fn add_flags(&mut self, flags: &[&str]) {
        self.options.flags.extend(flags.iter().map(|flag| flag.to_string()));
    }

    /// Starts the server and returns when `/readyz` is ok.
    pub fn start(&mut self) {
        assert!(self.server.is_none(), "the server is running");
        let _ = fs::remove_file(self.kubeconfig());
        let log = File::options().create(true).append(true).open(self.log_file()).expect("a log file");
        let mut command = self.server_command();
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.server = Some(command.spawn().expect("the server"));
        eventually("the server is ready", START_LIMIT, || {
            if let Ok(Some(status)) = self.server.as_mut().expect("a server").try_wait() {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            if !self.kubeconfig().exists() {
                return Err(self.log());
            }
            let outcome = self.kubectl(&["get", "--raw", "/readyz"]);
            if outcome.success { Ok(()) } else { Err(format!("{outcome}\n{}", self.log())) }
        });
    }

    /// Stops the server as a service manager would.
    pub fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        signal(&server, Signal::SIGTERM);
        eventually("the server stops", STOP_LIMIT, || match server.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}\n{}", self.log())),
        });
    }

    /// Kills the server without a warning.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        signal(&server, Signal::SIGKILL);
        let _ = server.wait();
    }

    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// kubectl as the administrator: the machine's own if there is one, else the bundled one.
    pub fn kubectl(&self, arguments: &[&str]) -> CommandOutcome {
        self.kubectl_with(arguments, "")
    }

    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> CommandOutcome {
        match real_kubectl() {
            Some(program) => self.run_kubectl(self.network.limited_command(0, &program), arguments, input),
            None => self.own_kubectl_with(arguments, input),
        }
    }

    /// One of [`kubectls`].
    pub fn kubectl_of(&self, program: &Path, arguments: &[&str], input: &str) -> CommandOutcome {
        self.run_kubectl(self.network.limited_command(0, program), arguments, input)
    }

    /// The bundled kubectl.
    pub fn own_kubectl(&self, arguments: &[&str]) -> CommandOutcome {
        self.own_kubectl_with(arguments, "")
    }

    pub fn own_kubectl_with(&self, arguments: &[&str], input: &str) -> CommandOutcome {
        let mut command = self.network.limited_command(0, &binary());
        command.arg("kubectl");
        self.run_kubectl(command, arguments, input)
    }

    fn run_kubectl(&self, mut command: Command, arguments: &[&str], input: &str) -> CommandOutcome {
        // kubectl caches discovery in the home directory.
        command.env("HOME", self.folder.path()).env("KUBECONFIG", self.kubeconfig());
        run(command.args(arguments), input)
    }

    /// An object as JSON.
    pub fn get(&self, what: &str, name: &str) -> Value {
        self.kubectl(&["get", what, name, "-o", "json"]).json()
    }

    /// Waits until a JSONPath of an object has the wanted value.
    #[track_caller]
    pub fn wait_for(&self, what: &str, name: &str, path: &str, wanted: &str) {
        let output = format!("jsonpath={path}");
        eventually(&format!("{what} {name} has {path} = {wanted:?}"), Duration::from_secs(60), || {
            let outcome = self.kubectl(&["get", what, name, "-o", &output]);
            if outcome.success && outcome.stdout == wanted {
                Ok(())
            } else {
                Err(self.explain(what, name, &outcome))
            }
        });
    }

    /// What is worth knowing when a wait fails.
    fn explain(&self, what: &str, name: &str, outcome: &CommandOutcome) -> String {
        let described = self.kubectl(&["get", what, name, "-o", "yaml"]);
        let events = self.kubectl(&["get", "events", "-A"]);
        let log = self.log();
        let tail: Vec<&str> = log.lines().rev().take(60).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        format!("{outcome}\n{described}\n{events}\n--- end of the server's log\n{}", tail.join("\n"))
    }

    #[track_caller]
    pub fn wait_until_ready(&self) {
        let ready = r#"{.status.conditions[?(@.type=="Ready")].status}"#;
        self.wait_for("node", "one", ready, "True");
        eventually("the default service account", Duration::from_secs(30), || {
            let outcome = self.kubectl(&["get", "serviceaccount", "default"]);
            if outcome.success { Ok(()) } else { Err(outcome.to_string()) }
        });
    }

    #[track_caller]
    pub fn wait_for_pod(&self, name: &str) {
        self.wait_for("pod", name, r#"{.status.conditions[?(@.type=="Ready")].status}"#, "True");
    }

    /// Waits until nothing of a kind is left that a selector matches.
    #[track_caller]
    pub fn wait_for_none(&self, what: &str, selector: &str) {
        eventually(&format!("no {what} with {selector}"), Duration::from_secs(90), || {
            let outcome = self.kubectl(&["get", what, "-l", selector, "-o", "name"]);
            if outcome.success && outcome.stdout.is_empty() { Ok(()) } else { Err(outcome.to_string()) }
        });
    }

    /// The suffix in the names of what the instance leaves in the kernel.
    pub fn instance_suffix(&self) -> String {
        use sha2::{Digest, Sha256};
        let data = self.data_dir().canonicalize().expect("a data directory");
        let hash = Sha256::digest(data.as_os_str().as_encoded_bytes());
        hash[..3].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Words that mark what is this instance's wherever it is: its name, its places, its sandboxes and their
    /// sockets.
    pub fn marks(&self) -> Vec<String> {
        let suffix = self.instance_suffix();
        let tasks =
            PathBuf::from(format!("/run/minik8s-{suffix}/containerd/io.containerd.runtime.v2.task/k8s.io"));
        let mut marks = vec![suffix, self.data_dir().display().to_string()];
        for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
            marks.push(task.file_name().to_string_lossy().into_owned());
            let address = fs::read_to_string(task.path().join("address")).unwrap_or_default();
            marks.extend(address.strip_prefix("unix://").map(|socket| socket.trim().to_string()));
        }
        marks
    }

    /// containerd outlives its server, and must not change what is being copied.
    fn kill_containerd(&self) {
        let config = self.data_dir().join("agent/containerd/config-").display().to_string();
        let argument = |pid: &str| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let is_ours = |pid: &String| String::from_utf8_lossy(&argument(pid)).contains(&config);
        let processes = || -> Vec<String> {
            let names = fs::read_dir("/proc").into_iter().flatten().flatten();
            let names = names.filter_map(|entry| entry.file_name().into_string().ok());
            names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).filter(is_ours).collect()
        };
        for pid in processes() {
            let _ = kill(Pid::from_raw(pid.parse().expect("a number")), Signal::SIGKILL);
        }
        eventually("containerd is gone", Duration::from_secs(20), || match processes() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("still there: {left:?}")),
        });
    }

    /// What a reboot does to a machine whose server is down: no process, mount or file of `/run` is left, the
    /// disk stays.
    pub fn forget_as_a_reboot_does(&mut self) {
        let kept = self.folder.path().join("kept");
        self.kill_containerd();
        // Uninstalling clears processes, mounts and `/run`; the disk is put back afterwards.
        let copied = run(Command::new("cp").arg("-a").arg(self.data_dir()).arg(&kept), "");
        copied.ok();
        self.uninstall().ok();
        fs::rename(&kept, self.data_dir()).expect("the disk as it was");
    }

    /// What a power cut does to it: a reboot, and the notes of the network plugins, which nobody syncs, are
    /// there without their content.
    pub fn forget_as_a_power_cut_does(&mut self) {
        const RESULTS: &str = "/var/lib/cni/results";
        let names = |folder: &Path| -> Vec<PathBuf> {
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        let results = names(Path::new(RESULTS));
        self.forget_as_a_reboot_does();
        fs::create_dir_all(RESULTS).expect("the plugins' notes");
        let gone = results.into_iter().filter(|path| !path.exists());
        let network = self.data_dir().join("agent/network");
        let addresses =
            names(&network.join("addresses")).iter().flat_map(|folder| names(folder)).collect::<Vec<_>>();
        let mut emptied = 0;
        for path in gone.chain(addresses) {
            fs::write(&path, "").expect("an emptied note");
            emptied += 1;
        }
        assert!(emptied > 0, "the plugins kept no notes");
        fs::write(network.join("boot"), "another boot\n").expect("the note of the boot");
    }

    /// Removes the instance as a user would.
    pub fn uninstall(&mut self) -> CommandOutcome {
        let outcome = run(self.minik8s(&["uninstall", "--data-dir"]).arg(self.data_dir()), "");
        if let Some(mut server) = self.server.take() {
            let _ = server.wait();
        }
        outcome
    }
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).expect("a process number");
    let _ = kill(Pid::from_raw(pid), signal);
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("MINIK8S_TEST_KEEP").is_some() {
            eprintln!("kept: {}", self.folder.path().display());
        }
        self.kill();
        let outcome = self.uninstall();
        if !outcome.success && !std::thread::panicking() {
            panic!("the instance is not removed: {outcome}");
        }
    }
}
