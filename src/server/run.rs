//! The life of a server: what is started in which order, and stopped the other way round.
//!
//! The port is taken first, so that a second server fails before it touches anything; store and keys are
//! opened side by side; the API is served as soon as it is there; controllers, scheduler and node come after
//! it and meet it as their own users.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use agent::addresses::Addresses;
use agent::claim::NodeClaim;
use agent::command::{DEFAULT_CONFIG, finish, run_to_end, serve_until_stopped};
use agent::flags::{self, Stop};
use agent::join::{ClusterSettings, NETWORK_USER};
use agent::keys::{self, server_with_optional_client};
use agent::node::{NodeConfig, NodePort};
use agent::notify::notify;
use agent::problem::chain;
use agent::status::collect::{NodeSource, ProcessSource};
use agent::status::report::Etcd;
use agent::{Problem, VERSION, failure, logging, origin};
use api::Identity;
use api::identity::{GROUP_MASTERS, USER_APISERVER};
use apiserver::{ApiServer, Encryption, Limits, OtherServers, ServiceAccountKeys, VersionInfo};
use clap::FromArgMatches;
use client::ApiFor;
use client::events::Recorder;
use client::https::{ClientCertificate, TlsNodeDialer};
use embedded_store::EmbeddedStore;
use k8s_openapi::api::core::v1::ObjectReference;
use supervisor::{OnExit, Stage, Supervisor};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::args::{ServerArgs, clap_command};
use crate::commands::servers;
use crate::dialer::Dialer;
use crate::encryption::{self, Secrets};
use crate::etcd::{self, Bound, EtcdPki, Listen};
use crate::group::{Port, Servers};
use crate::kubeconfig::{self, Kubeconfigs};
use crate::pki::{ClientPairs, Pki};
use crate::plan::ServerPlan;
use crate::shared_token::SharedToken;
use crate::snapshot::{Client, Past, Saver};
use crate::tokens::Tokens;
use crate::{admin, loops, name_service, publish, role, snapshot, status, upkeep};

mod kept;

use kept::{Kept, open_kept, tls_dir};

/// How long audit events may take to get out when the server stops.
const AUDIT_FLUSH: Duration = Duration::from_secs(10);

/// Runs `minik8s server`.
pub fn main(arguments: &[OsString]) -> ExitCode {
    if servers::is_verb(arguments.first()) {
        return servers::main(arguments);
    }
    let outcome = flags::parse(clap_command("minik8s server"), arguments, Path::new(DEFAULT_CONFIG))
        .and_then(|matches| {
            let arguments =
                ServerArgs::from_arg_matches(&matches).map_err(|error| Problem::plain(error.to_string()))?;
            logging::init(&arguments.common.log)?;
            run_to_end(run(arguments)).map_err(Stop::from)
        });
    finish("minik8s server", outcome)
}

fn bind(arguments: &ServerArgs) -> Result<(TcpListener, u16), Problem> {
    let address = SocketAddr::new(arguments.bind_address, arguments.https_listen_port);
    let failed = |error: std::io::Error| {
        let advice = "stop what uses it, or choose another with --https-listen-port or --bind-address";
        Problem::new(format!("listen on {address}"), error, advice)
    };
    let listener = crate::listen::listen(address).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    Ok((listener, port))
}

pub(crate) fn client_certificate(pair: &keys::Pair) -> ClientCertificate {
    ClientCertificate {
        certificate_pem: pair.certificate_pem.clone().into_bytes(),
        key_pem: pair.key_pem.clone().into_bytes(),
    }
}

async fn run(arguments: ServerArgs) -> Result<(), Problem> {
    let began = Instant::now();
    let plan = Arc::new(ServerPlan::new(arguments)?);
    let runs_node = !plan.arguments.disable_agent;
    let _claim = runs_node.then(|| NodeClaim::take(&plan.instance)).transpose()?;
    tracing::info!(version = VERSION, data = %plan.instance.data_dir().display(), "starting");
    let supervisor = Supervisor::new();
    supervisor.watch_clock();
    let mut opened = None;
    failure::forget(&plan.instance);
    let outcome = match start(&plan, &supervisor, &mut opened, began).await {
        Ok(()) => serve_until_stopped(&supervisor).await,
        Err(problem) => {
            supervisor.shutdown(Duration::from_secs(15)).await;
            Err(problem)
        }
    };
    if let Some((store, servers)) = opened {
        servers.stop().await;
        // What is only in memory goes to the disk now: nothing would be lost without it, but the next start
        // is quicker.
        let _ = tokio::task::spawn_blocking(move || store.close()).await;
    }
    if let Some(audit) = plan.audit.clone() {
        let _ = tokio::task::spawn_blocking(move || audit.flush(AUDIT_FLUSH)).await;
    }
    failure::note(&plan.instance, &outcome);
    tracing::info!("stopped");
    outcome
}

async fn start(
    plan: &Arc<ServerPlan>,
    supervisor: &Supervisor,
    opened: &mut Option<(Arc<EmbeddedStore>, Arc<Servers>)>,
    began: Instant,
) -> Result<(), Problem> {
    let (listener, port) = bind(&plan.arguments)?;
    let etcd_port = etcd::bind(Listen::parse(plan.arguments.etcd_listen.as_deref())?)?;
    let server_ports = server_ports(SocketAddr::new(plan.arguments.bind_address, port), &etcd_port);
    let addresses = plan.follow_addresses(&supervisor.stage("addresses"));
    let machine = addresses.borrow().clone();
    let kept = open_kept(plan, &machine, port, &supervisor.stage("other servers")).await?;
    *opened = Some((kept.store.clone(), kept.servers.clone()));
    kept.servers.start();

    let encryption = encryption::open(plan).await?;
    let (etcd_pki, etcd) = start_etcd(plan, &kept, etcd_port, supervisor)?;
    let dialer = node_dialer(&kept.pki, &kept.clients)?;
    let api_stage = supervisor.stage("apiserver");
    let advertised = plan.advertised(&addresses, &api_stage);
    let starting = async {
        kept.servers.take_part(plan.arguments.server.as_deref()).await?;
        start_api(plan, &kept, advertised.clone(), port, dialer.clone(), encryption.clone(), &api_stage).await
    };
    // The group needs its members before it has a leader, and the API needs one.
    let server = kept.servers.serve_while(&listener, plan.connections, starting).await?;
    let Kept { pki, clients, agents, store, recovery, servers } = kept;
    server.serve(listener, serving_tls(&pki)?, &supervisor.stage("port"));
    let url = plan.local_url(port);
    kubeconfig::write(plan, &url, &pki, &clients)?;
    tracing::info!(%url, kubeconfig = %plan.kubeconfig.display(), after = ?began.elapsed(), "the API is served");

    let upkeep_stage = supervisor.stage("upkeep");
    start_upkeep(plan, &pki, etcd_pki, &dialer, &url, addresses.clone(), &upkeep_stage);
    let saver = saver(plan, store.clone(), &server, &upkeep_stage)?;
    snapshot::start(plan.snapshots.clone(), saver.clone(), &upkeep_stage);
    let node = Arc::new(OnceLock::new());
    let secrets = Secrets { server: server.clone(), store: store.clone() };
    let own_api = server.as_user(Identity::user(USER_APISERVER, [GROUP_MASTERS]));
    let ca_pem = pki.server_ca.certificate_pem.clone();
    let source = status::Source {
        process: ProcessSource {
            role: "server",
            instance: plan.instance.clone(),
            began,
            supervisor: supervisor.clone(),
        },
        server: server.clone(),
        url: url.clone(),
        advertised: advertised.clone(),
        port,
        listens_on_loopback: plan.arguments.bind_address.is_loopback(),
        kubeconfig: plan.kubeconfig.clone(),
        store,
        recovery,
        servers: servers.clone(),
        etcd,
        schedule: plan.snapshots.clone(),
        saver,
        node: node.clone(),
        runs_node: !plan.arguments.disable_agent,
        api: own_api.clone(),
        ca_pem: ca_pem.clone(),
    };
    let settings = settings(plan, &pki);
    let agents =
        SharedToken { api: own_api.clone(), agents: Arc::new(agents), instance: plan.instance.clone() };
    agents.follow(&upkeep_stage);
    let served = admin::Served {
        source,
        tokens: Tokens { api: own_api.clone(), agents, ca_pem, advertised, port },
        kubeconfigs: Kubeconfigs { pki: pki.clone(), url },
        servers: servers.clone(),
        encryption: secrets,
    };
    admin::start(served, &upkeep_stage)?;
    let dns = plan.arguments.runs("dns").then_some(plan.network.cluster_dns);
    name_service::start(own_api.clone(), dns, &upkeep_stage);
    publish::start(own_api, settings.clone(), pki.kubelet_roots(keys::now()), &upkeep_stage);
    loops::start(plan, &server, &pki, supervisor)?;
    if !plan.arguments.disable_agent {
        let starting =
            start_node(plan, &server, &pki, &settings, addresses, dialer, server_ports, supervisor, began);
        let _ = node.set(starting.await?);
    }
    servers.hand_over_at_stop(&supervisor.stage("leadership"));
    notify("READY=1");
    Ok(())
}

/// What pods on this machine may not take.
fn server_ports(api: SocketAddr, etcd: &Bound) -> Vec<NodePort> {
    let etcd = match etcd {
        Bound::Listening(listener) => listener.local_addr().ok(),
        Bound::Off | Bound::Taken(_) => None,
    };
    let port = |address, owner| NodePort { protocol: "TCP", address, owner };
    [Some(port(api, "API server")), etcd.map(|address| port(address, "etcd API"))]
        .into_iter()
        .flatten()
        .collect()
}

/// The API server, which does not listen yet.
async fn start_api(
    plan: &ServerPlan,
    kept: &Kept,
    advertised: watch::Receiver<IpAddr>,
    port: u16,
    dialer: Arc<Dialer>,
    encryption: Arc<Encryption>,
    stage: &Stage,
) -> Result<Arc<ApiServer>, Problem> {
    let mut config = apiserver_config(plan, advertised, port, &kept.pki, kept.agents.subscribe(), dialer);
    config.other_servers = kept.servers.others();
    config.other_protocols = Some(Arc::new(Port(kept.servers.clone())));
    let measured = kept.store.clone();
    config.more_metrics = Some(Arc::new(move || measured.render_metrics()));
    config.encryption = encryption.clone();
    let server = ApiServer::start(config, kept.store.clone(), stage)
        .await
        .map_err(|error| Problem::plain(format!("cannot start the API server: {}", chain(&error))))?;
    if let Some(path) = &plan.arguments.encryption_provider_config {
        encryption::follow(path.clone(), encryption, stage);
    }
    let secrets = Secrets { server: server.clone(), store: kept.store.clone() };
    if plan.arguments.secrets_encryption {
        secrets.enable_at_start().await?;
    }
    Ok(server)
}

/// Renews certificates and what is made of them.
fn start_upkeep(
    plan: &Arc<ServerPlan>,
    pki: &Arc<Pki>,
    etcd: Option<Arc<EtcdPki>>,
    dialer: &Arc<Dialer>,
    url: &str,
    addresses: watch::Receiver<Addresses>,
    stage: &Stage,
) {
    let users = upkeep::Users {
        pki: pki.clone(),
        etcd,
        dialer: dialer.clone(),
        tls_dir: tls_dir(plan),
        kubeconfig: plan.kubeconfig.clone(),
        kubeconfig_mode: plan.kubeconfig_mode,
        url: url.to_string(),
    };
    let planned = plan.clone();
    upkeep::start(users, addresses, move |now| planned.serving_names(now), stage);
}

/// What nodes are told of the cluster.
fn settings(plan: &ServerPlan, pki: &Pki) -> ClusterSettings {
    ClusterSettings {
        cluster_cidr: plan.network.cluster_cidr.to_string(),
        cluster_dns: vec![plan.network.cluster_dns],
        cluster_domain: plan.arguments.cluster_domain.clone(),
        disabled: plan.arguments.disabled_on_nodes(),
        client_ca_pem: pki.client_ca.certificate_pem.clone(),
        kubelet_ca_pem: Some(pki.kubelet_ca.certificate_pem.clone()),
    }
}

fn serving_tls(pki: &Pki) -> Result<Arc<rustls::ServerConfig>, Problem> {
    let tls = server_with_optional_client(&pki.client_ca.certificate_der, pki.serving.clone());
    tls.map(Arc::new)
        .map_err(|error| Problem::new("set up TLS", chain(&error), "check the files in DATA/server/tls"))
}

fn node_dialer(pki: &Pki, clients: &ClientPairs) -> Result<Arc<Dialer>, Problem> {
    let certificate = client_certificate(&clients.kubelet_client);
    let dialer = TlsNodeDialer::new(pki.kubelet_roots(keys::now()).as_bytes(), &certificate);
    dialer.map(|dialer| Arc::new(Dialer::new(dialer))).map_err(|error| {
        Problem::new("set up the way to nodes", chain(&error), "remove DATA/server/tls/client-*")
    })
}

/// What saves snapshots; its events are about the node or, where there is none, about the system's namespace.
fn saver(
    plan: &ServerPlan,
    store: Arc<EmbeddedStore>,
    server: &Arc<ApiServer>,
    stage: &Stage,
) -> Result<Saver, Problem> {
    let api = server.as_user(Identity::user(USER_APISERVER, [GROUP_MASTERS]));
    let recorder = Recorder::new(api, stage, "minik8s", Some(&plan.node_name));
    let (kind, name) = match plan.arguments.disable_agent {
        true => ("Namespace", "kube-system"),
        false => ("Node", plan.node_name.as_str()),
    };
    let regarding = ObjectReference {
        api_version: Some("v1".to_string()),
        kind: Some(kind.to_string()),
        name: Some(name.to_string()),
        ..ObjectReference::default()
    };
    let upload = plan.upload.clone().map(Client::new).transpose()?.map(Arc::new);
    if let Some(client) = &upload {
        tracing::info!(place = %client.target(), "snapshots are uploaded");
    }
    Ok(Saver {
        store,
        instance: plan.instance.clone(),
        folder: plan.snapshots.folder.clone(),
        upload,
        past: Arc::new(Past::new(recorder, regarding)),
        turn: Arc::default(),
    })
}

/// etcd's API goes last when the server stops: its stage is the oldest but that of the addresses.
fn start_etcd(
    plan: &ServerPlan,
    kept: &Kept,
    bound: Bound,
    supervisor: &Supervisor,
) -> Result<(Option<Arc<EtcdPki>>, Etcd), Problem> {
    let listener = match bound {
        Bound::Listening(listener) => listener,
        Bound::Off => return Ok((None, Etcd::default())),
        Bound::Taken(why) => return Ok((None, Etcd { url: None, off: Some(why) })),
    };
    let address = listener.local_addr().map_or(plan.node_ip, |address| address.ip());
    let pki = EtcdPki::open(&tls_dir(plan), address, &plan.node_name, keys::now())?;
    let stage = supervisor.stage("etcd's API");
    let served = etcd::Served {
        store: kept.store.clone(),
        members: kept.servers.clone(),
        name: &plan.node_name,
        write_registry: plan.arguments.etcd_write_registry,
        connections: plan.connections,
    };
    let url = etcd::start(served, listener, &pki, &stage)?;
    kept.servers.set_etcd_url(&url);
    Ok((Some(Arc::new(pki)), Etcd { url: Some(url), off: None }))
}

fn apiserver_config(
    plan: &ServerPlan,
    advertised: watch::Receiver<IpAddr>,
    port: u16,
    pki: &Pki,
    agents: watch::Receiver<String>,
    dialer: Arc<Dialer>,
) -> apiserver::Config {
    for version in plan.runtime.left_out() {
        tracing::warn!(version, "--runtime-config asks for a version that this server does not have");
    }
    let issuer = format!("https://kubernetes.default.svc.{}", plan.arguments.cluster_domain);
    apiserver::Config {
        service_cidr: plan.network.service_cidr.to_string(),
        node_ports: plan.network.node_ports.clone(),
        cluster_domain: plan.arguments.cluster_domain.clone(),
        advertise_address: advertised,
        advertise_port: port,
        front_proxy: pki.front_proxy.subscribe(),
        service_account_keys: ServiceAccountKeys {
            audiences: vec![issuer.clone()],
            issuer,
            private_key_pem: pki.service_account_key_pem.clone(),
            public_keys_pem: Vec::new(),
            extend_expiration: plan.arguments.service_account_extend_token_expiration,
        },
        client_ca_der: pki.client_ca.certificate_der.to_vec(),
        client_ca_pem: pki.client_ca.certificate_pem.clone(),
        ca_pem: pki.server_ca.certificate_pem.clone(),
        join_token: Some(agents),
        anonymous_auth: plan.arguments.anonymous_auth,
        node_dialer: dialer,
        version: VersionInfo {
            git_version: VERSION.to_string(),
            git_commit: origin::commit().to_string(),
            build_date: origin::date().to_string(),
        },
        audit: plan.audit.clone(),
        encryption: Arc::default(),
        limits: Limits {
            connections: plan.connections,
            requests: plan.arguments.max_requests_inflight,
            mutating_requests: plan.arguments.max_mutating_requests_inflight,
            streams_per_user: plan.arguments.max_streams_per_user,
            ..Limits::default()
        },
        admission: plan.admission.clone(),
        runtime: plan.runtime.clone(),
        gates: plan.gates.clone(),
        more_metrics: None,
        other_protocols: None,
        other_servers: watch::channel(OtherServers::KeptHere(Vec::new())).1,
    }
}

#[expect(clippy::too_many_arguments, reason = "it is the second half of `start`")]
async fn start_node(
    plan: &ServerPlan,
    server: &Arc<ApiServer>,
    pki: &Pki,
    settings: &ClusterSettings,
    addresses: watch::Receiver<Addresses>,
    dialer: Arc<Dialer>,
    server_ports: Vec<NodePort>,
    supervisor: &Supervisor,
    began: Instant,
) -> Result<NodeSource, Problem> {
    let node = &plan.arguments.node;
    let config = NodeConfig {
        instance: plan.instance.clone(),
        node_name: plan.node_name.clone(),
        node_ip: agent::addresses::node(addresses, &supervisor.stage("node address")),
        labels: node.labels()?,
        taints: node.taints()?,
        bind_address: plan.arguments.bind_address,
        kubelet_port: node.kubelet_port,
        connections: plan.connections,
        cluster_cidr: settings.cluster_cidr.clone(),
        cluster_dns: settings.cluster_dns.clone(),
        cluster_domain: settings.cluster_domain.clone(),
        runs_proxy: settings.runs("proxy"),
        runs_policy: settings.runs("policy"),
        node_ports: node.node_ports()?,
        runs_dns: settings.runs("dns"),
        ingress: settings.runs("ingress").then(|| node.ingress_ports()),
        container_runtime_endpoint: node.runtime_endpoint(),
        sysctls: node.sysctls()?,
        tuning: node.tuning()?,
        seccomp_default: node.seccomp_default,
        server_ports,
        client_ca: pki.client_ca.certificate_der.clone(),
        serving_ca: Some(pki.kubelet_ca.certificate_der.clone()),
    };
    let own_api = server.as_user(Identity::user(USER_APISERVER, [GROUP_MASTERS]));
    role::start(own_api, &plan.node_name, &supervisor.stage("role"));
    let api = server.as_user(Identity::node(&plan.node_name));
    let network_api = server.as_user(Identity::user(NETWORK_USER, []));
    let agent::node::Running { kubelet, source } =
        agent::node::start(config, api, network_api, supervisor).await?;
    let ready = kubelet.ready.clone();
    dialer.set_own(plan.node_name.clone(), kubelet);
    supervisor.stage("readiness").spawn_cancellable("readiness", OnExit::Done, async move {
        ready.wait().await;
        tracing::info!(after = ?began.elapsed(), "the node is Ready");
    });
    Ok(source)
}
