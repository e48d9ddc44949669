//! A node: container runtime, pod network and kubelet. Servers and agents run the same.
//!
//! Started as three stages, so that stopping goes the other way round: the kubelet first, containerd last.
//! Pods stay.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::{BoxFuture, Informers, ObjectApi};
use k8s_openapi::api::core::v1::{Pod, Taint};
pub use kubelet::{KubeletHandle as Kubelet, NodePort};
use kubelet::{KubeletTuning, NetworkGate, NetworkPending, SysctlAllowlist};
use network::{DnsConfig, NodePortAddresses, PluginDirectory, PolicyGate, ProxyConfig};
use rcgen::SanType;
use rustls_pki_types::CertificateDer;
use supervisor::{Clock, ConnectionLimits, OnExit, Stage, Supervisor};
use tokio::sync::watch;

use crate::keys::{self, Ask, CertificateSlot, Pair, PairFiles};
use crate::problem::chain;
use crate::status::collect::NodeSource;
use crate::{Instance, Problem, VERSION, containerd, files, machine};

/// Common name of the client certificate with which API servers reach kubelets.
pub const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";

/// Made and imported by the kubelet.
pub(crate) const SANDBOX_IMAGE: &str = "minik8s.local/pause:1";

/// What a node is told. The same for a server's own node and for an agent.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub instance: Instance,
    pub node_name: String,
    /// Follows the machine's.
    pub node_ip: watch::Receiver<IpAddr>,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub bind_address: IpAddr,
    pub kubelet_port: u16,
    /// Bounds of the kubelet's port.
    pub connections: ConnectionLimits,
    pub cluster_cidr: String,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// Packets to services are led to their endpoints by this process.
    pub runs_proxy: bool,
    pub node_ports: NodePortAddresses,
    /// Names are answered by this process, on `cluster_dns`.
    pub runs_dns: bool,
    /// Network policies are kept by this process.
    pub runs_policy: bool,
    /// Ports for ingresses (0: none), if this process serves them.
    pub ingress: Option<IngressPorts>,
    /// A runtime that somebody else runs.
    pub container_runtime_endpoint: Option<PathBuf>,
    /// Sysctls that pods may set.
    pub sysctls: SysctlAllowlist,
    /// Containers without a seccomp profile get the runtime's default one.
    pub seccomp_default: bool,
    pub tuning: KubeletTuning,
    /// Ports of this machine's server, which are none for pods.
    pub server_ports: Vec<NodePort>,
    /// CA of the API server's client certificate.
    pub client_ca: CertificateDer<'static>,
    /// CA that the kubelet's own certificate must be of; none if the server does not say.
    pub serving_ca: Option<CertificateDer<'static>>,
}

/// Where ingresses are served; 0 for not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngressPorts {
    pub http: u16,
    pub https: u16,
}

/// A node that was started.
pub struct Running {
    pub kubelet: Kubelet,
    /// How to look at it.
    pub source: NodeSource,
}

/// Starts the node. `api` acts as the node itself, `network_api` as one who may read all nodes. Returns when
/// the kubelet's port is open; what can heal later (runtime down, API unreachable) does not keep it from
/// starting.
pub async fn start(
    config: NodeConfig,
    api: Arc<dyn ObjectApi>,
    network_api: Arc<dyn ObjectApi>,
    supervisor: &Supervisor,
) -> Result<Running, Problem> {
    let agent_dir = config.instance.agent_dir();
    files::private_directory(&agent_dir)?;
    files::private_directory(&config.instance.run_dir())?;
    network::forget_last_boot(&network_config(&config)).map_err(|error| {
        Problem::new("prepare the pod network", chain(&error), "check permissions and space of the disk")
    })?;
    machine::require_network_tools()?;
    let cri_socket = match &config.container_runtime_endpoint {
        Some(socket) => {
            if let Err(error) = tokio::net::UnixStream::connect(socket).await {
                let socket = socket.display();
                tracing::warn!(%socket, %error, "the container runtime does not answer; the node will not be Ready until it does");
            }
            socket.clone()
        }
        None => own_containerd(&config, &supervisor.stage("containerd")).await?,
    };
    let network_stage = supervisor.stage("network");
    let network_informers = Informers::new(network_api, network_stage.clone());
    let gate = network::start(
        network_config(&config),
        proxy_config(&config).as_ref(),
        dns_config(&config).as_ref(),
        config.runs_policy,
        &network_informers,
        &network_stage,
    );
    let more_metrics = ingress_config(&config).map(|ingress| {
        let stage = supervisor.stage("ingress");
        let secrets = Informers::new(api.clone(), stage.clone());
        ingress::start(&ingress, &network_informers, &secrets, &stage)
    });

    let stage = supervisor.stage("kubelet");
    let slot = Arc::new(CertificateSlot::default());
    let tls = keys::kubelet_server(&config.client_ca, KUBELET_CLIENT, slot.clone());
    let tls = tls.map_err(|error| {
        Problem::new("set up the kubelet's TLS", chain(&error), "check the cluster's CA files")
    })?;
    keep_serving_certificate(&config, api.clone(), slot, &stage)?;
    let settings = kubelet::Config {
        network_gate: gate.map(|gate| Arc::new(Gate(gate)) as Arc<dyn NetworkGate>),
        more_metrics,
        ..kubelet_config(&config, cri_socket.clone(), Arc::new(tls))
    };
    let kubelet = kubelet::start(settings, api.clone(), &stage).await.map_err(|error| {
        Problem::new(
            "start the kubelet",
            chain(&error),
            "free the port, or choose another with --kubelet-port",
        )
    })?;
    let own = config.container_runtime_endpoint.is_none();
    let source = NodeSource {
        name: config.node_name.clone(),
        api,
        kubelet_port: kubelet.port,
        ready: kubelet.ready.clone(),
        socket: cri_socket,
        images: kubelet.images.clone(),
        kubelet_dir: kubelet_dir(&config.instance),
        images_dir: config.instance.agent_dir().join("images"),
        registries_dir: config.instance.agent_dir().join("registries"),
        dns: config
            .cluster_dns
            .first()
            .filter(|_| config.runs_dns)
            .map(|dns| (*dns, config.cluster_domain.clone())),
        on_server: config.instance.server_dir().join("tls").is_dir(),
        own_containerd: own
            .then(|| (containerd_config_dir(&config.instance), containerd_log(&config.instance))),
    };
    Ok(Running { kubelet, source })
}

/// Lets pods start once the rules of policies that select them are in place.
struct Gate(PolicyGate);

impl NetworkGate for Gate {
    fn ready<'a>(
        &'a self,
        pod: &'a Pod,
        addresses: &'a [String],
    ) -> BoxFuture<'a, Result<(), NetworkPending>> {
        Box::pin(async move {
            self.0.ready(pod, addresses).await.map_err(|error| NetworkPending(Box::new(error)))
        })
    }
}

/// Where the kubelet keeps what it must not forget.
pub(crate) fn kubelet_dir(instance: &Instance) -> PathBuf {
    instance.agent_dir().join("kubelet")
}

fn containerd_log(instance: &Instance) -> PathBuf {
    instance.agent_dir().join("containerd.log")
}

/// kube-proxy's ports: health for everybody, metrics for the machine.
const PROXY_HEALTH: u16 = 10256;
const PROXY_METRICS: u16 = 10249;

fn proxy_config(config: &NodeConfig) -> Option<ProxyConfig> {
    config.runs_proxy.then(|| ProxyConfig {
        node_ip: config.node_ip.clone(),
        node_ports: config.node_ports.clone(),
        health_address: Some(SocketAddr::new(config.bind_address, PROXY_HEALTH)),
        metrics_address: Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PROXY_METRICS)),
    })
}

fn ingress_config(config: &NodeConfig) -> Option<ingress::Config> {
    config.ingress.map(|ports| ingress::Config {
        node_name: config.node_name.clone(),
        bind_address: config.bind_address,
        http_port: ports.http,
        https_port: ports.https,
        connections: config.connections,
    })
}

fn dns_config(config: &NodeConfig) -> Option<DnsConfig> {
    config
        .runs_dns
        .then(|| DnsConfig { addresses: config.cluster_dns.clone(), domain: config.cluster_domain.clone() })
}

/// What this process answers on, beside the kubelet: no pod may take it.
fn node_ports(config: &NodeConfig) -> Vec<NodePort> {
    const DNS: u16 = 53;
    let mut ports = config.server_ports.clone();
    if let Some(proxy) = proxy_config(config) {
        let answered = [proxy.health_address, proxy.metrics_address].into_iter().flatten();
        ports.extend(answered.map(|address| NodePort { protocol: "TCP", address, owner: "service proxy" }));
    }
    for dns in dns_config(config).into_iter().flat_map(|dns| dns.addresses) {
        let address = SocketAddr::new(dns, DNS);
        ports.extend(["TCP", "UDP"].map(|protocol| NodePort { protocol, address, owner: "cluster DNS" }));
    }
    ports
}

/// Names and places of the pod network.
pub(crate) fn network_config(config: &NodeConfig) -> network::Config {
    let instance = &config.instance;
    network::Config {
        node_name: config.node_name.clone(),
        cluster_cidr: config.cluster_cidr.clone(),
        ..network_names(instance)
    }
}

/// The part of the pod network's settings that the instance alone determines.
pub(crate) fn network_names(instance: &Instance) -> network::Config {
    network::Config {
        node_name: String::new(),
        cluster_cidr: String::new(),
        network_name: instance.name(),
        bridge: instance.bridge(),
        table: instance.table(),
        cni_conf_dir: instance.agent_dir().join("cni"),
        state_dir: instance.agent_dir().join("network"),
    }
}

pub(crate) fn containerd_config_dir(instance: &Instance) -> PathBuf {
    instance.agent_dir().join("containerd")
}

const CONTAINERD_TIMEOUT: Duration = Duration::from_secs(10);

async fn own_containerd(config: &NodeConfig, stage: &Stage) -> Result<PathBuf, Problem> {
    let program = machine::find_containerd().await?;
    let plugins = PluginDirectory::find().ok_or_else(|| {
        let advice = "install them (apt-get install containernetworking-plugins)";
        Problem::new("set up the pod network", "the standard CNI plugins are not installed", advice)
    })?;
    let folder = containerd_config_dir(&config.instance);
    files::private_directory(&folder)?;
    let run_dir = config.instance.run_dir();
    let settings = containerd::Settings {
        root: folder.join("root"),
        state: run_dir.join("containerd"),
        run_dir,
        socket: config.instance.containerd_socket(),
        log: containerd_log(&config.instance),
        cni_conf_dir: network_names(&config.instance).cni_conf_dir,
        cni_bin_dir: plugins.0,
        registries: config.instance.agent_dir().join("registries"),
        sandbox_image: SANDBOX_IMAGE.to_string(),
        snapshotter: if machine::overlay_works(&folder) { "overlayfs" } else { "native" },
        systemd_cgroup: machine::systemd_makes_cgroups(),
        restrict_oom_score_adj: !machine::may_lower_oom_score(),
        config_dir: folder,
    };
    let handle = containerd::start(program, settings, network_config(config), stage)?;
    if tokio::time::timeout(CONTAINERD_TIMEOUT, handle.ready.wait()).await.is_err() {
        let log = containerd_log(&config.instance);
        tracing::warn!(log = %log.display(), "containerd does not answer yet; the node will not be Ready until it does");
    }
    Ok(handle.socket)
}

fn kubelet_config(
    config: &NodeConfig,
    cri_socket: PathBuf,
    tls: Arc<rustls::ServerConfig>,
) -> kubelet::Config {
    let agent_dir = config.instance.agent_dir();
    kubelet::Config {
        node_name: config.node_name.clone(),
        node_ip: config.node_ip.clone(),
        labels: config.labels.clone(),
        taints: config.taints.clone(),
        provider_id: Some(format!("minik8s://{}", config.node_name)),
        instance: config.instance.suffix().to_string(),
        data_dir: kubelet_dir(&config.instance),
        log_dir: agent_dir.join("logs"),
        images_dir: agent_dir.join("images"),
        registries_dir: agent_dir.join("registries"),
        storage_dir: config.instance.data_dir().join("storage"),
        static_pods_dir: Some(agent_dir.join("pod-manifests")),
        cri_socket,
        cgroup_parent: config.instance.pods_cgroup(),
        tuning: config.tuning,
        node_ports: node_ports(config),
        cluster_dns: config.cluster_dns.clone(),
        cluster_domain: config.cluster_domain.clone(),
        sysctls: config.sysctls.clone(),
        seccomp_default: config.seccomp_default,
        sandbox_image: SANDBOX_IMAGE.to_string(),
        network_gate: None,
        more_metrics: None,
        endpoint: Some(kubelet::Endpoint {
            tls,
            bind_address: config.bind_address,
            port: config.kubelet_port,
            connections: config.connections,
        }),
        version: VERSION.to_string(),
    }
}

/// Shows the certificate that is there, and asks for one whenever there is none, the address has changed or
/// it is time.
fn keep_serving_certificate(
    config: &NodeConfig,
    api: Arc<dyn ObjectApi>,
    slot: Arc<CertificateSlot>,
    stage: &Stage,
) -> Result<(), Problem> {
    let (name, mut address) = (config.node_name.clone(), config.node_ip.clone());
    let authority = config.serving_ca.as_ref();
    let place = PairFiles::in_directory(&config.instance.agent_dir(), "kubelet-serving");
    let current = place.load()?.filter(|pair| serves(pair, &name, *address.borrow(), authority));
    if let Some(pair) = &current {
        let _ = slot.replace(pair);
    }
    let mut clock = stage.clock();
    let task = async move {
        let mut current = current;
        let mut certified = *address.borrow_and_update();
        let mut delay = FIRST_RETRY;
        loop {
            if let Some(pair) = &current {
                tokio::select! {
                    () = until_due(&mut clock, pair) => {}
                    () = moved(&mut address, certified) => {}
                }
            }
            certified = *address.borrow_and_update();
            match fresh_serving_pair(&api, &name, certified).await {
                Ok(pair) => {
                    if let Err(error) = slot.replace(&pair) {
                        tracing::warn!(error = chain(&error), "the kubelet's new certificate cannot be used");
                    }
                    if let Err(problem) = place.store(&pair) {
                        tracing::warn!(%problem, "the kubelet's certificate is not kept");
                    }
                    tracing::info!("the kubelet has a serving certificate");
                    (current, delay) = (Some(pair), FIRST_RETRY);
                    // The next is never due so soon, unless the clocks of server and node are far apart.
                    tokio::select! {
                        () = clock.sleep(LONGEST_RETRY) => {}
                        () = moved(&mut address, certified) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, retry = ?delay, "the kubelet has no current serving certificate: logs are unavailable");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LONGEST_RETRY);
                }
            }
        }
    };
    stage.spawn_cancellable("kubelet serving certificate", OnExit::Stop, task);
    Ok(())
}

/// Returns when the node has another address than this one.
async fn moved(address: &mut watch::Receiver<IpAddr>, from: IpAddr) {
    if address.wait_for(|now| *now != from).await.is_err() {
        // It keeps its address for good.
        std::future::pending().await
    }
}

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Returns when a certificate is to be renewed: late in its life, or when the clock was set to before its
/// beginning.
pub(crate) async fn until_due(clock: &mut Clock, pair: &Pair) {
    let Ok(validity) = keys::validity(&pair.certificate_pem) else { return };
    while keys::now() < validity.renew_at() && validity.covers(keys::now()) {
        clock.sleep_towards(validity.renew_at()).await;
    }
}

/// Whether a certificate is for this name and address, of this authority, and still good for a while.
fn serves(pair: &Pair, name: &str, address: IpAddr, authority: Option<&CertificateDer<'_>>) -> bool {
    let Ok(der) = keys::first_certificate(&pair.certificate_pem) else { return false };
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&der) else { return false };
    if let Some(authority) = authority {
        let Ok((_, authority)) = x509_parser::parse_x509_certificate(authority) else { return false };
        // Authorities of different clusters and times have different names.
        if parsed.issuer().as_raw() != authority.subject().as_raw() {
            return false;
        }
    }
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return false };
    let wanted = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mut has = (false, false);
    for general in &names.value.general_names {
        match general {
            x509_parser::extensions::GeneralName::DNSName(dns) => has.0 |= *dns == name,
            x509_parser::extensions::GeneralName::IPAddress(bytes) => has.1 |= *bytes == wanted.as_slice(),
            _ => {}
        }
    }
    has == (true, true)
        && keys::validity(&pair.certificate_pem).is_ok_and(|validity| validity.covers(keys::now()))
}

async fn fresh_serving_pair(api: &Arc<dyn ObjectApi>, name: &str, address: IpAddr) -> Result<Pair, Problem> {
    let failed = |error: &dyn std::error::Error| {
        Problem::new("obtain the kubelet's serving certificate", chain(error), "it is tried again")
    };
    let key_pem = keys::new_key().map_err(|error| failed(&error))?;
    let dns = name.to_string().try_into().map_err(|error: rcgen::Error| failed(&error))?;
    let names = [SanType::DnsName(dns), SanType::IpAddress(address)];
    let request = keys::request_for(&key_pem, &format!("system:node:{name}"), Some("system:nodes"), &names);
    let ask = Ask {
        prefix: "csr-",
        signer: "kubernetes.io/kubelet-serving",
        usages: &["digital signature", "server auth"],
        request_pem: request.map_err(|error| failed(&error))?,
        previous: None,
    };
    let signed = keys::obtain(api.clone(), &ask, Duration::from_secs(60)).await;
    Ok(Pair { certificate_pem: signed.map_err(|error| failed(&error))?, key_pem })
}

#[cfg(test)]
mod tests;
