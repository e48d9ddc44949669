//! The control loops, controllers and scheduler: each runs while this server holds its Lease.
//!
//! A server's identity in the Leases is kept in its data directory, so that one that was killed takes its own
//! Leases back at once. Whatever a loop writes carries the term it was started in, and the API server refuses
//! it once that is over.

use std::sync::Arc;

use agent::{Problem, files};
use api::Identity;
use api::identity::{USER_CONTROLLER_MANAGER, USER_SCHEDULER};
use apiserver::ApiServer;
use client::events::Recorder;
use client::leader::{self, Election, Times};
use client::{ApiFor, Informers};
use rand::RngCore;
use supervisor::{Stage, Supervisor};

use crate::pki::{Pki, Signer};
use crate::plan::ServerPlan;

/// Upstream's names of the Leases.
const CONTROLLERS: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";
const NAMESPACE: &str = "kube-system";

pub(crate) fn start(
    plan: &ServerPlan,
    server: &Arc<ApiServer>,
    pki: &Arc<Pki>,
    supervisor: &Supervisor,
) -> Result<(), Problem> {
    let identity = identity(plan)?;
    if plan.arguments.runs("controllers") {
        let stage = supervisor.stage("controllers");
        let config = controllers_config(plan, pki);
        let election = election(server, CONTROLLERS, USER_CONTROLLER_MANAGER, CONTROLLERS, &identity, &stage);
        let server = server.clone();
        leader::run(election, &stage, move |term| {
            let api = server.fenced(term.fence.clone());
            if config.ingress_ports.is_some() {
                // Events are the controller's; what it looks at is read as all controllers read.
                let informers = Informers::new(
                    api.as_user(Identity::user(USER_CONTROLLER_MANAGER, [])),
                    term.stage.clone(),
                );
                let account = api.as_user(Identity::service_account(NAMESPACE, "ingress-controller"));
                let recorder = Recorder::new(account, &term.stage, ingress::COMPONENT, None);
                ingress::tell(&informers, recorder, &term.stage);
            }
            controllers::start(config.clone(), api, &term.stage);
        });
    }
    if plan.arguments.runs("scheduler") {
        let stage = supervisor.stage("scheduler");
        let component = api::pod::DEFAULT_SCHEDULER;
        let election = election(server, SCHEDULER, USER_SCHEDULER, component, &identity, &stage);
        let config = scheduler::framework::Config::default();
        let server = server.clone();
        leader::run(election, &stage, move |term| {
            let api = server.fenced(term.fence.clone()).as_user(Identity::user(USER_SCHEDULER, []));
            let informers = Informers::new(api.clone(), term.stage.clone());
            if let Err(error) = scheduler::start(&config, &api, &informers, &term.stage) {
                tracing::error!(%error, "the scheduler does not start");
            }
        });
    }
    Ok(())
}

fn controllers_config(plan: &ServerPlan, pki: &Arc<Pki>) -> controllers::Config {
    let signer = Signer {
        pki: pki.clone(),
        kubernetes_ip: plan.network.kubernetes_ip,
        own_node: (!plan.arguments.disable_agent).then(|| plan.node_name.clone()),
    };
    controllers::Config {
        cluster_cidr: plan.network.cluster_cidr,
        service_cidr: plan.network.service_cidr,
        node_cidr_mask: if plan.network.cluster_cidr.address().is_ipv4() { 24 } else { 64 },
        root_ca_pem: pki.server_ca.certificate_pem.clone(),
        signer: Arc::new(signer),
        local_storage: plan.arguments.runs("local-storage"),
        runs_load_balancer: plan.arguments.runs("servicelb"),
        load_balancer_reserved_ports: plan.arguments.servicelb_reserved_ports.clone(),
        ingress_ports: plan.arguments.runs("ingress").then(|| {
            let ports = plan.arguments.node.ingress_ports();
            [ports.http, ports.https]
        }),
    }
}

fn election(
    server: &Arc<ApiServer>,
    lease: &str,
    user: &str,
    component: &str,
    identity: &str,
    stage: &Stage,
) -> Election {
    let api = server.as_user(Identity::user(user, []));
    Election {
        recorder: Recorder::new(api.clone(), stage, component, None),
        api,
        namespace: NAMESPACE.to_string(),
        name: lease.to_string(),
        identity: identity.to_string(),
        times: Times::default(),
    }
}

/// This server's name in the Leases: kept, or new.
fn identity(plan: &ServerPlan) -> Result<String, Problem> {
    let path = plan.instance.server_dir().join("identity");
    if let Some(kept) =
        files::read(&path)?.map(|text| text.trim().to_string()).filter(|text| !text.is_empty())
    {
        return Ok(kept);
    }
    let mut bytes = [0u8; 16];
    rand::rng().fill_bytes(&mut bytes);
    let random: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let identity = format!("{}_{random}", plan.node_name);
    files::write(&path, format!("{identity}\n").as_bytes(), 0o600)?;
    Ok(identity)
}
