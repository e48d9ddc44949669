//! The Service `kube-system/kube-dns` with its endpoints, for charts, policies and tools that look for it.
//!
//! Every node answers on the cluster's address for DNS itself, so that address is also the one endpoint: who
//! follows it, such as another service proxy, stays on its node. Without DNS of ours the objects go, so that
//! somebody else's (CoreDNS' chart, say) can take the name and the address. Objects of that name that others
//! have made are left alone.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, DeleteOptions, FieldSelector, Kinded, LabelSelector};
use client::{Api, Informers, ObjectApi};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use supervisor::{OnExit, Stage};
use tokio::sync::Notify;

use crate::publish::ensure;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const MANAGER: &str = "minik8s";

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Keeps the objects in a task of `stage`; without an address, sees that there are none.
pub(crate) fn start(api: Arc<dyn ObjectApi>, dns: Option<IpAddr>, stage: &Stage) {
    let changed = Arc::new(Notify::new());
    let informers = Informers::new(api.clone(), stage.clone());
    if dns.is_some() {
        follow::<Service>(&informers, &changed);
        follow::<EndpointSlice>(&informers, &changed);
        follow::<Endpoints>(&informers, &changed);
    }
    stage.spawn_cancellable("the name service's objects", OnExit::Done, async move {
        let mut delay = FIRST_RETRY;
        loop {
            let outcome = match dns {
                Some(address) => publish(&api, address).await,
                None => withdraw(&api).await,
            };
            match outcome {
                Ok(()) if dns.is_none() => return,
                Ok(()) => {
                    delay = FIRST_RETRY;
                    changed.notified().await;
                }
                Err(error) => {
                    tracing::warn!(%error, retry = ?delay, "the service kube-system/kube-dns is not as it should be");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LONGEST_RETRY);
                }
            }
        }
    });
}

/// Wakes when the object of the name changes.
fn follow<K: Kinded>(informers: &Informers, changed: &Arc<Notify>) {
    let only = FieldSelector::equals("metadata.name", NAME);
    let informer = informers.selected::<K>(Some(NAMESPACE), LabelSelector::everything(), only);
    let wake = changed.clone();
    informer.on_object_change(move |_| wake.notify_one());
}

fn metadata(more: Value) -> Value {
    let mut labels = json!({
        "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS", "kubernetes.io/cluster-service": "true",
        MANAGED_BY: MANAGER,
    });
    if let (Some(labels), Value::Object(more)) = (labels.as_object_mut(), more) {
        labels.extend(more);
    }
    let annotations = json!({"prometheus.io/port": "9153", "prometheus.io/scrape": "true"});
    json!({"name": NAME, "namespace": NAMESPACE, "labels": labels, "annotations": annotations})
}

/// Names, protocols and numbers.
const PORTS: [(&str, &str, u16); 3] = [("dns", "UDP", 53), ("dns-tcp", "TCP", 53), ("metrics", "TCP", 9153)];

fn service(address: IpAddr) -> Value {
    let ports = PORTS.map(|(name, protocol, port)| {
        json!({"name": name, "protocol": protocol, "port": port, "targetPort": port})
    });
    json!({"metadata": metadata(json!({})), "spec": {"clusterIP": address, "ports": ports}})
}

fn ports() -> Value {
    PORTS
        .map(|(name, protocol, port)| json!({"name": name, "protocol": protocol, "port": port}))
        .into_iter()
        .collect()
}

fn slice(address: IpAddr) -> Value {
    let labels = json!({
        "kubernetes.io/service-name": NAME, "endpointslice.kubernetes.io/managed-by": MANAGER,
    });
    let conditions = json!({"ready": true, "serving": true, "terminating": false});
    json!({
        "metadata": metadata(labels),
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [address], "conditions": conditions}],
        "ports": ports(),
    })
}

fn endpoints(address: IpAddr) -> Value {
    let labels = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    json!({"metadata": metadata(labels), "subsets": [{"addresses": [{"ip": address}], "ports": ports()}]})
}

fn typed<K: Kinded>(object: &Value) -> Result<K, ApiError> {
    K::from_tree(object).map_err(|error| ApiError::internal(error.to_string()))
}

fn is_own<K: Kinded>(object: &K) -> bool {
    let labels = object.metadata().labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGER)
}

async fn publish(api: &Arc<dyn ObjectApi>, address: IpAddr) -> Result<(), ApiError> {
    let wanted: Service = typed(&service(address))?;
    let services: Api<Service> = Api::namespaced(api.clone(), NAMESPACE);
    match services.find(NAME).await? {
        Some(there) if !is_own(&*there) => return Ok(()),
        Some(there)
            if there.spec.as_ref().and_then(|spec| spec.cluster_ip.clone()) != Some(address.to_string()) =>
        {
            // Another address than at the last start: that of a service cannot be changed.
            services.delete(NAME, &DeleteOptions::default()).await?;
            services.create(&wanted).await?;
        }
        Some(_) => {}
        None => {
            services.create(&wanted).await?;
        }
    }
    ensure(api, &typed::<Endpoints>(&endpoints(address))?, |old, new| {
        !is_own(old) || old.subsets == new.subsets
    })
    .await?;
    ensure(api, &typed::<EndpointSlice>(&slice(address))?, |old, new| {
        !is_own(old) || (old.endpoints == new.endpoints && old.ports == new.ports)
    })
    .await
}

async fn withdraw(api: &Arc<dyn ObjectApi>) -> Result<(), ApiError> {
    withdraw_one::<Service>(api).await?;
    withdraw_one::<Endpoints>(api).await?;
    withdraw_one::<EndpointSlice>(api).await
}

async fn withdraw_one<K: Kinded>(api: &Arc<dyn ObjectApi>) -> Result<(), ApiError> {
    let api: Api<K> = Api::namespaced(api.clone(), NAMESPACE);
    match api.find(NAME).await? {
        Some(there) if is_own(&*there) => match api.delete(NAME, &DeleteOptions::default()).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}
