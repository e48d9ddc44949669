//! What every cluster has: system namespaces, the `kubernetes` service with its endpoints, the bootstrap
//! policy, priority classes, the objects of flow control, APIServices.
//!
//! Runs at every start; what is there is left alone, but the endpoints follow the advertised address.

pub(crate) mod api_services;
mod classes;
mod flow_control;
mod service_range;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::kinds::{ENDPOINT_SLICE, ENDPOINTS, NAMESPACE, SERVICE};
use api::validation::{Faults, Path};
use api::{ApiError, Cidr, CreateOptions, Identity, KindRow, Patch, UpdateOptions};
use client::{ApiFor, ObjectApi, ObjectRef};
use serde_json::{Value, json};

use crate::authz::bootstrap as policy;
use crate::config::OtherServers;
use crate::error::StartError;
use crate::registry::strategies::endpoints::endpoint_ip;
use crate::server::ApiServer;

pub(crate) use service_range::follow as follow_service_range;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const SERVICE_NAME: &str = "kubernetes";
/// The endpoints are ours, not the endpoint slice mirroring controller's.
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";

/// As the API server itself, which is a master.
pub(crate) fn identity() -> Identity {
    Identity::user(api::identity::USER_APISERVER, [api::identity::GROUP_MASTERS])
}

pub(crate) async fn run(server: &Arc<ApiServer>) -> Result<(), StartError> {
    let api = server.as_user(identity());
    let namespaces = NAMESPACES.map(|name| {
        let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        ensure(&api, &NAMESPACE, None, name, body)
    });
    for done in futures::future::join_all(namespaces).await {
        done?;
    }
    let services = async {
        service_range::ensure(&api, &server.registry.config.service_cidr).await.map_err(|source| {
            StartError::Bootstrap { what: format!("servicecidr {}", service_range::NAME), source }
        })?;
        // Services of a version that knew no claims are taken over before anybody asks for an address.
        server.registry.take_over().await?;
        kubernetes_service(server, &api).await
    };
    let (policy, service, flow_control, classes) =
        futures::join!(policy::ensure(api.as_ref()), services, flow_control::run(&api), classes::run(&api));
    flow_control?;
    classes?;
    policy.map_err(|source| StartError::Bootstrap { what: "the bootstrap policy".into(), source })?;
    service
}

/// Brings the endpoints of the `kubernetes` service to the address that is advertised now, whenever that
/// changes.
pub(crate) async fn follow_address(server: Arc<ApiServer>) {
    let api = server.as_user(identity());
    let mut address = server.registry.config.advertise_address.clone();
    let mut others = server.registry.config.other_servers.clone();
    // One that was given never changes.
    let (mut fixed, mut alone) = (false, false);
    while !(fixed && alone) {
        tokio::select! {
            changed = address.changed(), if !fixed => if changed.is_err() {
                fixed = true;
                continue;
            },
            changed = others.changed(), if !alone => if changed.is_err() {
                alone = true;
                continue;
            },
        }
        let mut pause = FIRST_PAUSE;
        while let Err(error) = kubernetes_service(&server, &api).await {
            tracing::warn!(%error, retry = ?pause, "the kubernetes service does not follow the server's address yet");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

async fn ensure(
    api: &Arc<dyn ObjectApi>,
    row: &'static KindRow,
    namespace: Option<&str>,
    name: &str,
    body: Value,
) -> Result<(), StartError> {
    let outcome = match api.get(row, ObjectRef::new(namespace, name)).await {
        Err(error) if error.is_not_found() => {
            api.create(row, namespace, body, &CreateOptions::default()).await.map(drop)
        }
        other => other.map(drop),
    };
    match outcome {
        Err(source) if !source.is_already_exists() => {
            Err(StartError::Bootstrap { what: format!("{} {name}", row.singular), source })
        }
        _ => Ok(()),
    }
}

/// Creates an object, or brings a part of it to what it should be.
async fn converge(
    api: &Arc<dyn ObjectApi>,
    row: &'static KindRow,
    name: &str,
    body: Value,
    parts: &[&str],
) -> Result<(), StartError> {
    let fail = |source: ApiError| StartError::Bootstrap { what: format!("{} {name}", row.singular), source };
    let namespace = Some("default");
    let present = match api.get(row, ObjectRef::new(namespace, name)).await {
        Ok(object) => object,
        Err(error) if error.is_not_found() => return ensure(api, row, namespace, name, body).await,
        Err(error) => return Err(fail(error)),
    };
    let tree = present.tree().map_err(|error| fail(ApiError::internal(error)))?;
    if parts.iter().all(|part| tree.get(part) == body.get(part)) {
        return Ok(());
    }
    let change: serde_json::Map<String, Value> =
        parts.iter().map(|part| (part.to_string(), body[*part].clone())).collect();
    let patch = Patch::merge(Value::Object(change));
    let options = UpdateOptions::default();
    api.patch(row, ObjectRef::new(namespace, name), patch, &options).await.map(drop).map_err(fail)
}

async fn kubernetes_service(server: &ApiServer, api: &Arc<dyn ObjectApi>) -> Result<(), StartError> {
    let config = &server.registry.config;
    let (own, port) = (*config.advertise_address.borrow(), config.advertise_port);
    let address = own.to_string();
    let others = config.other_servers.borrow().clone();
    let range = config.service_cidr.parse::<Cidr>();
    // The first address of the range is this service's.
    let cluster_ip = range.ok().and_then(|range| range.service_address(0)).map(|address| address.to_string());
    let cluster_ip = cluster_ip
        .ok_or_else(|| StartError::Config(format!("service CIDR {:?} is not a CIDR", config.service_cidr)))?;
    let family = if address.contains(':') { "IPv6" } else { "IPv4" };
    let labels = json!({ "component": "apiserver", "provider": "kubernetes" });
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": SERVICE_NAME, "namespace": "default", "labels": labels },
        "spec": {
            "type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "sessionAffinity": "None",
            "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": port }],
        },
    });
    ensure(api, &SERVICE, Some("default"), SERVICE_NAME, service).await?;
    let OtherServers::KeptHere(others) = others else { return Ok(()) };
    let mut faults = Faults::new();
    endpoint_ip(&address, &Path::new("advertise-address"), &mut faults);
    if let Some(fault) = faults.first() {
        // A machine without a route has no other address. The API works there, without the service.
        tracing::warn!(%fault, "the kubernetes service has no endpoints");
        return Ok(());
    }
    let same_family = others.into_iter().filter(|other| other.is_ipv4() == own.is_ipv4());
    let addresses: BTreeSet<IpAddr> = same_family.chain([own]).collect();
    let subset: Vec<Value> = addresses.iter().map(|address| json!({ "ip": address })).collect();
    let ready = json!({ "ready": true });
    let each = |address: &IpAddr| json!({ "addresses": [address], "conditions": ready });
    let listed: Vec<Value> = addresses.iter().map(each).collect();
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": { "name": SERVICE_NAME, "namespace": "default", "labels": { SKIP_MIRROR: "true" } },
        "subsets": [{
            "addresses": subset,
            "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
        }],
    });
    converge(api, &ENDPOINTS, SERVICE_NAME, endpoints, &["subsets"]).await?;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": SERVICE_NAME, "namespace": "default",
            "labels": { "kubernetes.io/service-name": SERVICE_NAME },
        },
        "addressType": family,
        "endpoints": listed,
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
    });
    converge(api, &ENDPOINT_SLICE, SERVICE_NAME, slice, &["endpoints", "ports"]).await
}
