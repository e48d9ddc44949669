//! What a server is going to be: flags that have been checked, and what follows from them and the machine.
//! Starts nothing.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use agent::addresses::Addresses;
use agent::command::NODE_PORTS;
use agent::instance::InstanceLock;
use agent::{Instance, Problem, files, machine};
use supervisor::{ConnectionLimits, Stage};
use tokio::sync::watch;

use crate::args::{ClusterNetwork, ServerArgs};
use crate::group::{Flags, Place};
use crate::pki::ServingNames;
use crate::snapshot::{Schedule, Target};

/// Everything that is known before anything starts.
pub(crate) struct ServerPlan {
    pub(crate) arguments: ServerArgs,
    pub(crate) instance: Instance,
    _lock: InstanceLock,
    pub(crate) network: ClusterNetwork,
    pub(crate) snapshots: Schedule,
    pub(crate) node_name: String,
    /// As it was at the start.
    pub(crate) node_ip: IpAddr,
    pub(crate) upload: Option<Target>,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) kubeconfig_mode: u32,
    /// The bounds of each port.
    pub(crate) connections: ConnectionLimits,
    pub(crate) admission: apiserver::Plugins,
    pub(crate) audit: Option<std::sync::Arc<apiserver::Audit>>,
    pub(crate) runtime: apiserver::RuntimeConfig,
    pub(crate) gates: apiserver::FeatureGates,
}

/// Those that a server opens: the API's, the one of etcd's API, and its node's.
const PORTS: usize = 2 + NODE_PORTS;

/// A system-wide place for the default instance, a place of its own for any other.
fn kubeconfig_path(arguments: &ServerArgs, instance: &Instance) -> PathBuf {
    match &arguments.write_kubeconfig {
        Some(path) => path.clone(),
        None if instance.is_default() => PathBuf::from(client::kubeconfig::SYSTEM_FILE),
        None => instance.server_dir().join("kubeconfig.yaml"),
    }
}

impl ServerPlan {
    pub(crate) fn new(mut arguments: ServerArgs) -> Result<Self, Problem> {
        arguments.take_apiserver_args()?;
        arguments.check_disabled()?;
        let runtime = arguments.runtime_config()?;
        let gates = arguments.feature_gates()?;
        let admission = arguments.admission_plugins()?;
        let network = arguments.network()?;
        let kubeconfig_mode = arguments.kubeconfig_mode()?;
        let node_name = arguments.node.name()?;
        arguments.check_in_flight()?;
        arguments.check_advertised()?;
        let connections = arguments.node.connections.limits(PORTS)?;
        arguments.node.labels()?;
        arguments.node.taints()?;
        arguments.node.sysctls()?;
        arguments.node.node_ports()?;
        if !arguments.disable_agent {
            machine::require_root("minik8s server")?;
        }
        let node_ip = arguments.node_ip()?;
        let upload = arguments.s3.target()?;
        let instance = Instance::of(&arguments.common.data_dir)?;
        let snapshots = Schedule::new(
            &arguments.snapshot_schedule_cron,
            arguments.snapshot_retention,
            arguments.snapshot_dir.clone(),
            &instance,
        )?;
        let lock = instance.lock()?;
        let audit = arguments.audit.open()?;
        files::private_directory(&instance.server_dir())?;
        let kubeconfig = kubeconfig_path(&arguments, &instance);
        Ok(ServerPlan {
            admission,
            audit,
            runtime,
            gates,
            arguments,
            instance,
            _lock: lock,
            network,
            snapshots,
            node_name,
            node_ip,
            upload,
            kubeconfig,
            kubeconfig_mode,
            connections,
        })
    }

    /// An address that is given, rather than found.
    pub(crate) fn given_advertise_address(&self) -> Option<IpAddr> {
        let bound = Some(self.arguments.bind_address);
        let bound = bound.filter(|address| !address.is_unspecified() && !address.is_loopback());
        self.arguments.advertise_address.or(bound)
    }

    /// What the serving certificate is for, on a machine with these addresses.
    pub(crate) fn serving_names(&self, machine: &Addresses) -> Result<ServingNames, Problem> {
        let mut addresses = vec![machine.node, self.network.kubernetes_ip, self.arguments.bind_address];
        addresses.extend(self.given_advertise_address());
        if self.arguments.bind_address.is_unspecified() {
            // The cluster's DNS is on this machine too, but not the API.
            addresses.extend(machine.all.iter().filter(|address| **address != self.network.cluster_dns));
        }
        let host =
            nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        let mut extra = self.arguments.tls_san.clone();
        extra.push(self.node_name.clone());
        ServingNames::new(&addresses, &host, &self.arguments.cluster_domain, &extra)
    }

    /// The machine's addresses from now on. The node's own stays what it was given as.
    pub(crate) fn follow_addresses(&self, stage: &Stage) -> watch::Receiver<Addresses> {
        let given = self.arguments.node.node_ip;
        let fixed = given.or_else(|| machine::default_address().is_none().then_some(self.node_ip));
        agent::addresses::follow(fixed, self.node_ip, &self.instance.bridge(), stage)
    }

    /// Where nodes and pods reach the API: as given, else at the node's address.
    pub(crate) fn advertised(
        &self,
        addresses: &watch::Receiver<Addresses>,
        stage: &Stage,
    ) -> watch::Receiver<IpAddr> {
        match self.given_advertise_address() {
            Some(address) => watch::channel(address).1,
            None => agent::addresses::node(addresses.clone(), stage),
        }
    }

    /// Where other servers find this one, and what they call it.
    pub(crate) fn place(&self, port: u16) -> Place {
        let address = self.given_advertise_address().unwrap_or(self.node_ip);
        Place { address: SocketAddr::new(address, port).to_string(), name: self.node_name.clone() }
    }

    /// What must be the same on all servers of a cluster.
    pub(crate) fn group_flags(&self) -> Flags {
        let ports = &self.network.node_ports;
        let flags = [
            ("cluster-cidr", self.network.cluster_cidr.to_string()),
            ("service-cidr", self.network.service_cidr.to_string()),
            ("service-node-port-range", format!("{}-{}", ports.start(), ports.end())),
            ("cluster-dns", self.network.cluster_dns.to_string()),
            ("cluster-domain", self.arguments.cluster_domain.clone()),
        ];
        flags.into_iter().map(|(flag, value)| (flag.to_string(), value)).collect()
    }

    /// Where this machine's clients find the API.
    pub(crate) fn local_url(&self, port: u16) -> String {
        let bound = self.arguments.bind_address;
        let host = if bound.is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { bound };
        format!("https://{}", SocketAddr::new(host, port))
    }
}
