//! The flags of `minik8s server`, and what they mean once checked.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use agent::args::{CommonArgs, NodeArgs};
use agent::flags::nearest;
use agent::problem::chain;
use agent::{Problem, machine};
use api::Cidr;
use apiserver::{FeatureGates, Plugins, RuntimeConfig};
use clap::Args;

use crate::audit::AuditArgs;
use crate::snapshot::S3Args;

#[derive(Args, Clone, Debug)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    /// Address to listen on
    #[arg(long, env = "MINIK8S_BIND_ADDRESS", value_name = "ADDRESS", default_value = "0.0.0.0")]
    pub(crate) bind_address: IpAddr,
    /// Port of the API; 0 picks one, which the kubeconfig then says
    #[arg(long, env = "MINIK8S_HTTPS_LISTEN_PORT", value_name = "PORT", default_value_t = 6443)]
    pub(crate) https_listen_port: u16,
    /// Address under which nodes and pods reach the API [default: the node's address]
    #[arg(long, env = "MINIK8S_ADVERTISE_ADDRESS", value_name = "ADDRESS")]
    pub(crate) advertise_address: Option<IpAddr>,
    /// Further name or address for the serving certificate; may be repeated
    #[arg(long, env = "MINIK8S_TLS_SAN", value_name = "NAME", value_delimiter = ',')]
    pub(crate) tls_san: Vec<String>,
    /// Where the administrator's kubeconfig is written
    #[arg(long, env = "MINIK8S_WRITE_KUBECONFIG", value_name = "FILE")]
    pub(crate) write_kubeconfig: Option<PathBuf>,
    /// Mode of that file
    #[arg(long, env = "MINIK8S_WRITE_KUBECONFIG_MODE", value_name = "MODE", default_value = "600")]
    pub(crate) write_kubeconfig_mode: String,
    /// Another server of the cluster that this one joins, at its first start; with --token. Later starts find
    /// the others by themselves
    #[arg(long, short = 's', env = "MINIK8S_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Take the place of the server of this name, whose disk or cluster is lost: what this machine has of
    /// another group of servers is set aside. A server that belongs to the group of --server stays what it
    /// is
    #[arg(long, env = "MINIK8S_REJOIN", requires = "server")]
    pub(crate) rejoin: bool,
    /// Secret of servers [default: a random one, kept in DATA/server/token]
    #[arg(long, short = 't', env = "MINIK8S_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Secret that lets agents join [default: a random one, kept in DATA/server/agent-token]
    #[arg(long, env = "MINIK8S_AGENT_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(crate) agent_token: Option<String>,
    /// Authorize requests without credentials as system:anonymous; else they get /healthz, /livez, /readyz
    /// and /cacerts only
    #[arg(
        long,
        env = "MINIK8S_ANONYMOUS_AUTH",
        value_name = "BOOL",
        default_value_t = false,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true
    )]
    pub(crate) anonymous_auth: bool,
    /// Addresses of pods
    #[arg(long, env = "MINIK8S_CLUSTER_CIDR", value_name = "CIDR", default_value = "10.42.0.0/16")]
    pub(crate) cluster_cidr: String,
    /// Addresses of services
    #[arg(long, env = "MINIK8S_SERVICE_CIDR", value_name = "CIDR", default_value = "10.43.0.0/16")]
    pub(crate) service_cidr: String,
    /// Ports that services get on every node
    #[arg(
        long,
        env = "MINIK8S_SERVICE_NODE_PORT_RANGE",
        value_name = "FIRST-LAST",
        default_value = "30000-32767"
    )]
    pub(crate) service_node_port_range: String,
    /// Address of the cluster's name service, within the services' [default: its tenth address]
    #[arg(long, env = "MINIK8S_CLUSTER_DNS", value_name = "ADDRESS")]
    pub(crate) cluster_dns: Option<IpAddr>,
    /// Domain of the cluster's names
    #[arg(long, env = "MINIK8S_CLUSTER_DOMAIN", value_name = "DOMAIN", default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
    /// Run no node here: control plane only
    #[arg(long, env = "MINIK8S_DISABLE_AGENT")]
    pub(crate) disable_agent: bool,
    /// Leave out a component (scheduler, controllers, proxy, dns, policy, servicelb, ingress, local-storage);
    /// may be repeated
    #[arg(long, env = "MINIK8S_DISABLE", value_name = "NAME", value_delimiter = ',')]
    pub(crate) disable: Vec<String>,
    /// Ports that services of the type LoadBalancer do not get on any node
    #[arg(
        long,
        env = "MINIK8S_SERVICELB_RESERVED_PORTS",
        value_name = "PORT",
        value_delimiter = ',',
        default_value = "22,10250"
    )]
    pub(crate) servicelb_reserved_ports: Vec<u16>,
    /// Where etcd's API is served: ADDRESS:PORT (port 0 picks one) or `off` [default: 127.0.0.1:2379 if that
    /// is free]
    #[arg(long, env = "MINIK8S_ETCD_LISTEN", value_name = "ADDRESS:PORT|off")]
    pub(crate) etcd_listen: Option<String>,
    /// Most bytes of keys and values that the store holds, in memory as on disk; past it nothing new is
    /// accepted [default: 2 GiB, or an eighth of the machine's memory if that is less]
    #[arg(long, env = "MINIK8S_QUOTA_BACKEND_BYTES", value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) quota_backend_bytes: Option<u64>,
    /// Let clients of etcd's API write the cluster's own keys, past every check of the API server
    #[arg(long, env = "MINIK8S_ETCD_WRITE_REGISTRY")]
    pub(crate) etcd_write_registry: bool,
    /// Encrypt Secrets in the store, with a key that the cluster keeps; see 'minik8s secrets-encrypt'
    #[arg(long, env = "MINIK8S_SECRETS_ENCRYPTION")]
    pub(crate) secrets_encryption: bool,
    /// What is encrypted in the store, and how: a file with an EncryptionConfiguration; it is read again when
    /// it changes
    #[arg(
        long,
        env = "MINIK8S_ENCRYPTION_PROVIDER_CONFIG",
        value_name = "FILE",
        conflicts_with = "secrets_encryption"
    )]
    pub(crate) encryption_provider_config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) audit: AuditArgs,
    /// When snapshots are saved: five fields of cron in the machine's time zone, or `off`
    #[arg(
        long,
        env = "MINIK8S_SNAPSHOT_SCHEDULE_CRON",
        value_name = "CRON|off",
        default_value = "0 */12 * * *"
    )]
    pub(crate) snapshot_schedule_cron: String,
    /// How many of them are kept
    #[arg(long, env = "MINIK8S_SNAPSHOT_RETENTION", value_name = "N", default_value_t = 5)]
    pub(crate) snapshot_retention: usize,
    /// Where they are kept [default: DATA/server/snapshots]
    #[arg(long, env = "MINIK8S_SNAPSHOT_DIR", value_name = "DIR")]
    pub(crate) snapshot_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) s3: S3Args,
    /// Give service account tokens that pods mount a year instead of an hour, for clients that do not read
    /// them again
    #[arg(
        long,
        env = "MINIK8S_SERVICE_ACCOUNT_EXTEND_TOKEN_EXPIRATION",
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true
    )]
    pub(crate) service_account_extend_token_expiration: bool,
    /// Admission plugins that run beside the default ones; may be repeated
    #[arg(long, env = "MINIK8S_ENABLE_ADMISSION_PLUGINS", value_name = "NAME", value_delimiter = ',')]
    pub(crate) enable_admission_plugins: Vec<String>,
    /// How admission plugins behave: a file with an AdmissionConfiguration
    #[arg(long, env = "MINIK8S_ADMISSION_CONTROL_CONFIG_FILE", value_name = "FILE")]
    pub(crate) admission_control_config_file: Option<PathBuf>,
    /// Admission plugins that do not run though they would by default; may be repeated
    #[arg(long, env = "MINIK8S_DISABLE_ADMISSION_PLUGINS", value_name = "NAME", value_delimiter = ',')]
    pub(crate) disable_admission_plugins: Vec<String>,
    /// Turn groups, versions or resources of the API on: GROUP/VERSION[/RESOURCE]=true, api/all=true; may be
    /// repeated
    #[arg(long, env = "MINIK8S_RUNTIME_CONFIG", value_name = "NAME=BOOL", value_delimiter = ',')]
    pub(crate) runtime_config: Vec<String>,
    /// Features of Kubernetes to turn on or off: NAME=BOOL; may be repeated
    #[arg(long, env = "MINIK8S_FEATURE_GATES", value_name = "NAME=BOOL", value_delimiter = ',')]
    pub(crate) feature_gates: Vec<String>,
    /// A flag of upstream's API server, without its dashes; may be repeated
    #[arg(long, env = "MINIK8S_KUBE_APISERVER_ARG", value_name = "NAME=VALUE", allow_hyphen_values = true)]
    pub(crate) kube_apiserver_arg: Vec<String>,
    /// Requests that only read, at a time; more of them wait for their turn
    #[arg(long, env = "MINIK8S_MAX_REQUESTS_INFLIGHT", value_name = "N", default_value_t = 400)]
    pub(crate) max_requests_inflight: usize,
    /// Requests that change something, at a time; more of them wait for their turn
    #[arg(long, env = "MINIK8S_MAX_MUTATING_REQUESTS_INFLIGHT", value_name = "N", default_value_t = 200)]
    pub(crate) max_mutating_requests_inflight: usize,
    /// Watches, logs and other requests without an end, of one user at a time
    #[arg(long, env = "MINIK8S_MAX_STREAMS_PER_USER", value_name = "N", default_value_t = 2000)]
    pub(crate) max_streams_per_user: usize,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// The command's description, for parsing, help and completion.
pub fn clap_command(name: &'static str) -> clap::Command {
    // Last, because the flattened groups of flags bring their own words.
    ServerArgs::augment_args(clap::Command::new(name))
        .about("Run a cluster: control plane and, unless disabled, a node")
}

/// Ranges and addresses that belong together.
#[derive(Clone, Debug)]
pub(crate) struct ClusterNetwork {
    pub(crate) cluster_cidr: Cidr,
    pub(crate) service_cidr: Cidr,
    pub(crate) node_ports: RangeInclusive<u16>,
    pub(crate) cluster_dns: IpAddr,
    /// The `kubernetes` service's address: the first of the services'.
    pub(crate) kubernetes_ip: IpAddr,
}

/// What can be left out. The second list is what nodes are told of.
const COMPONENTS: &[&str] =
    &["scheduler", "controllers", "proxy", "dns", "policy", "servicelb", "ingress", "local-storage"];
const NODE_COMPONENTS: &[&str] = &["proxy", "dns", "policy", "ingress"];

/// The component's own name, where others know it by another.
fn canonical(name: &str) -> &str {
    match name {
        "kube-proxy" => "proxy",
        "coredns" => "dns",
        "network-policy" => "policy",
        "traefik" => "ingress",
        name => name,
    }
}

impl ServerArgs {
    /// Nothing works if nobody gets a turn.
    pub(crate) fn check_in_flight(&self) -> Result<(), Problem> {
        let numbers = [
            (self.max_requests_inflight, "max-requests-inflight"),
            (self.max_mutating_requests_inflight, "max-mutating-requests-inflight"),
            (self.max_streams_per_user, "max-streams-per-user"),
        ];
        match numbers.into_iter().find(|(number, _)| *number < 10) {
            Some((number, flag)) => Err(Problem::new(
                format!("use --{flag} {number}"),
                "a cluster cannot work with less than 10",
                "give a larger number",
            )),
            None => Ok(()),
        }
    }

    pub(crate) fn network(&self) -> Result<ClusterNetwork, Problem> {
        let parse = |text: &str, flag: &str| -> Result<Cidr, Problem> {
            text.parse().map_err(|error| {
                Problem::new(
                    format!("use {text:?} as a range of addresses"),
                    error,
                    format!("correct --{flag}, such as 10.42.0.0/16"),
                )
            })
        };
        let cluster_cidr = parse(&self.cluster_cidr, "cluster-cidr")?;
        let service_cidr = parse(&self.service_cidr, "service-cidr")?;
        if !cluster_cidr.address().is_ipv4() {
            let why =
                format!("{} is not a range of IPv4, and pods have no other addresses yet", self.cluster_cidr);
            return Err(Problem::new("set up the cluster's addresses", why, "correct --cluster-cidr"));
        }
        if cluster_cidr.overlaps(&service_cidr) {
            let why = format!("{} and {} overlap", self.cluster_cidr, self.service_cidr);
            return Err(Problem::new(
                "set up the cluster's addresses",
                why,
                "correct --cluster-cidr or --service-cidr",
            ));
        }
        let small = || {
            let why = format!("{} has too few addresses", self.service_cidr);
            Problem::new("set up the cluster's addresses", why, "give a larger --service-cidr")
        };
        let kubernetes_ip = nth_address(&service_cidr, 1).ok_or_else(small)?;
        let cluster_dns = match self.cluster_dns {
            Some(address) => address,
            None => nth_address(&service_cidr, 10).ok_or_else(small)?,
        };
        let node_ports = self.node_ports()?;
        Ok(ClusterNetwork { cluster_cidr, service_cidr, node_ports, cluster_dns, kubernetes_ip })
    }

    fn node_ports(&self) -> Result<RangeInclusive<u16>, Problem> {
        let text = &self.service_node_port_range;
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
        let ends = text.split_once('-').and_then(|(first, last)| Some((port(first)?, port(last)?)));
        ends.filter(|(first, last)| first <= last).map(|(first, last)| first..=last).ok_or_else(|| {
            Problem::new(
                format!("use {text:?} as a range of ports"),
                "it is not of the form FIRST-LAST, with numbers from 1 to 65535",
                "correct --service-node-port-range, such as 30000-32767",
            )
        })
    }

    /// The API's address is that of the `kubernetes` service's endpoints, which only takes what pods can
    /// reach.
    pub(crate) fn check_advertised(&self) -> Result<(), Problem> {
        let Some(address) = self.advertise_address else { return Ok(()) };
        let link_local = match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        if !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local) {
            return Ok(());
        }
        Err(Problem::new(
            format!("advertise the API at {address}"),
            "nodes and pods cannot reach that address",
            "give --advertise-address an address of this machine that they can, or leave it out",
        ))
    }

    pub(crate) fn kubeconfig_mode(&self) -> Result<u32, Problem> {
        let text = self.write_kubeconfig_mode.trim_start_matches("0o");
        u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(|| {
            let what = format!("use the mode {:?}", self.write_kubeconfig_mode);
            Problem::new(
                what,
                "it is not an octal number up to 777",
                "correct --write-kubeconfig-mode, such as 644",
            )
        })
    }

    /// Whether a component is to run; an unknown name among the disabled ones is a mistake.
    pub(crate) fn check_disabled(&self) -> Result<(), Problem> {
        for name in &self.disable {
            if !COMPONENTS.contains(&canonical(name)) {
                let near =
                    nearest(name, COMPONENTS.iter().copied()).map(|near| format!("did you mean {near}? "));
                let advice =
                    format!("{}it can be one of {}", near.unwrap_or_default(), COMPONENTS.join(", "));
                return Err(Problem::new(format!("disable {name:?}"), "there is no such component", advice));
            }
        }
        Ok(())
    }

    /// The admission plugins that run.
    pub(crate) fn admission_plugins(&self) -> Result<Plugins, Problem> {
        let names = |list: &[String]| -> Vec<String> {
            list.iter().map(|name| name.trim().to_string()).filter(|name| !name.is_empty()).collect()
        };
        let (more, less) = (names(&self.enable_admission_plugins), names(&self.disable_admission_plugins));
        Plugins::choose(more.iter().map(String::as_str), less.iter().map(String::as_str))
            .map_err(|error| Problem::new("choose admission plugins", error, "correct the flag"))?
            .configured(self.admission_control_config_file.as_deref())
            .map_err(|error| {
                Problem::new("use --admission-control-config-file", chain(&error), "correct the file")
            })
    }

    /// Every entry of `--runtime-config` must name something that there is.
    pub(crate) fn runtime_config(&self) -> Result<RuntimeConfig, Problem> {
        let entries = self.runtime_config.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty());
        RuntimeConfig::parse(entries)
            .map_err(|error| Problem::new("use --runtime-config", error, "correct the flag"))
    }

    /// The same of `--feature-gates`.
    pub(crate) fn feature_gates(&self) -> Result<FeatureGates, Problem> {
        FeatureGates::parse(self.feature_gates.iter().map(String::as_str))
            .map_err(|error| Problem::new("use --feature-gates", error, "correct the flag"))
    }

    pub(crate) fn runs(&self, component: &str) -> bool {
        !self.disable.iter().any(|name| canonical(name) == component)
    }

    /// Parts of nodes that are left out in the whole cluster.
    pub(crate) fn disabled_on_nodes(&self) -> Vec<String> {
        NODE_COMPONENTS.iter().filter(|part| !self.runs(part)).map(|part| part.to_string()).collect()
    }

    /// The machine's address. Only a control plane without a node can do without a route.
    pub(crate) fn node_ip(&self) -> Result<IpAddr, Problem> {
        match machine::node_address(self.node.node_ip) {
            Err(_) if self.disable_agent => {
                Ok(self.advertise_address.unwrap_or(IpAddr::from([127, 0, 0, 1])))
            }
            outcome => outcome,
        }
    }
}

/// The `n`th address of a range.
fn nth_address(range: &Cidr, n: u32) -> Option<IpAddr> {
    let width = if range.address().is_ipv4() { 32 } else { 128 };
    range.subnet(width, n).map(|single| single.address())
}

mod passed_on;
#[cfg(test)]
mod tests;
