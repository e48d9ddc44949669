//! `minik8s simulate`: many nodes in one process, for clusters larger than the machine.
//!
//! The nodes are hollow ([`kubelet::hollow`]): the real kubelet over the real API, without containers. With a
//! kubeconfig they share a few connections and act through it as themselves (impersonation), so that
//! thousands fit; with a token each joins as an agent does, with certificates and connections of its own.
//! They are not removed from the API when the command ends, as no node is: `kubectl delete node -l
//! minik8s.io/simulated=true`.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, FromArgMatches};
use client::kubeconfig::{Loaded, Overrides, Places};
use client::{HttpsApi, ObjectApi};
use futures::StreamExt;
use kubelet::hollow::{HollowConfig, Script};
use supervisor::{Stage, Supervisor};
use tokio::sync::watch;

use crate::command::{finish, run_to_end, serve_until_stopped};
use crate::flags::{self, Stop};
use crate::problem::chain;
use crate::servers::KnownServers;
use crate::{Instance, Problem, VERSION, join, logging, machine};

/// Marks simulated nodes.
const LABEL: &str = "minik8s.io/simulated";
/// Nodes that are started at a time; the next ones wait until one of these is Ready.
const AT_A_TIME: usize = 32;
/// Nodes that share a connection: few enough for what they send at once to fit into what a server lets a
/// connection have unread.
const NODES_PER_CONNECTION: u32 = 25;

#[derive(Args, Clone, Debug)]
pub struct SimulateArgs {
    /// How many nodes
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    nodes: u32,
    /// Names of the nodes are this and a number
    #[arg(long, value_name = "PREFIX", default_value = "hollow-")]
    name_prefix: String,
    /// Number of the first node, for several such commands on one cluster
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    first: u32,
    /// Kubeconfig of an administrator [default: as kubectl's]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "token"])]
    kubeconfig: Option<PathBuf>,
    /// Server to join by token, such as https://192.0.2.1:6443
    #[arg(long, short = 's', env = "MINIK8S_URL", value_name = "URL", requires = "token")]
    server: Option<String>,
    /// Token to join with
    #[arg(
        long,
        short = 't',
        env = "MINIK8S_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        requires = "server"
    )]
    token: Option<String>,
    /// Where nodes that join by token keep their certificates
    #[arg(long, short = 'd', value_name = "DIR", default_value = "/var/lib/minik8s-simulated")]
    data_dir: PathBuf,
    /// How long after its start a pod is Ready, unless its annotation simulate.minik8s.io/ready-after says
    /// otherwise
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pods_ready_after: jiff::SignedDuration,
    /// Processors that each node claims to have
    #[arg(long, value_name = "COUNT", default_value_t = 32)]
    node_cpus: u64,
    /// Memory that each node claims to have, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 64)]
    node_memory: u64,
    /// Pods that each node takes
    #[arg(long, value_name = "COUNT", default_value_t = 110)]
    max_pods: u32,
    /// Levels: one for all, or per component, such as warn,kubelet=debug
    #[arg(long, env = "MINIK8S_LOG", value_name = "LEVELS", default_value = "info")]
    log: String,
}

/// The command's description, for parsing, help and completion.
pub fn clap_command(name: &'static str) -> clap::Command {
    SimulateArgs::augment_args(
        clap::Command::new(name).about("Run many nodes without containers, to try a cluster at scale"),
    )
}

/// Runs `minik8s simulate`.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let command = clap_command("minik8s simulate");
    let outcome = flags::parse(command, arguments, Path::new("/nonexistent")).and_then(|matches| {
        let arguments =
            SimulateArgs::from_arg_matches(&matches).map_err(|error| Problem::plain(error.to_string()))?;
        logging::init(&arguments.log)?;
        run_to_end(run(arguments)).map_err(Stop::from)
    });
    finish("minik8s simulate", outcome)
}

/// How nodes reach the API.
enum Access {
    /// Some through each of these connections, each as itself.
    Shared(Vec<HttpsApi>),
    /// Each with what the token gets it.
    Own { server: String, token: String },
}

impl Access {
    fn of(arguments: &SimulateArgs) -> Result<Self, Problem> {
        if let (Some(server), Some(token)) = (&arguments.server, &arguments.token) {
            return Ok(Access::Own { server: server.clone(), token: token.clone() });
        }
        let failed = |error: &dyn std::error::Error| {
            Problem::new("reach the cluster", chain(error), "give --kubeconfig, or --server and --token")
        };
        let places = Places::from_environment(arguments.kubeconfig.as_deref());
        let loaded = Loaded::load(&places).map_err(|error| failed(&error))?;
        if loaded.is_empty() {
            let advice = "give --kubeconfig, or --server and --token";
            return Err(Problem::new("reach the cluster", "there is no kubeconfig", advice));
        }
        let config = loaded.merged.https_config(&Overrides::default()).map_err(|error| failed(&error))?;
        let connections = arguments.nodes.div_ceil(NODES_PER_CONNECTION).max(1);
        let connections = (0..connections).map(|_| HttpsApi::new(config.clone()));
        connections.collect::<Result<_, _>>().map(Access::Shared).map_err(|error| failed(&error))
    }

    /// The API as a node.
    async fn node(
        &self,
        name: &str,
        number: u32,
        data_dir: &Path,
        stage: &Stage,
    ) -> Result<Arc<dyn ObjectApi>, Problem> {
        match self {
            Access::Shared(connections) => {
                let api = &connections[number as usize % connections.len()];
                let headers = [
                    ("Impersonate-User".to_string(), format!("system:node:{name}")),
                    ("Impersonate-Group".to_string(), "system:nodes".to_string()),
                ];
                let api = api.with_headers(&headers);
                let api = api.map_err(|error| Problem::plain(format!("name nodes {name:?}: {error}")))?;
                Ok(Arc::new(api))
            }
            Access::Own { server, token } => {
                let instance = Instance::of(&data_dir.join(name))?;
                crate::files::private_directory(data_dir)?;
                crate::files::private_directory(instance.data_dir())?;
                let servers = KnownServers::open(&instance.agent_dir(), server)?;
                let waiting = join::Waiting::default();
                let membership =
                    join::join(&instance, server, &servers, Some(token), name, &waiting, stage).await?;
                Ok(membership.node_api)
            }
        }
    }
}

async fn run(arguments: SimulateArgs) -> Result<(), Problem> {
    machine::raise_descriptor_limit();
    let script = Script {
        ready_after: Duration::try_from(arguments.pods_ready_after).map_err(|_| {
            Problem::plain("--pods-ready-after is negative; give a duration such as 2s".to_string())
        })?,
    };
    machine::check_node_name(&format!("{}0", arguments.name_prefix))?;
    let access = Access::of(&arguments)?;
    // Their address is this machine's: a node that is beside them needs no routes to their pods.
    let address = machine::node_address(None).unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let supervisor = Supervisor::new();
    supervisor.watch_clock();
    let stage = supervisor.stage("hollow nodes");
    let starting = Simulation { arguments, access, script, address: watch::Sender::new(address) };
    let failure = async {
        match starting.start(&stage).await {
            Err(problem) => problem,
            // All are there, and go on.
            Ok(()) => std::future::pending().await,
        }
    };
    tokio::select! {
        stopped = serve_until_stopped(&supervisor) => stopped,
        problem = failure => {
            supervisor.shutdown(Duration::from_secs(5)).await;
            Err(problem)
        }
    }
}

struct Simulation {
    arguments: SimulateArgs,
    access: Access,
    script: Script,
    address: watch::Sender<IpAddr>,
}

impl Simulation {
    /// Starts all nodes and tells when they are Ready.
    async fn start(&self, stage: &Stage) -> Result<(), Problem> {
        let began = Instant::now();
        let count = self.arguments.nodes;
        let numbers = self.arguments.first..self.arguments.first.saturating_add(count);
        let mut starts = futures::stream::iter(numbers)
            .map(|number| self.start_one(number, stage))
            .buffer_unordered(AT_A_TIME);
        let mut ready = 0;
        while let Some(started) = starts.next().await {
            started?;
            ready += 1;
            if ready % 100 == 0 || ready == count {
                tracing::info!(ready, of = count, after = ?began.elapsed(), "hollow nodes are Ready");
            }
        }
        Ok(())
    }

    /// Returns once the node has been Ready.
    async fn start_one(&self, number: u32, stage: &Stage) -> Result<(), Problem> {
        let arguments = &self.arguments;
        let name = format!("{}{number}", arguments.name_prefix);
        let api = self.access.node(&name, number, &arguments.data_dir, stage).await?;
        let config = HollowConfig {
            node_name: name,
            number,
            node_ip: self.address.subscribe(),
            labels: [(LABEL.to_string(), "true".to_string())].into(),
            taints: Vec::new(),
            cpus: arguments.node_cpus,
            memory: arguments.node_memory << 30,
            max_pods: arguments.max_pods,
            version: VERSION.to_string(),
            script: self.script,
        };
        let ready = kubelet::hollow::start(config, api, stage)
            .await
            .map_err(|error| Problem::new("start a hollow node", chain(&error), "see the messages above"))?;
        ready.wait().await;
        Ok(())
    }
}
