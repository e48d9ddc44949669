//! `minik8s agent`: its flags, those it shares with the server, and its life from start to signal.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use clap::{Args, FromArgMatches};
use k8s_openapi::api::core::v1::Taint;
use kubelet::SysctlAllowlist;
use network::NodePortAddresses;
use supervisor::{ConnectionLimits, OnExit, Supervisor};
use tokio::signal::unix::{SignalKind, signal};

use crate::flags::{self, Stop};
use crate::instance::DEFAULT_DATA_DIR;
use crate::join;
use crate::keys;
use crate::node::{self, NodeConfig};
use crate::notify::notify;
use crate::status::collect::{NodeSource, ProcessSource, settle};
use crate::status::report::{Api, Finding, Report, Request};
use crate::{Instance, Problem, addresses, admin, files, logging, machine, token};

/// Where flags' file is looked for if no `--config` names one.
pub const DEFAULT_CONFIG: &str = "/etc/minik8s/config.yaml";

/// Flags of every command that runs something for long.
#[derive(Args, Clone, Debug)]
pub struct CommonArgs {
    /// YAML file with flags' names as keys; flags and MINIK8S_* variables win over it
    #[arg(long, env = "MINIK8S_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything is kept; several instances on a machine have several
    #[arg(long, short = 'd', env = "MINIK8S_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
    /// Levels: one for all, or per component, such as warn,kubelet=debug
    #[arg(long, env = "MINIK8S_LOG", value_name = "LEVELS", default_value = "info")]
    pub log: String,
}

/// Flags of everything that runs a node.
#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    /// Name of the node [default: the host's name]
    #[arg(long, env = "MINIK8S_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Address of the node [default: that of the default route]
    #[arg(long, env = "MINIK8S_NODE_IP", value_name = "ADDRESS")]
    pub node_ip: Option<IpAddr>,
    /// Label to register the node with; may be repeated
    #[arg(long, env = "MINIK8S_NODE_LABEL", value_name = "KEY=VALUE", value_delimiter = ',')]
    pub node_label: Vec<String>,
    /// Taint to register the node with; may be repeated
    #[arg(long, env = "MINIK8S_NODE_TAINT", value_name = "KEY[=VALUE]:EFFECT", value_delimiter = ',')]
    pub node_taint: Vec<String>,
    /// Port of the kubelet; 0 picks one
    #[arg(long, env = "MINIK8S_KUBELET_PORT", value_name = "PORT", default_value_t = 10250)]
    pub kubelet_port: u16,
    /// Socket of a CRI runtime that somebody else runs, instead of an own containerd
    #[arg(long, env = "MINIK8S_CONTAINER_RUNTIME_ENDPOINT", value_name = "SOCKET")]
    pub container_runtime_endpoint: Option<String>,
    /// Sysctl that pods may set besides the safe ones, or a pattern that ends with *; may be repeated
    #[arg(long, env = "MINIK8S_ALLOWED_UNSAFE_SYSCTLS", value_name = "PATTERN", value_delimiter = ',')]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Give containers without a seccomp profile the runtime's default one
    #[arg(long, env = "MINIK8S_SECCOMP_DEFAULT")]
    pub seccomp_default: bool,
    /// Addresses that node ports are served on: `primary` (that of the node), or ranges of the machine's; may
    /// be repeated
    #[arg(
        long,
        visible_alias = "nodeport-addresses",
        env = "MINIK8S_NODE_PORT_ADDRESSES",
        value_name = "CIDR|primary",
        value_delimiter = ','
    )]
    pub node_port_addresses: Vec<String>,
    #[command(flatten)]
    pub connections: ConnectionArgs,
}

/// What each port (of the API, the kubelet and etcd's API) takes.
#[derive(Args, Clone, Debug)]
pub struct ConnectionArgs {
    /// Connections of a port at a time
    #[arg(long, env = "MINIK8S_MAX_CONNECTIONS", value_name = "N", default_value_t = 8192)]
    pub max_connections: usize,
    /// How many of these are kept for nodes and administrators
    #[arg(long, env = "MINIK8S_RESERVED_CONNECTIONS", value_name = "N", default_value_t = 512)]
    pub reserved_connections: usize,
    /// Connections from one address of which it is not known yet whose they are; the oldest gives way to a
    /// new one
    #[arg(long, env = "MINIK8S_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", default_value_t = 512)]
    pub max_connections_per_address: usize,
    /// Connections of one user
    #[arg(long, env = "MINIK8S_MAX_CONNECTIONS_PER_USER", value_name = "N", default_value_t = 1024)]
    pub max_connections_per_user: usize,
}

impl ConnectionArgs {
    /// The bounds of each of so many ports, once they are known to make sense and to fit into the limit of
    /// open files: what does not fit is lowered, and the log says so.
    pub fn limits(&self, ports: usize) -> Result<ConnectionLimits, Problem> {
        let wanted = self.wanted()?;
        let Some(files) = machine::descriptor_limit() else { return Ok(wanted) };
        let limits = fitted(wanted, files, ports)?;
        if limits != wanted {
            let (wanted, taken, reserved) = (wanted.total, limits.total, limits.reserved);
            tracing::warn!(
                wanted,
                taken,
                reserved,
                files,
                ports,
                "--max-connections is lowered to fit into the limit of open files; raise that (ulimit -n, LimitNOFILE)"
            );
        }
        Ok(limits)
    }

    fn wanted(&self) -> Result<ConnectionLimits, Problem> {
        let wrong =
            |flag: &str, why: &str| Err(Problem::new("bound connections", why, format!("correct --{flag}")));
        if self.max_connections_per_address == 0 {
            return wrong("max-connections-per-address", "without a single connection nobody gets in");
        }
        if self.max_connections_per_user == 0 {
            return wrong("max-connections-per-user", "without a single connection nobody gets in");
        }
        if self.reserved_connections >= self.max_connections {
            return wrong(
                "reserved-connections",
                "no connection is left for anybody but nodes and administrators",
            );
        }
        Ok(ConnectionLimits {
            total: self.max_connections,
            reserved: self.reserved_connections,
            per_address: self.max_connections_per_address,
            per_user: self.max_connections_per_user,
        })
    }
}

/// Descriptors that are no connections of a port: the store, watches of files, connections to the runtime and
/// to nodes.
const OTHER_FILES: usize = 512;
/// Connections of a port without which it is of no use.
const FEWEST_CONNECTIONS: usize = 64;

/// The bounds of each of so many ports, with which they take no more descriptors together than there are.
fn fitted(wanted: ConnectionLimits, files: usize, ports: usize) -> Result<ConnectionLimits, Problem> {
    let room = files.saturating_sub(OTHER_FILES) / ports.max(1);
    if wanted.total <= room {
        return Ok(wanted);
    }
    if room < FEWEST_CONNECTIONS {
        let why =
            format!("the limit of open files is {files}, which leaves {room} connections for each port");
        return Err(Problem::new("serve", why, "raise the limit (ulimit -n, LimitNOFILE=)"));
    }
    // As large a part as was asked for.
    let reserved = wanted.reserved * room / wanted.total;
    Ok(ConnectionLimits { total: room, reserved, ..wanted })
}

impl NodeArgs {
    pub fn name(&self) -> Result<String, Problem> {
        match &self.node_name {
            Some(name) => machine::check_node_name(name),
            None => machine::default_node_name(),
        }
    }

    pub fn labels(&self) -> Result<BTreeMap<String, String>, Problem> {
        let parse = |text: &String| match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
            _ => Err(Problem::new(
                format!("use the label {text:?}"),
                "it is not KEY=VALUE",
                "correct --node-label",
            )),
        };
        self.node_label.iter().map(parse).collect()
    }

    pub fn taints(&self) -> Result<Vec<Taint>, Problem> {
        self.node_taint.iter().map(|text| parse_taint(text)).collect()
    }

    /// The sysctls that pods may set on this machine's kernel.
    pub fn sysctls(&self) -> Result<SysctlAllowlist, Problem> {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        SysctlAllowlist::new(&self.allowed_unsafe_sysctls, &kernel)
            .map_err(|error| Problem::new("allow unsafe sysctls", error, "correct --allowed-unsafe-sysctls"))
    }

    /// Where node ports are served.
    pub fn node_ports(&self) -> Result<NodePortAddresses, Problem> {
        let given = &self.node_port_addresses;
        if given.is_empty() || given.iter().all(|text| text == "primary") {
            return Ok(NodePortAddresses::Primary);
        }
        let parse = |text: &String| {
            text.parse().map_err(|error| {
                Problem::new(
                    format!("serve node ports on {text:?}"),
                    error,
                    "correct --node-port-addresses: `primary`, or ranges such as 192.0.2.0/24",
                )
            })
        };
        given.iter().map(parse).collect::<Result<_, _>>().map(NodePortAddresses::Within)
    }

    pub fn runtime_endpoint(&self) -> Option<PathBuf> {
        let given = self.container_runtime_endpoint.as_deref()?;
        Some(PathBuf::from(given.strip_prefix("unix://").unwrap_or(given)))
    }
}

fn parse_taint(text: &str) -> Result<Taint, Problem> {
    let wrong = |why: &str| Problem::new(format!("use the taint {text:?}"), why, "correct --node-taint");
    let (rest, effect) = text.rsplit_once(':').ok_or_else(|| wrong("it is not KEY[=VALUE]:EFFECT"))?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(wrong("its effect is none of NoSchedule, PreferNoSchedule, NoExecute"));
    }
    let (key, value) = rest.split_once('=').map_or((rest, None), |(key, value)| (key, Some(value)));
    if key.is_empty() {
        return Err(wrong("it has no key"));
    }
    let value = value.map(str::to_string);
    Ok(Taint { key: key.to_string(), value, effect: effect.to_string(), time_added: None })
}

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

/// Prints what there is to print, and the exit code.
pub fn finish(command: &str, outcome: Result<(), Stop>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Text(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(Stop::Problem(problem)) => {
            eprintln!("{command}: {problem}");
            ExitCode::FAILURE
        }
    }
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

async fn run(arguments: AgentArgs) -> Result<(), Problem> {
    let missing = |what: &str, flag: &str| {
        Problem::new("join a cluster", format!("no {what} is given"), format!("give --{flag}"))
    };
    let server = arguments.server.clone().ok_or_else(|| missing("server", "server"))?;
    if !server.starts_with("https://") {
        let advice = "give --server https://HOST:PORT";
        return Err(Problem::new(format!("join {server:?}"), "it is not a URL of https", advice));
    }
    let token = arguments.token.clone();
    machine::require_root("minik8s agent")?;
    let instance = Instance::of(&arguments.common.data_dir)?;
    let _lock = instance.lock()?;
    let node_name = arguments.node.name()?;
    let node_ip = machine::node_address(arguments.node.node_ip)?;
    let (labels, taints) = (arguments.node.labels()?, arguments.node.taints()?);
    let sysctls = arguments.node.sysctls()?;
    let connections = arguments.node.connections.limits(1)?;
    let node_ports = arguments.node.node_ports()?;
    tracing::info!(node = %node_name, address = %node_ip, %server, data = %instance.data_dir().display(), "joining");

    let supervisor = Supervisor::new();
    supervisor.watch_clock();
    let process = ProcessSource {
        role: "agent",
        instance: instance.clone(),
        began: Instant::now(),
        supervisor: supervisor.clone(),
    };
    let known = Known { process, server: server.clone(), node: Arc::default() };
    files::private_directory(&instance.agent_dir())?;
    admin::serve(&instance.agent_dir(), &supervisor.stage("admin"), {
        let known = known.clone();
        move |Request::Status| known.clone().report()
    })?;
    let stage = supervisor.stage("membership");
    let failing = supervisor.clone();
    let membership = tokio::select! {
        membership = join::join(&instance, &server, token.as_deref(), &node_name, &stage) => membership?,
        stopped = serve_until_stopped(&failing) => return stopped,
    };
    if let Some(token) = &token {
        forget_token(token, arguments.common.config.as_deref());
    }
    let address_stage = supervisor.stage("addresses");
    let addresses = addresses::follow(arguments.node.node_ip, node_ip, &instance.bridge(), &address_stage);
    let config = NodeConfig {
        instance,
        node_name,
        node_ip: addresses::node(addresses, &address_stage),
        labels,
        taints,
        bind_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        kubelet_port: arguments.node.kubelet_port,
        connections,
        cluster_cidr: membership.settings.cluster_cidr.clone(),
        cluster_dns: membership.settings.cluster_dns.clone(),
        cluster_domain: membership.settings.cluster_domain.clone(),
        runs_proxy: membership.settings.runs("proxy"),
        node_ports,
        runs_dns: membership.settings.runs("dns"),
        container_runtime_endpoint: arguments.node.runtime_endpoint(),
        sysctls,
        seccomp_default: arguments.node.seccomp_default,
        client_ca: keys::first_certificate(&membership.settings.client_ca_pem)
            .map_err(|error| Problem::new("join the cluster", error, "check the server's CA files"))?,
        serving_ca: membership
            .settings
            .kubelet_ca_pem
            .as_deref()
            .and_then(|pem| keys::first_certificate(pem).ok()),
    };
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
    server: String,
    /// Set once the node has been started.
    node: Arc<OnceLock<NodeSource>>,
}

impl Known {
    async fn report(self) -> Result<Report, Problem> {
        let mut report = self.process.report();
        let mut api = Api { url: self.server.clone(), ..Api::default() };
        match self.node.get() {
            Some(source) => {
                let (node, answered) = source.report(&mut report.problems).await;
                api.ready = answered.is_ok();
                report.node = Some(node);
            }
            None => report.problems.push(Finding::new(
                "this machine has not joined its cluster yet",
                format!("it is waiting for {}", self.server),
                "see the log for what it waits for",
            )),
        }
        report.api = Some(api);
        settle(&mut report);
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_into_the_limit_of_open_files() {
        let wanted = ConnectionLimits { total: 8192, reserved: 512, per_address: 512, per_user: 1024 };
        assert_eq!(fitted(wanted, 1 << 20, 3).unwrap(), wanted);
        assert_eq!(fitted(wanted, 3 * 8192 + 512, 3).unwrap(), wanted);
        let lowered = fitted(wanted, 4096, 3).unwrap();
        assert_eq!((lowered.total, lowered.reserved), (1194, 74));
        assert!(3 * lowered.total + OTHER_FILES <= 4096);
        assert!(fitted(wanted, 600, 3).unwrap_err().to_string().contains("the limit of open files is 600"));
        // A small number that was asked for is not lowered.
        let few = ConnectionLimits { total: 20, reserved: 4, ..wanted };
        assert_eq!(fitted(few, 1024, 3).unwrap(), few);
    }

    #[test]
    fn taints_are_read_and_checked() {
        let taint = parse_taint("dedicated=db:NoSchedule").unwrap();
        assert_eq!(
            (taint.key.as_str(), taint.value.as_deref(), taint.effect.as_str()),
            ("dedicated", Some("db"), "NoSchedule")
        );
        assert_eq!(parse_taint("a:NoExecute").unwrap().value, None);
        for wrong in ["a", "a:Never", ":NoSchedule"] {
            assert!(parse_taint(wrong).is_err(), "{wrong}");
        }
    }
}
