//! `minik8s agent`: its flags, and its life from start to signal.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use clap::{Args, FromArgMatches};
use k8s_openapi::api::core::v1::Taint;
use kubelet::{KubeletTuning, SysctlAllowlist};
use network::NodePortAddresses;
use serde::Serialize;
use supervisor::{ConnectionLimits, OnExit, Supervisor};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::args::{CommonArgs, NodeArgs};
use crate::claim::NodeClaim;
use crate::flags::{self, Stop};
use crate::image::{self, ImageAnswer};
use crate::join::{self, ClusterSettings, Waiting};
use crate::keys;
use crate::node::{self, NodeConfig};
use crate::notify::notify;
use crate::servers::KnownServers;
use crate::status::collect::{NodeSource, ProcessSource, settle};
use crate::status::report::{Api, Finding, Report, Request};
use crate::{Instance, Problem, addresses, admin, failure, files, logging, machine, token};

/// Where flags' file is looked for if no `--config` names one.
pub const DEFAULT_CONFIG: &str = "/etc/minik8s/config.yaml";

#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Server to join, such as https://192.0.2.1:6443
    #[arg(long, short = 's', env = "MINIK8S_URL", value_name = "URL")]
    server: Option<String>,
    /// Token that lets it join: the server's DATA/server/agent-token, or one of 'minik8s token create'
    #[arg(long, short = 't', env = "MINIK8S_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

/// The command's description, for parsing, help and completion.
pub fn clap_command(name: &'static str) -> clap::Command {
    // Last, because the flattened groups of flags bring their own words.
    AgentArgs::augment_args(clap::Command::new(name)).about("Run a node that joins a cluster")
}

/// Runs `minik8s agent`.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let outcome = flags::parse(clap_command("minik8s agent"), arguments, Path::new(DEFAULT_CONFIG)).and_then(
        |matches| {
            let arguments =
                AgentArgs::from_arg_matches(&matches).map_err(|error| Problem::plain(error.to_string()))?;
            logging::init(&arguments.common.log)?;
            run_to_end(run(arguments)).map_err(Stop::from)
        },
    );
    finish("minik8s agent", outcome)
}

/// Prints a command's result. A reader that has seen enough closes the pipe; that is no failure.
pub fn print(text: &str) -> Result<(), Problem> {
    let mut output = std::io::stdout();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Problem::new("print the result", error, "check what standard output leads to"))
        }
        _ => Ok(()),
    }
}

/// Prints a line of a command's result.
pub fn print_line(line: &str) -> Result<(), Problem> {
    print(&format!("{line}\n"))
}

/// Prints what there is to print, and the exit code.
pub fn finish(command: &str, outcome: Result<(), Stop>) -> ExitCode {
    let outcome = match outcome {
        Err(Stop::Text(text)) => print(&text).map_err(Stop::from),
        other => other,
    };
    match outcome {
        Ok(()) | Err(Stop::Text(_)) => ExitCode::SUCCESS,
        Err(Stop::Problem(problem)) => {
            eprintln!("{command}: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command that does its work and ends, from its command line to its exit code.
pub fn run_command<A: FromArgMatches, W: Future<Output = Result<(), Problem>>>(
    command: clap::Command,
    arguments: &[OsString],
    work: impl FnOnce(A) -> W,
) -> ExitCode {
    let name = command.get_name().to_string();
    let outcome = flags::parse(command, arguments, Path::new(DEFAULT_CONFIG)).and_then(|matches| {
        let arguments = A::from_arg_matches(&matches).map_err(|error| Problem::plain(error.to_string()))?;
        run_to_end(work(arguments)).map_err(Stop::from)
    });
    finish(&name, outcome)
}

/// Runs a command's future on the runtime that everything shares.
pub fn run_to_end(task: impl Future<Output = Result<(), Problem>>) -> Result<(), Problem> {
    machine::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Problem::new("start", error, "check the limits of threads and files"))?;
    let outcome = runtime.block_on(task);
    // Blocking reads of a terminal or a pipe must not keep a process that is done.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

const STAGE_GRACE: Duration = Duration::from_secs(15);

/// Waits for a signal or a failure, then stops all stages. A second signal ends the process at once.
pub async fn serve_until_stopped(supervisor: &Supervisor) -> Result<(), Problem> {
    let listen = |kind| {
        signal(kind)
            .map_err(|error| Problem::new("listen for signals", error, "check the limits of the process"))
    };
    let (mut term, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let outcome = tokio::select! {
        _ = term.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        why = supervisor.failed() => Err(Problem::new("go on", why, "see the messages above")),
    };
    notify("STOPPING=1");
    tracing::info!("stopping; pods stay");
    tokio::select! {
        () = supervisor.shutdown(STAGE_GRACE) => {}
        _ = term.recv() => tracing::warn!("stopped at once by a second signal"),
        _ = interrupt.recv() => tracing::warn!("stopped at once by a second signal"),
    }
    outcome
}

/// Ports whose connections are bounded: the kubelet's, and two of ingresses, whose connections take a second
/// descriptor each.
pub const NODE_PORTS: usize = 5;

/// What the flags say, checked before anything is touched.
struct AgentPlan {
    arguments: AgentArgs,
    server: String,
    node_name: String,
    node_ip: IpAddr,
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    sysctls: SysctlAllowlist,
    tuning: KubeletTuning,
    connections: ConnectionLimits,
    node_ports: NodePortAddresses,
}

impl AgentPlan {
    fn new(arguments: AgentArgs) -> Result<Self, Problem> {
        let Some(server) = arguments.server.clone() else {
            return Err(Problem::new("join a cluster", "no server is given", "give --server"));
        };
        if !server.starts_with("https://") {
            let advice = "give --server https://HOST:PORT";
            return Err(Problem::new(format!("join {server:?}"), "it is not a URL of https", advice));
        }
        machine::require_root("minik8s agent")?;
        let node = &arguments.node;
        Ok(AgentPlan {
            server,
            node_name: node.name()?,
            node_ip: machine::node_address(node.node_ip)?,
            labels: node.labels()?,
            taints: node.taints()?,
            sysctls: node.sysctls()?,
            tuning: node.tuning()?,
            connections: node.connections.limits(NODE_PORTS)?,
            node_ports: node.node_ports()?,
            arguments,
        })
    }

    /// The node in the cluster that it has joined.
    fn node_config(
        self,
        instance: Instance,
        node_ip: watch::Receiver<IpAddr>,
        settings: &ClusterSettings,
    ) -> Result<NodeConfig, Problem> {
        let node = &self.arguments.node;
        let client_ca = keys::first_certificate(&settings.client_ca_pem)
            .map_err(|error| Problem::new("join the cluster", error, "check the server's CA files"))?;
        Ok(NodeConfig {
            instance,
            node_ip,
            bind_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            kubelet_port: node.kubelet_port,
            cluster_cidr: settings.cluster_cidr.clone(),
            cluster_dns: settings.cluster_dns.clone(),
            cluster_domain: settings.cluster_domain.clone(),
            runs_proxy: settings.runs("proxy"),
            runs_policy: settings.runs("policy"),
            runs_dns: settings.runs("dns"),
            ingress: settings.runs("ingress").then(|| node.ingress_ports()),
            container_runtime_endpoint: node.runtime_endpoint(),
            seccomp_default: node.seccomp_default,
            server_ports: Vec::new(),
            client_ca,
            serving_ca: settings.kubelet_ca_pem.as_deref().and_then(|pem| keys::first_certificate(pem).ok()),
            node_name: self.node_name,
            labels: self.labels,
            taints: self.taints,
            sysctls: self.sysctls,
            tuning: self.tuning,
            connections: self.connections,
            node_ports: self.node_ports,
        })
    }
}

async fn run(arguments: AgentArgs) -> Result<(), Problem> {
    let plan = AgentPlan::new(arguments)?;
    let common = plan.arguments.common.clone();
    let instance = Instance::of(&common.data_dir)?;
    let _lock = instance.lock()?;
    failure::forget(&instance);
    let outcome = live(plan, common, &instance).await;
    failure::note(&instance, &outcome);
    outcome
}

/// From joining to the signal that ends it.
async fn live(plan: AgentPlan, common: CommonArgs, instance: &Instance) -> Result<(), Problem> {
    // It is an agent's data directory from here on, also for whoever asks why it does not run.
    files::private_directory(&instance.agent_dir())?;
    let _claim = NodeClaim::take(instance)?;
    let (server, token) = (plan.server.clone(), plan.arguments.token.clone());
    tracing::info!(
        node = %plan.node_name, address = %plan.node_ip, %server, data = %instance.data_dir().display(), "joining"
    );

    let supervisor = Supervisor::new();
    supervisor.watch_clock();
    let process = ProcessSource {
        role: "agent",
        instance: instance.clone(),
        began: Instant::now(),
        supervisor: supervisor.clone(),
    };
    let servers = KnownServers::open(&instance.agent_dir(), &server)?;
    let waiting = Waiting::default();
    let known = Known { process, servers: servers.clone(), node: Arc::default(), waiting: waiting.clone() };
    admin::serve(&instance.agent_dir(), &supervisor.stage("admin"), {
        let known = known.clone();
        move |request| known.clone().carry_out(request)
    })?;
    let stage = supervisor.stage("membership");
    let failing = supervisor.clone();
    let name = &plan.node_name;
    let joining = join::join(instance, &server, &servers, token.as_deref(), name, &waiting, &stage);
    let membership = tokio::select! {
        membership = joining => membership?,
        stopped = serve_until_stopped(&failing) => return stopped,
    };
    servers.follow(membership.network_api.clone(), &membership.server_ca_pem, &stage);
    if let Some(token) = &token {
        forget_token(token, common.config.as_deref());
    }
    let address_stage = supervisor.stage("addresses");
    let named = plan.arguments.node.node_ip;
    let addresses = addresses::follow(named, plan.node_ip, &instance.bridge(), &address_stage);
    let node_ip = addresses::node(addresses, &address_stage);
    let config = plan.node_config(instance.clone(), node_ip, &membership.settings)?;
    let running = match node::start(config, membership.node_api, membership.network_api, &supervisor).await {
        Ok(running) => running,
        Err(problem) => {
            supervisor.shutdown(STAGE_GRACE).await;
            return Err(problem);
        }
    };
    let _ = known.node.set(running.source);
    let ready = running.kubelet.ready.clone();
    stage.spawn_cancellable("readiness", OnExit::Done, async move {
        ready.wait().await;
        tracing::info!("the node is Ready");
        notify("READY=1");
    });
    serve_until_stopped(&supervisor).await
}

/// The machine has certificates of its own now: the token only lies there for others to find.
fn forget_token(token: &str, config: Option<&Path>) {
    match token::forget(Path::new(token::ENVIRONMENT_FILE), token) {
        Ok(true) => {
            tracing::info!(file = token::ENVIRONMENT_FILE, "the token is removed: it has done its work")
        }
        Ok(false) => {}
        Err(problem) => tracing::warn!(%problem, "the token is not removed"),
    }
    // An administrator's own file is not for us to change.
    let config = config.unwrap_or(Path::new(DEFAULT_CONFIG));
    if std::fs::read_to_string(config).is_ok_and(|text| text.lines().any(|line| line.starts_with("token:"))) {
        tracing::warn!(file = %config.display(), "the token is not needed any more: remove it from this file");
    }
}

/// What an agent can tell of itself.
#[derive(Clone)]
struct Known {
    process: ProcessSource,
    servers: Arc<KnownServers>,
    /// Set once the node has been started.
    node: Arc<OnceLock<NodeSource>>,
    waiting: Waiting,
}

/// What was asked for, as the asker knows it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Done {
    Status(Box<Report>),
    Images(ImageAnswer),
}

impl Known {
    async fn carry_out(self, request: Request) -> Result<Done, Problem> {
        match request {
            Request::Status => self.report().await.map(|report| Done::Status(Box::new(report))),
            Request::Images(request) => image::carry_out(request, self.node.get()).await.map(Done::Images),
        }
    }

    async fn report(self) -> Result<Report, Problem> {
        let mut report = self.process.report();
        let mut api = Api { url: self.servers.url(), ..Api::default() };
        match self.node.get() {
            Some(source) => {
                let (node, answered) = source.report(&mut report.problems).await;
                api.ready = answered.is_ok();
                report.node = Some(node);
            }
            None => {
                report.starting = true;
                let (url, obstacle) = (self.servers.url(), self.waiting.obstacle());
                let stays = obstacle.as_ref().is_some_and(|obstacle| obstacle.stays);
                let why = obstacle.map_or_else(|| format!("it is waiting for {url}"), |one| one.why);
                let advice = match stays {
                    true => "it goes on by itself once that is done".to_string(),
                    false => format!("it tries again by itself; check that {url} can be reached from here"),
                };
                report.blocked = stays.then(|| why.clone());
                report.problems.push(Finding::new(
                    "this machine has not joined its cluster yet",
                    why,
                    advice,
                ));
            }
        }
        report.api = Some(api);
        settle(&mut report);
        Ok(report)
    }
}
