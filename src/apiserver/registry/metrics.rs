//! `metrics.k8s.io`: what nodes and pods use, asked of their kubelets when somebody asks.
//!
//! Upstream leaves this group to an add-on behind the aggregator; here it is answered like any other read,
//! from the kubelets' `/stats/summary`. A node that does not answer in time is left out of lists, as one
//! that has no measurements is. What a node says is its own pods' use only: pods are the API's, and a node
//! speaks for those that are bound to it.
//!
//! What a node said is kept for some seconds, whether it was of use or not; who asks meanwhile gets that, or
//! waits for the one question that is under way. So what a read costs the server and its nodes is bounded.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::kinds::{NODE, POD};
use api::schema::BuiltIn;
use api::{ApiError, KindRow, ListOptions, Object, Scope};
use client::ObjectList;
use futures::future::join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::resource::{Backing, Resource};
use super::{Call, Registry, strategies};

const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";
const NODES: &str = "NodeMetrics";
/// A kubelet measures for a second if it was not asked for a while.
const SUMMARY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a read waits for a node, others' questions included.
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// How long a node's answer holds.
const KEPT: Duration = Duration::from_secs(10);
/// Nodes that are asked at once.
const AT_ONCE: usize = 8;
/// The longest answer that is taken.
const LARGEST: usize = 2 * 1024 * 1024;
/// Kubelets count no rate over a longer time.
const WINDOW: &str = "1m0s";

/// The group's resources.
pub(super) fn resources() -> [Resource; 2] {
    [resource(NODES, "nodes", Scope::Cluster), resource("PodMetrics", "pods", Scope::Namespaced)]
}

fn resource(kind: &'static str, plural: &'static str, scope: Scope) -> Resource {
    let verbs: Vec<Cow<'static, str>> = vec!["get".into(), "list".into()];
    let row = KindRow {
        group: GROUP.into(),
        version: VERSION.into(),
        kind: kind.into(),
        plural: plural.into(),
        singular: "".into(),
        scope,
        short_names: Cow::Borrowed(&[]),
        categories: Cow::Borrowed(&[]),
        verbs: Cow::Owned(verbs),
        subresources: Cow::Borrowed(&[]),
        storage: None,
        stored_as: None,
    };
    Resource {
        strategy: strategies::for_row(&row),
        schema: Arc::new(BuiltIn::named(GROUP, VERSION, kind)),
        conversion: None,
        completes: false,
        rules: None,
        fields: Vec::new(),
        version: row.api_version(),
        stored_version: row.api_version(),
        subresources: Vec::new(),
        backing: Backing::Metrics,
        openapi: Some(schema(kind).to_string().into()),
        row: Arc::new(row),
    }
}

fn schema(kind: &str) -> Value {
    let amounts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let mut properties = json!({
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "timestamp": {"type": "string", "format": "date-time"},
        "window": {"type": "string"},
    });
    if kind == NODES {
        properties["usage"] = amounts;
    } else {
        let container =
            json!({"type": "object", "properties": {"name": {"type": "string"}, "usage": amounts}});
        properties["containers"] = json!({"type": "array", "items": container});
    }
    json!({"type": "object", "properties": properties})
}

/// What one kubelet measured, as far as it is shown.
#[derive(Deserialize)]
struct Summary {
    node: Measured,
    #[serde(default)]
    pods: Vec<PodMeasured>,
}

#[derive(Deserialize)]
struct Measured {
    cpu: Option<Processor>,
    memory: Option<Memory>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Processor {
    time: Option<Time>,
    usage_nano_cores: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    working_set_bytes: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodMeasured {
    pod_ref: PodRef,
    containers: Option<Vec<ContainerMeasured>>,
}

#[derive(Deserialize)]
struct PodRef {
    uid: String,
}

#[derive(Deserialize)]
struct ContainerMeasured {
    name: String,
    cpu: Option<Processor>,
    memory: Option<Memory>,
}

impl Summary {
    /// The pod's containers; none while it was not measured.
    fn containers_of(&self, uid: &str) -> Option<Vec<Value>> {
        let pod = self.pods.iter().find(|one| one.pod_ref.uid == uid)?;
        let shown = pod.containers.iter().flatten().filter_map(|one| {
            Some(json!({"name": one.name, "usage": usage(one.cpu.as_ref(), one.memory.as_ref())?}))
        });
        let shown: Vec<Value> = shown.collect();
        (!shown.is_empty()).then_some(shown)
    }

    fn time(&self) -> Option<&Time> {
        self.node.cpu.as_ref()?.time.as_ref()
    }
}

/// The rate of processor time and the working set, as quantities.
fn usage(cpu: Option<&Processor>, memory: Option<&Memory>) -> Option<Value> {
    let (cpu, memory) = (cpu?.usage_nano_cores?, memory?.working_set_bytes?);
    Some(json!({"cpu": format!("{cpu}n"), "memory": format!("{}Ki", memory / 1024)}))
}

/// What nodes said last.
pub(super) struct Summaries {
    /// By the nodes' uids. Whoever has a slot asks; others wait for the answer.
    slots: Mutex<HashMap<String, Slot>>,
    turns: Semaphore,
}

type Slot = Arc<tokio::sync::Mutex<Option<KeptSummary>>>;

struct KeptSummary {
    at: Instant,
    /// None if the node gave none.
    summary: Option<Arc<Summary>>,
}

impl KeptSummary {
    fn holds(&self) -> bool {
        self.at.elapsed() < KEPT
    }
}

impl Default for Summaries {
    fn default() -> Self {
        Summaries { slots: Mutex::default(), turns: Semaphore::new(AT_ONCE) }
    }
}

impl Summaries {
    fn slot(&self, uid: &str) -> Slot {
        self.slots.lock().entry(uid.to_string()).or_default().clone()
    }

    /// Drops what is too old, that of nodes which are gone included.
    fn prune(&self) {
        let is_fresh =
            |slot: &Slot| slot.try_lock().map_or(true, |kept| kept.as_ref().is_some_and(KeptSummary::holds));
        self.slots.lock().retain(|_, slot| Arc::strong_count(slot) > 1 || is_fresh(slot));
    }
}

/// Why a node gives no measurements.
#[derive(Debug, thiserror::Error)]
enum Unmeasured {
    #[error(transparent)]
    Object(#[from] api::object::ObjectError),
    #[error(transparent)]
    Dial(#[from] std::io::Error),
    #[error(transparent)]
    Request(#[from] http::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("its kubelet answered {0}")]
    Status(http::StatusCode),
    #[error("its kubelet's answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Form(#[from] serde_json::Error),
    #[error("the connection ended")]
    Ended,
}

impl Registry {
    pub(super) async fn measured(&self, call: &Call<'_>, name: &str) -> Result<Arc<Object>, ApiError> {
        self.summaries.prune();
        let missing = || ApiError::not_found(call.row(), name);
        if call.row().kind == NODES {
            let node = self.caches.get(&NODE, None, name).ok_or_else(missing)?;
            return self.node_measured(&node).await.ok_or_else(missing);
        }
        let pod = self.caches.get(&POD, call.namespace, name).ok_or_else(missing)?;
        self.pods_measured(vec![pod]).await.pop().ok_or_else(missing)
    }

    pub(super) async fn all_measured(
        &self,
        call: &Call<'_>,
        options: &ListOptions,
    ) -> Result<ObjectList, ApiError> {
        for term in &options.fields.terms {
            if !matches!(term.path.as_str(), "metadata.name" | "metadata.namespace") {
                return Err(ApiError::bad_request(format!("field label not supported: {}", term.path)));
            }
        }
        let is_wanted = |object: &Arc<Object>| {
            let fields = options.fields.matches(|path| match path {
                "metadata.name" => object.name(),
                _ => object.namespace().unwrap_or_default(),
            });
            fields && options.labels.matches(object.labels())
        };
        self.summaries.prune();
        let kind = if call.row().kind == NODES { &NODE } else { &POD };
        let objects: Vec<_> = self.caches.list(kind, call.namespace).into_iter().filter(is_wanted).collect();
        let items = if call.row().kind == NODES {
            let asked = objects.iter().map(|node| self.node_measured(node));
            join_all(asked).await.into_iter().flatten().collect()
        } else {
            self.pods_measured(objects).await
        };
        Ok(ObjectList { items, ..ObjectList::default() })
    }

    async fn node_measured(&self, node: &Object) -> Option<Arc<Object>> {
        let summary = self.summary(node).await?;
        let usage = usage(summary.node.cpu.as_ref(), summary.node.memory.as_ref())?;
        object(NODES, node, summary.time(), "usage", usage)
    }

    /// Each of the pods' nodes is asked once.
    async fn pods_measured(&self, pods: Vec<Arc<Object>>) -> Vec<Arc<Object>> {
        let mut by_node: BTreeMap<String, Vec<(Arc<Object>, String)>> = BTreeMap::new();
        for object in pods {
            let Ok(pod) = object.typed::<Pod>() else { continue };
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            if let (Some("Running"), Some(uid), false) = (phase, pod.metadata.uid.clone(), node.is_empty()) {
                by_node.entry(node).or_default().push((object, uid));
            }
        }
        let asked = by_node.into_iter().map(|(node, pods)| async move {
            let node = self.caches.get(&NODE, None, &node)?;
            let summary = self.summary(&node).await?;
            let shown = pods.into_iter().filter_map(|(pod, uid)| {
                let containers = summary.containers_of(&uid)?;
                object("PodMetrics", &pod, summary.time(), "containers", Value::Array(containers))
            });
            Some(shown.collect::<Vec<_>>())
        });
        let mut all: Vec<Arc<Object>> = join_all(asked).await.into_iter().flatten().flatten().collect();
        all.sort_by(|one, other| (one.namespace(), one.name()).cmp(&(other.namespace(), other.name())));
        all
    }

    /// A node's measurements; none if it does not give them in time.
    async fn summary(&self, node: &Object) -> Option<Arc<Summary>> {
        tokio::time::timeout(LONGEST_WAIT, self.kept_summary(node)).await.ok().flatten()
    }

    async fn kept_summary(&self, node: &Object) -> Option<Arc<Summary>> {
        let slot = self.summaries.slot(node.uid());
        let mut kept = slot.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.holds()) {
            return kept.summary.clone();
        }
        let _turn = self.summaries.turns.acquire().await.ok()?;
        let summary = self.new_summary(node).await.map(Arc::new);
        *kept = Some(KeptSummary { at: Instant::now(), summary: summary.clone() });
        summary
    }

    async fn new_summary(&self, node: &Object) -> Option<Summary> {
        let asked = tokio::time::timeout(SUMMARY_TIMEOUT, self.ask_summary(node)).await;
        match asked {
            Ok(Ok(summary)) => Some(summary),
            Ok(Err(error)) => {
                tracing::debug!(node = node.name(), %error, "a node gives no measurements");
                None
            }
            Err(_) => {
                tracing::debug!(node = node.name(), "a node gives no measurements in time");
                None
            }
        }
    }

    async fn ask_summary(&self, node: &Object) -> Result<Summary, Unmeasured> {
        let typed = node.typed::<Node>()?;
        let stream = self.config.node_dialer.dial(&typed).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = http::Request::get("/stats/summary?only_cpu_and_memory=true")
            .header(http::header::HOST, "kubelet")
            .body(Empty::<bytes::Bytes>::new())?;
        let exchange = async {
            let answer = sender.send_request(request).await?;
            if answer.status() != http::StatusCode::OK {
                return Err(Unmeasured::Status(answer.status()));
            }
            let body = Limited::new(answer.into_body(), LARGEST).collect().await;
            let body = body.map_err(Unmeasured::Body)?.to_bytes();
            Ok(serde_json::from_slice(&body)?)
        };
        // The connection is driven by whoever reads the answer, and ends with it.
        let driving = async {
            let _ = connection.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = exchange => answer,
            () = driving => Err(Unmeasured::Ended),
        }
    }
}

/// Measurements of an object, under its name and labels.
fn object(kind: &str, of: &Object, at: Option<&Time>, part: &str, measured: Value) -> Option<Arc<Object>> {
    let now = Time(Timestamp::now());
    let mut tree = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": kind,
        "metadata": {"name": of.name(), "creationTimestamp": now},
        "timestamp": at.unwrap_or(&now),
        "window": WINDOW,
    });
    if let Some(namespace) = of.namespace() {
        tree["metadata"]["namespace"] = json!(namespace);
    }
    if !of.labels().is_empty() {
        tree["metadata"]["labels"] = json!(of.labels());
    }
    tree[part] = measured;
    Object::from_tree(tree, 0).map(Arc::new).ok()
}

#[cfg(test)]
mod tests;
