//! The life of a server: what is started in which order, and stopped the other way round.
//!
//! The port is taken first, so that a second server fails before it touches anything; store and keys are opened side by side; the API is
//! served as soon as it is there; controllers, scheduler and node come after it and meet it as their own users.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::command::{DEFAULT_CONFIG, finish, run_to_end, serve_until_stopped};
use agent::flags::{self, Stop};
use agent::instance::InstanceLock;
use agent::join::{ClusterSettings, NETWORK_USER};
use agent::keys::{self, server_with_optional_client};
use agent::node::NodeConfig;
use agent::notify::notify;
use agent::problem::chain;
use agent::token::Token;
use agent::{Instance, Problem, VERSION, files, logging, machine};
use api::Identity;
use api::identity::{GROUP_MASTERS, USER_APISERVER, USER_CONTROLLER_MANAGER, USER_SCHEDULER};
use apiserver::{ApiServer, ServiceAccountKeys, VersionInfo};
use clap::FromArgMatches;
use client::https::{ClientCertificate, TlsNodeDialer};
use client::{ApiFor, Informers};
use embedded_store::{EmbeddedStore, OpenError};
use rand::RngCore;
use supervisor::{OnExit, Stage, Supervisor};
use tokio::net::TcpListener;

use crate::args::{ClusterNetwork, ServerArgs, clap_command};
use crate::dialer::Dialer;
use crate::etcd::{self, EtcdPki, Listen};
use crate::pki::{self, ClientPairs, Pki, ServingNames, Signer};
use crate::snapshot::{Saver, Schedule};
use crate::{admin, approve, publish, role, snapshot};

/// Runs `minik8s server`.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let outcome = flags::parse(clap_command("minik8s server"), arguments, Path::new(DEFAULT_CONFIG))
        .and_then(|matches| {
            let arguments =
                ServerArgs::from_arg_matches(&matches).map_err(|error| Problem::plain(error.to_string()))?;
            logging::init(&arguments.common.log)?;
            run_to_end(run(arguments)).map_err(Stop::from)
        });
    finish("minik8s server", outcome)
}

/// Everything that is known before anything starts.
struct Plan {
    arguments: ServerArgs,
    instance: Instance,
    _lock: InstanceLock,
    network: ClusterNetwork,
    snapshots: Schedule,
    node_name: String,
    node_ip: IpAddr,
    advertise_address: IpAddr,
    kubeconfig: PathBuf,
    kubeconfig_mode: u32,
}

/// A system-wide place for the default instance, a place of its own for any other.
fn kubeconfig_path(arguments: &ServerArgs, instance: &Instance) -> PathBuf {
    match &arguments.write_kubeconfig {
        Some(path) => path.clone(),
        None if instance.is_default() => PathBuf::from(client::kubeconfig::SYSTEM_FILE),
        None => instance.server_dir().join("kubeconfig.yaml"),
    }
}

impl Plan {
    fn new(arguments: ServerArgs) -> Result<Self, Problem> {
        arguments.check_disabled()?;
        let network = arguments.network()?;
        let kubeconfig_mode = arguments.kubeconfig_mode()?;
        let node_name = arguments.node.name()?;
        arguments.node.labels()?;
        arguments.node.taints()?;
        if !arguments.disable_agent {
            machine::require_root("minik8s server")?;
        }
        let node_ip = arguments.node_ip()?;
        let bound = Some(arguments.bind_address)
            .filter(|address| !address.is_unspecified() && !address.is_loopback());
        let advertise_address = arguments.advertise_address.or(bound).unwrap_or(node_ip);
        let instance = Instance::of(&arguments.common.data_dir)?;
        let snapshots = Schedule::new(
            &arguments.snapshot_schedule_cron,
            arguments.snapshot_retention,
            arguments.snapshot_dir.clone(),
            &instance,
        )?;
        let lock = instance.lock()?;
        files::private_directory(&instance.server_dir())?;
        let kubeconfig = kubeconfig_path(&arguments, &instance);
        Ok(Plan {
            arguments,
            instance,
            _lock: lock,
            network,
            snapshots,
            node_name,
            node_ip,
            advertise_address,
            kubeconfig,
            kubeconfig_mode,
        })
    }

    fn serving_names(&self) -> Result<ServingNames, Problem> {
        let addresses =
            [self.advertise_address, self.node_ip, self.network.kubernetes_ip, self.arguments.bind_address];
        let host =
            nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        let mut extra = self.arguments.tls_san.clone();
        extra.push(self.node_name.clone());
        ServingNames::new(&addresses, &host, &self.arguments.cluster_domain, &extra)
    }

    /// Where this machine's clients find the API.
    fn local_url(&self, port: u16) -> String {
        let bound = self.arguments.bind_address;
        let host = if bound.is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { bound };
        format!("https://{}", SocketAddr::new(host, port))
    }
}

async fn bind(arguments: &ServerArgs) -> Result<(TcpListener, u16), Problem> {
    let address = SocketAddr::new(arguments.bind_address, arguments.https_listen_port);
    let failed = |error: std::io::Error| {
        let advice = "stop what uses it, or choose another with --https-listen-port or --bind-address";
        Problem::new(format!("listen on {address}"), error, advice)
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    Ok((listener, port))
}

fn open_store(instance: &Instance) -> Result<Arc<EmbeddedStore>, Problem> {
    let folder = instance.server_dir().join("store");
    let opened = EmbeddedStore::open(embedded_store::Config::new(&folder));
    let (store, recovery) = opened.map_err(|error| match &error {
        OpenError::Io { path, source } if source.kind() == std::io::ErrorKind::StorageFull => {
            let what = format!("open the store in {}", path.display());
            Problem::new(what, source, "free some space on its disk and start again: nothing is lost")
        }
        _ => Problem::plain(format!("cannot open the store: {}", chain(&error))),
    })?;
    if let Some(torn) = &recovery.torn_tail {
        tracing::warn!(
            torn,
            "the end of the store's log was not whole and is cut off: nothing acknowledged is in it"
        );
    }
    if let Some(rebuilt) = &recovery.rebuilt {
        tracing::warn!(rebuilt, "the store's state was damaged and is rebuilt from the log");
    }
    tracing::info!(revision = recovery.revision, replayed = recovery.replayed, "the store is open");
    Ok(store)
}

/// The secret that lets nodes join: given, kept, or new. Kept in the form that pins the CA.
fn join_secret(plan: &Plan, ca_pem: &str) -> Result<String, Problem> {
    let path = plan.instance.server_dir().join("token");
    let kept = files::read(&path)?.map(|text| Token::parse(&text)).transpose().map_err(|problem| {
        let advice = "restore it from a backup, or remove it to have a new one made";
        Problem::new(format!("read {}", path.display()), problem, advice)
    })?;
    let given = plan.arguments.token.as_deref().map(Token::parse).transpose()?;
    let token = given.or(kept).unwrap_or_else(|| {
        let mut bytes = [0u8; 16];
        rand::rng().fill_bytes(&mut bytes);
        Token { ca_hash: None, secret: bytes.iter().map(|byte| format!("{byte:02x}")).collect() }
    });
    let text = format!("{}\n", token.full(ca_pem));
    if files::read(&path)?.as_deref() != Some(&text) {
        files::write(&path, text.as_bytes(), 0o600)?;
    }
    Ok(token.secret)
}

fn client_certificate(pair: &keys::Pair) -> ClientCertificate {
    ClientCertificate {
        certificate_pem: pair.certificate_pem.clone().into_bytes(),
        key_pem: pair.key_pem.clone().into_bytes(),
    }
}

fn write_kubeconfig(plan: &Plan, url: &str, pki: &Pki, clients: &ClientPairs) -> Result<(), Problem> {
    let text = pki::kubeconfig(url, &pki.server_ca.certificate_pem, &clients.admin);
    if let Some(folder) = plan.kubeconfig.parent() {
        std::fs::create_dir_all(folder).map_err(|error| {
            Problem::new(
                format!("create {}", folder.display()),
                error,
                "choose a writable place with --write-kubeconfig",
            )
        })?;
    }
    files::write(&plan.kubeconfig, text.as_bytes(), plan.kubeconfig_mode)?;
    // Uninstalling removes the file where it was written.
    let note = plan.instance.server_dir().join("kubeconfig-path");
    let place = std::path::absolute(&plan.kubeconfig).unwrap_or_else(|_| plan.kubeconfig.clone());
    files::write(&note, place.as_os_str().as_encoded_bytes(), 0o600)
}

async fn run(arguments: ServerArgs) -> Result<(), Problem> {
    let began = Instant::now();
    let plan = Plan::new(arguments)?;
    tracing::info!(version = VERSION, data = %plan.instance.data_dir().display(), "starting");
    let supervisor = Supervisor::new();
    supervisor.watch_clock();
    let mut opened = None;
    let outcome = match start(&plan, &supervisor, &mut opened, began).await {
        Ok(()) => serve_until_stopped(&supervisor).await,
        Err(problem) => {
            supervisor.shutdown(Duration::from_secs(15)).await;
            Err(problem)
        }
    };
    if let Some(store) = opened {
        // What is only in memory goes to the disk now: nothing would be lost without it, but the next start is quicker.
        let _ = tokio::task::spawn_blocking(move || store.close()).await;
    }
    tracing::info!("stopped");
    outcome
}

async fn start(
    plan: &Plan,
    supervisor: &Supervisor,
    opened: &mut Option<Arc<EmbeddedStore>>,
    began: Instant,
) -> Result<(), Problem> {
    let (listener, port) = bind(&plan.arguments).await?;
    let etcd_listener = etcd::bind(Listen::parse(plan.arguments.etcd_listen.as_deref())?).await?;
    let instance = plan.instance.clone();
    let opening = tokio::task::spawn_blocking(move || open_store(&instance));
    let (tls_dir, names) = (plan.instance.server_dir().join("tls"), plan.serving_names()?);
    let (pki, clients) = Pki::open(&tls_dir, names, keys::now())?;
    let pki = Arc::new(pki);
    let secret = join_secret(plan, &pki.server_ca.certificate_pem)?;
    let store =
        opening.await.map_err(|error| Problem::new("open the store", error, "see the messages above"))??;
    *opened = Some(store.clone());

    let saver = Saver {
        store: store.clone(),
        instance: plan.instance.clone(),
        folder: plan.snapshots.folder.clone(),
    };
    let etcd_pki = start_etcd(plan, store.clone(), etcd_listener, &tls_dir, supervisor)?;
    let dialer = TlsNodeDialer::new(
        pki.server_ca.certificate_pem.as_bytes(),
        &client_certificate(&clients.kubelet_client),
    )
    .map_err(|error| {
        Problem::new("set up the way to nodes", chain(&error), "remove DATA/server/tls/client-*")
    })?;
    let dialer = Arc::new(Dialer::new(dialer));
    let api_stage = supervisor.stage("apiserver");
    let mut config = apiserver_config(plan, port, &pki, secret, dialer.clone());
    let measured = store.clone();
    config.more_metrics = Some(Arc::new(move || measured.render_metrics()));
    let server = ApiServer::start(config, store, &api_stage)
        .await
        .map_err(|error| Problem::plain(format!("cannot start the API server: {}", chain(&error))))?;
    let tls = server_with_optional_client(&pki.client_ca.certificate_der, pki.serving.clone())
        .map_err(|error| Problem::new("set up TLS", chain(&error), "check the files in DATA/server/tls"))?;
    let port_stage = supervisor.stage("port");
    server.serve(listener, Arc::new(tls), &port_stage);
    let url = plan.local_url(port);
    write_kubeconfig(plan, &url, &pki, &clients)?;
    tracing::info!(%url, kubeconfig = %plan.kubeconfig.display(), after = ?began.elapsed(), "the API is served");

    let upkeep = supervisor.stage("upkeep");
    keep_certificates(plan, &url, pki.clone(), etcd_pki, dialer.clone(), &upkeep);
    admin::start(&plan.instance, saver.clone(), &upkeep)?;
    snapshot::start(plan.snapshots.clone(), saver, &upkeep);
    let settings = ClusterSettings {
        cluster_cidr: plan.network.cluster_cidr.to_string(),
        cluster_dns: vec![plan.network.cluster_dns],
        cluster_domain: plan.arguments.cluster_domain.clone(),
        client_ca_pem: pki.client_ca.certificate_pem.clone(),
    };
    let own_api = server.as_user(Identity::user(USER_APISERVER, [GROUP_MASTERS]));
    publish::start(own_api.clone(), settings.clone(), &upkeep);
    start_control_loops(plan, &server, &pki, supervisor);
    if plan.arguments.disable_agent {
        notify("READY=1");
        return Ok(());
    }
    start_node(plan, &server, &pki, &settings, dialer, supervisor, began).await
}

/// etcd's API goes last when the server stops: its stage is the oldest.
fn start_etcd(
    plan: &Plan,
    store: Arc<EmbeddedStore>,
    listener: Option<TcpListener>,
    tls_dir: &Path,
    supervisor: &Supervisor,
) -> Result<Option<EtcdPki>, Problem> {
    let Some(listener) = listener else { return Ok(None) };
    let address = listener.local_addr().map_or(plan.node_ip, |address| address.ip());
    let pki = EtcdPki::open(tls_dir, address, &plan.node_name, keys::now())?;
    let stage = supervisor.stage("etcd's API");
    let writes = plan.arguments.etcd_write_registry;
    etcd::start(store, listener, &pki, &plan.node_name, writes, &stage)?;
    Ok(Some(pki))
}

fn apiserver_config(
    plan: &Plan,
    port: u16,
    pki: &Pki,
    secret: String,
    dialer: Arc<Dialer>,
) -> apiserver::Config {
    let issuer = format!("https://kubernetes.default.svc.{}", plan.arguments.cluster_domain);
    apiserver::Config {
        service_cidr: plan.network.service_cidr.to_string(),
        cluster_domain: plan.arguments.cluster_domain.clone(),
        advertise_address: plan.advertise_address,
        advertise_port: port,
        service_account_keys: ServiceAccountKeys {
            audiences: vec![issuer.clone()],
            issuer,
            private_key_pem: pki.service_account_key_pem.clone(),
            public_keys_pem: Vec::new(),
        },
        client_ca_der: pki.client_ca.certificate_der.to_vec(),
        client_ca_pem: pki.client_ca.certificate_pem.clone(),
        ca_pem: pki.server_ca.certificate_pem.clone(),
        join_token: Some(secret),
        node_dialer: dialer,
        version: VersionInfo { git_version: VERSION.to_string(), ..VersionInfo::default() },
        more_metrics: None,
    }
}

fn start_control_loops(plan: &Plan, server: &Arc<ApiServer>, pki: &Pki, supervisor: &Supervisor) {
    if plan.arguments.runs("controllers") {
        let stage = supervisor.stage("controllers");
        let signer = Signer {
            server_ca: pki.server_ca.clone(),
            client_ca: pki.client_ca.clone(),
            kubernetes_ip: plan.network.kubernetes_ip,
        };
        let config = controllers::Config {
            cluster_cidr: plan.network.cluster_cidr,
            node_cidr_mask: if plan.network.cluster_cidr.address().is_ipv4() { 24 } else { 64 },
            root_ca_pem: pki.server_ca.certificate_pem.clone(),
            signer: Arc::new(signer),
        };
        let own_api = server.as_user(Identity::user(USER_APISERVER, [GROUP_MASTERS]));
        let reader = server.as_user(Identity::user(USER_CONTROLLER_MANAGER, []));
        approve::start(own_api, &Informers::new(reader, stage.clone()), &stage);
        controllers::start(config, server.clone(), &stage);
    }
    if plan.arguments.runs("scheduler") {
        let stage = supervisor.stage("scheduler");
        let api = server.as_user(Identity::user(USER_SCHEDULER, []));
        scheduler::start(api.clone(), Informers::new(api, stage.clone()), &stage);
    }
}

async fn start_node(
    plan: &Plan,
    server: &Arc<ApiServer>,
    pki: &Pki,
    settings: &ClusterSettings,
    dialer: Arc<Dialer>,
    supervisor: &Supervisor,
    began: Instant,
) -> Result<(), Problem> {
    let node = &plan.arguments.node;
    let config = NodeConfig {
        instance: plan.instance.clone(),
        node_name: plan.node_name.clone(),
        node_ip: plan.node_ip,
        labels: node.labels()?,
        taints: node.taints()?,
        bind_address: plan.arguments.bind_address,
        kubelet_port: node.kubelet_port,
        cluster_cidr: settings.cluster_cidr.clone(),
        cluster_dns: settings.cluster_dns.clone(),
        cluster_domain: settings.cluster_domain.clone(),
        container_runtime_endpoint: node.runtime_endpoint(),
        client_ca: pki.client_ca.certificate_der.clone(),
    };
    let own_api = server.as_user(Identity::user(USER_APISERVER, [GROUP_MASTERS]));
    role::start(own_api, &plan.node_name, &supervisor.stage("role"));
    let api = server.as_user(Identity::node(&plan.node_name));
    let network_api = server.as_user(Identity::user(NETWORK_USER, []));
    let kubelet = agent::node::start(config, api, network_api, supervisor).await?;
    let ready = kubelet.ready.clone();
    dialer.set_own(plan.node_name.clone(), kubelet);
    supervisor.stage("readiness").spawn_cancellable("readiness", OnExit::Done, async move {
        ready.wait().await;
        tracing::info!(after = ?began.elapsed(), "the node is Ready");
    });
    notify("READY=1");
    Ok(())
}

/// How often certificates are looked at; they are renewed 90 days before their end.
const LOOK_AT_CERTIFICATES: Duration = Duration::from_secs(12 * 3600);

/// Renews certificates while the server runs, and hands the new ones to whoever uses them.
fn keep_certificates(
    plan: &Plan,
    url: &str,
    pki: Arc<Pki>,
    etcd_pki: Option<EtcdPki>,
    dialer: Arc<Dialer>,
    stage: &Stage,
) {
    let tls_dir = plan.instance.server_dir().join("tls");
    let (path, mode, url) = (plan.kubeconfig.clone(), plan.kubeconfig_mode, url.to_string());
    let mut clock = stage.clock();
    stage.spawn_cancellable("renewal of certificates", OnExit::Stop, async move {
        loop {
            clock.sleep(LOOK_AT_CERTIFICATES).await;
            let renewed = pki.renew(keys::now()).and_then(|clients| {
                if let Err(error) =
                    dialer.remote().replace_certificate(&client_certificate(&clients.kubelet_client))
                {
                    tracing::warn!(
                        error = chain(&error),
                        "the renewed certificate towards kubelets cannot be used"
                    );
                }
                let text = pki::kubeconfig(&url, &pki.server_ca.certificate_pem, &clients.admin);
                let is_current = std::fs::read_to_string(&path).is_ok_and(|old| old == text);
                if is_current { Ok(()) } else { files::write(&path, text.as_bytes(), mode) }
            });
            let etcd = etcd_pki.as_ref().map_or(Ok(()), |pki| pki.renew(&tls_dir, keys::now()));
            for problem in [renewed, etcd].into_iter().filter_map(Result::err) {
                tracing::warn!(%problem, "certificates are not renewed");
            }
        }
    });
}
