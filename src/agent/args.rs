//! The flags that everything shares which runs a node: agents, servers, simulations.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use k8s_openapi::api::core::v1::Taint;
use kubelet::{KubeletTuning, LogLimits, ShutdownGrace, SysctlAllowlist};
use network::NodePortAddresses;
use supervisor::ConnectionLimits;

use crate::instance::DEFAULT_DATA_DIR;
use crate::node::IngressPorts;
use crate::{Problem, machine};

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
    /// Pods that the node runs at most
    #[arg(long, env = "MINIK8S_MAX_PODS", value_name = "NUMBER", default_value_t = 110)]
    pub max_pods: u32,
    /// Size from which a container's log is rotated
    #[arg(long, env = "MINIK8S_CONTAINER_LOG_MAX_SIZE", value_name = "QUANTITY", default_value = "10Mi")]
    pub container_log_max_size: String,
    /// Files that are kept of a container's log, at least 2
    #[arg(long, env = "MINIK8S_CONTAINER_LOG_MAX_FILES", value_name = "NUMBER", default_value_t = 5)]
    pub container_log_max_files: usize,
    /// How long a shutdown of the machine waits for its pods to end, through logind; 0s: not at all
    #[arg(long, env = "MINIK8S_SHUTDOWN_GRACE_PERIOD", value_name = "DURATION", default_value = "0s")]
    pub shutdown_grace_period: String,
    /// The part of it that is kept for critical pods, which end last
    #[arg(
        long,
        env = "MINIK8S_SHUTDOWN_GRACE_PERIOD_CRITICAL_PODS",
        value_name = "DURATION",
        default_value = "0s"
    )]
    pub shutdown_grace_period_critical_pods: String,
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
    /// Port for plain HTTP of ingresses; 0 for none
    #[arg(long, env = "MINIK8S_INGRESS_HTTP_PORT", value_name = "PORT", default_value_t = 80)]
    pub ingress_http_port: u16,
    /// Port for HTTPS of ingresses; 0 for none
    #[arg(long, env = "MINIK8S_INGRESS_HTTPS_PORT", value_name = "PORT", default_value_t = 443)]
    pub ingress_https_port: u16,
    #[command(flatten)]
    pub connections: ConnectionArgs,
}

const MAX_CONNECTIONS: usize = 8192;

/// What each port (of the API, the kubelet and etcd's API) takes.
#[derive(Args, Clone, Debug)]
pub struct ConnectionArgs {
    /// Connections of a port at a time
    #[arg(long, env = "MINIK8S_MAX_CONNECTIONS", value_name = "N", default_value_t = MAX_CONNECTIONS)]
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
        // What nobody has asked for is fitted without a word.
        if limits != wanted && self.max_connections != MAX_CONNECTIONS {
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

    /// What upstream's kubelet is told in its configuration file.
    pub fn tuning(&self) -> Result<KubeletTuning, Problem> {
        let total = duration(&self.shutdown_grace_period, "--shutdown-grace-period")?;
        let flag = "--shutdown-grace-period-critical-pods";
        let critical = duration(&self.shutdown_grace_period_critical_pods, flag)?;
        if critical > total {
            let why = "it is longer than --shutdown-grace-period, which it is a part of";
            return Err(Problem::new(
                format!("keep {critical:?} for critical pods"),
                why,
                format!("correct {flag}"),
            ));
        }
        let (size, files) = (&self.container_log_max_size, self.container_log_max_files);
        let largest = size.parse::<api::quantity::Quantity>().ok();
        let largest = largest.and_then(|size| u64::try_from(size.value()).ok());
        let largest = largest.filter(|bytes| *bytes > 0).ok_or_else(|| {
            let why = "it is no positive quantity of bytes such as 10Mi";
            Problem::new(format!("rotate logs at {size:?}"), why, "correct --container-log-max-size")
        })?;
        if files < 2 {
            let why = "there are at least the present one and the one before";
            return Err(Problem::new(
                format!("keep {files} files of a log"),
                why,
                "correct --container-log-max-files",
            ));
        }
        Ok(KubeletTuning {
            max_pods: self.max_pods,
            logs: LogLimits { largest, files },
            shutdown: ShutdownGrace { total, critical },
        })
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

    pub fn ingress_ports(&self) -> IngressPorts {
        IngressPorts { http: self.ingress_http_port, https: self.ingress_https_port }
    }

    pub fn runtime_endpoint(&self) -> Option<PathBuf> {
        let given = self.container_runtime_endpoint.as_deref()?;
        Some(PathBuf::from(given.strip_prefix("unix://").unwrap_or(given)))
    }
}

/// A length of time as Go writes it, such as `1m30s`.
fn duration(text: &str, flag: &str) -> Result<Duration, Problem> {
    let parsed = api::duration::parse(text).ok().and_then(|length| Duration::try_from(length).ok());
    parsed.ok_or_else(|| {
        let why = "it is not of the form 30s, 1m30s or 1h";
        Problem::new(format!("use {text:?} as a length of time"), why, format!("correct {flag}"))
    })
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

#[cfg(test)]
mod tests;
