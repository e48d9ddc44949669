//! The Node object: made if absent, adopted if it is there (labels that are ours to set are brought up to
//! date).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::volumes::LOCAL_PATH_DIRECTORY;
use api::{ApiError, Patch};
use client::{Api, ObjectApi};
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::machine::Machine;
use crate::{Config, NodePort};

fn labels(config: &Config) -> BTreeMap<String, String> {
    let mut labels = config.labels.clone();
    for prefix in ["kubernetes.io", "beta.kubernetes.io"] {
        labels.insert(format!("{prefix}/arch"), Machine::architecture().to_string());
        labels.insert(format!("{prefix}/os"), "linux".to_string());
    }
    labels.insert("kubernetes.io/hostname".to_string(), config.node_name.clone());
    labels
}

/// On a node: the ports it answers on itself. The scheduler reads it and sends no pod here that wants one: a
/// pod that only the kubelet refuses is replaced at once by the next one.
const OWN_PORTS: &str = "node.minik8s.io/ports";

/// `PROTOCOL/ADDRESS:PORT` with commas between.
fn ports(ports: &[NodePort]) -> String {
    let one = |port: &NodePort| format!("{}/{}", port.protocol, port.address);
    ports.iter().map(one).collect::<Vec<_>>().join(",")
}

fn annotations(config: &Config) -> BTreeMap<String, String> {
    let storage = config.storage_dir.to_string_lossy().into_owned();
    let ports = ports(&crate::node_ports(config));
    let annotations = [
        ("volumes.kubernetes.io/controller-managed-attach-detach", "true"),
        (LOCAL_PATH_DIRECTORY, &storage),
        (OWN_PORTS, &ports),
    ];
    let known = annotations.into_iter().filter(|(_, value)| !value.is_empty());
    known.map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// What is missing, or another, in `have`.
fn missing(
    wanted: BTreeMap<String, String>,
    have: Option<&BTreeMap<String, String>>,
) -> BTreeMap<String, String> {
    let is_there = |key: &String, value: &String| have.is_some_and(|have| have.get(key) == Some(value));
    wanted.into_iter().filter(|(key, value)| !is_there(key, value)).collect()
}

/// Registers for as long as it takes.
pub(crate) async fn register(api: &Arc<dyn ObjectApi>, config: &Config, status: &NodeStatus) -> Arc<Node> {
    let mut delay = Duration::from_millis(100);
    loop {
        match try_register(api, config, status).await {
            Ok(node) => return node,
            Err(error) => {
                tracing::warn!(node = %config.node_name, %error, "node not registered yet, will retry")
            }
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(Duration::from_secs(7));
    }
}

async fn try_register(
    api: &Arc<dyn ObjectApi>,
    config: &Config,
    status: &NodeStatus,
) -> Result<Arc<Node>, ApiError> {
    let nodes: Api<Node> = Api::all(api.clone());
    let node = Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels(config)),
            annotations: Some(annotations(config)),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            provider_id: config.provider_id.clone(),
            taints: (!config.taints.is_empty()).then(|| config.taints.clone()),
            ..NodeSpec::default()
        }),
        status: Some(status.clone()),
    };
    match nodes.create(&node).await {
        Err(error) if error.is_already_exists() => adopt(config, &nodes).await,
        other => other,
    }
}

async fn adopt(config: &Config, nodes: &Api<Node>) -> Result<Arc<Node>, ApiError> {
    let name = &config.node_name;
    let node = nodes.get(name).await?;
    let labels = missing(labels(config), node.metadata.labels.as_ref());
    let annotations = missing(annotations(config), node.metadata.annotations.as_ref());
    let provider = config.provider_id.as_ref().filter(|_| {
        node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref()).is_none_or(str::is_empty)
    });
    if labels.is_empty() && annotations.is_empty() && provider.is_none() {
        return Ok(node);
    }
    let mut body = json!({"metadata": {"labels": labels, "annotations": annotations}});
    if let Some(provider) = provider {
        body["spec"] = json!({"providerID": provider});
    }
    nodes.patch(name, Patch::strategic(body)).await
}
