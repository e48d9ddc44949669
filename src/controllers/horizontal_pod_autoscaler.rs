//! Gives workloads as many replicas as what is measured of them asks for.
//!
//! A round finds the target through its `scale` subresource, whatever kind it is, has the metrics read
//! ([`metrics`]), works out a size ([`plan`], [`replicas`]), holds it back ([`pace`]) and writes it. Rounds
//! follow each other every 15 seconds, whether they succeed or not, and one follows at once when somebody
//! changes what is wanted.
//!
//! Absent: going down to no replicas and up from there, which upstream has behind a gate that is off
//! (`HPAScaleToZero`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, KindRow, LabelMatcher, LabelSelector, UpdateOptions};
use client::events::Recorder;
use client::{Change, Informer, ObjectApi, ObjectRef, ServedKinds, WorkQueue};
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, MetricSpec};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::context::{ControllerContext, Key, ReconcileResult, key_of, text};
use metrics::{MetricsError, MetricsReader, group_of};
use pace::History;
use plan::Reading;
use round::Round;

mod metrics;
mod pace;
mod plan;
mod replicas;
mod round;

const ACCOUNT: &str = "horizontal-pod-autoscaler";
const WORKERS: usize = 5;
/// Writes of a size that are tried while others change the target.
const TRIES: u32 = 5;

/// Upstream's flags `--horizontal-pod-autoscaler-*`, with their defaults.
#[derive(Clone, Debug)]
struct Settings {
    sync_period: Duration,
    downscale_stabilization: Duration,
    /// Processor time of pods younger than this counts only while they are Ready.
    cpu_initialization_period: Duration,
    /// A pod that became unready within this time of its start has never been Ready.
    initial_readiness_delay: Duration,
    tolerance: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            sync_period: Duration::from_secs(15),
            downscale_stabilization: Duration::from_secs(300),
            cpu_initialization_period: Duration::from_secs(300),
            initial_readiness_delay: Duration::from_secs(30),
            tolerance: 0.1,
        }
    }
}

/// What is remembered of an autoscaler from one round to the next.
#[derive(Default)]
struct Remembered {
    history: History,
    /// Whom it last scaled.
    selector: Option<Arc<LabelMatcher>>,
}

struct Controller {
    settings: Settings,
    api: Arc<dyn ObjectApi>,
    recorder: Recorder,
    served: ServedKinds,
    metrics: MetricsReader,
    autoscalers: Informer<HorizontalPodAutoscaler>,
    pods: Informer<Pod>,
    remembered: Mutex<HashMap<Key, Remembered>>,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("horizontalpodautoscaler");
    let api = context.act_as(ACCOUNT);
    let controller = Arc::new(Controller {
        settings: Settings::default(),
        metrics: MetricsReader {
            api: api.clone(),
            extensions: context.extensions_as(ACCOUNT),
            served: context.served(),
        },
        api,
        recorder: context.recorder(ACCOUNT, ACCOUNT),
        served: context.served(),
        autoscalers: context.informers.of(),
        pods: context.informers.of(),
        remembered: Mutex::default(),
    });
    let work = queue.clone();
    controller.autoscalers.on_change(move |change| {
        if is_news(change) {
            work.add(key_of(&change.latest().metadata));
        }
    });
    let synced = controller.clone();
    let ready = async move {
        synced.autoscalers.synced().await;
        synced.pods.synced().await;
    };
    context.run(&queue, WORKERS, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

/// Whether a change is more than the status that was written by the last round.
fn is_news(change: &Change<HorizontalPodAutoscaler>) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => old.spec != new.spec || old.metadata.uid != new.metadata.uid,
        _ => true,
    }
}

/// Why a target cannot be found.
#[derive(Debug, thiserror::Error)]
enum TargetError {
    #[error("unexpected GroupVersion string: {0}")]
    Version(String),
    #[error("no matches for kind {kind:?} in group {group:?}")]
    NoKind { kind: String, group: String },
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// A target's `Scale`.
struct Scale {
    row: Arc<KindRow>,
    tree: Value,
    replicas: i32,
    present: i32,
    selector: String,
}

impl Scale {
    fn new(row: Arc<KindRow>, tree: Value) -> Self {
        let count = |path: &str| i32::try_from(api::json::number(&tree, path)).unwrap_or(i32::MAX);
        let (replicas, present) = (count("spec.replicas"), count("status.replicas"));
        let selector = api::json::text(&tree, "status.selector").to_string();
        Scale { row, tree, replicas, present, selector }
    }
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> ReconcileResult {
        let Some(autoscaler) = self.autoscalers.get(Some(&key.0), &key.1) else {
            self.remembered.lock().remove(key);
            return Ok(None);
        };
        // What is wrong is told in events and conditions; the next round tries again.
        if let Err(error) = Round::new(self, key, &autoscaler).run().await {
            tracing::debug!(autoscaler = ?key, %error, "a round of an autoscaler has failed");
        }
        Ok(Some(self.settings.sync_period))
    }

    async fn scale_of(&self, autoscaler: &HorizontalPodAutoscaler) -> Result<Scale, TargetError> {
        let target = &autoscaler.spec.scale_target_ref;
        let version = target.api_version.as_deref().unwrap_or("");
        if version.matches('/').count() > 1 {
            return Err(TargetError::Version(version.to_string()));
        }
        let group = group_of(version);
        let served = self.served.borrow().clone();
        let rows = served.rows().iter().filter(|row| row.kind == target.kind && row.group == group);
        let namespace = text(&autoscaler.metadata.namespace);
        let mut first = None;
        for row in rows {
            match self.scale(row, namespace, &target.name).await {
                Ok(scale) => return Ok(scale),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        let missing = || TargetError::NoKind { kind: target.kind.clone(), group: group.to_string() };
        Err(first.map_or_else(missing, TargetError::Api))
    }

    async fn scale(&self, row: &Arc<KindRow>, namespace: &str, name: &str) -> Result<Scale, ApiError> {
        let at = ObjectRef::new(Some(namespace), name).sub("scale");
        let scale = self.api.get(row, at).await?;
        Ok(Scale::new(row.clone(), scale.tree().map_err(ApiError::internal)?))
    }

    /// Writes a size, again on newer versions of the target.
    async fn rescale(&self, mut scale: Scale, namespace: &str, replicas: i32) -> Result<(), ApiError> {
        for tries in 1.. {
            scale.tree["spec"]["replicas"] = json!(replicas);
            let name = api::json::text(&scale.tree, "metadata.name").to_string();
            let at = ObjectRef::new(Some(namespace), &name).sub("scale");
            match self.api.update(&scale.row, at, scale.tree.clone(), &UpdateOptions::default()).await {
                Err(error) if error.is_conflict() && tries < TRIES => {
                    scale = self.scale(&scale.row, namespace, &name).await?;
                }
                outcome => return outcome.map(drop),
            }
        }
        Ok(())
    }

    async fn read(
        &self,
        spec: &MetricSpec,
        namespace: &str,
        selector: &LabelSelector,
    ) -> Result<Reading, MetricsError> {
        let metrics = &self.metrics;
        if let Some(one) = &spec.resource {
            let found = metrics.resource(namespace, selector, &one.name, None);
            return found.await.map(Reading::OfPods);
        }
        if let Some(one) = &spec.container_resource {
            let found = metrics.resource(namespace, selector, &one.name, Some(&one.container));
            return found.await.map(Reading::OfPods);
        }
        let of = |selector: &Option<_>| LabelSelector::from_meta(selector.as_ref());
        if let Some(one) = &spec.pods {
            let (name, own) = (&one.metric.name, of(&one.metric.selector));
            return metrics.of_pods(namespace, selector, name, &own).await.map(Reading::OfPods);
        }
        if let Some(one) = &spec.object {
            let (name, own) = (&one.metric.name, of(&one.metric.selector));
            let value = metrics.of_object(namespace, &one.described_object, name, &own);
            return value.await.map(Reading::Value);
        }
        if let Some(one) = &spec.external {
            let (name, own) = (&one.metric.name, of(&one.metric.selector));
            return metrics.external(namespace, name, &own).await.map(Reading::Value);
        }
        Ok(Reading::Value(0))
    }

    /// Notes whom an autoscaler scales; returns all autoscalers that scale one of these pods, if they are
    /// several.
    fn rivals(&self, key: &Key, selector: Arc<LabelMatcher>, pods: &[Arc<Pod>]) -> Vec<Key> {
        let mut remembered = self.remembered.lock();
        remembered.entry(key.clone()).or_default().selector = Some(selector);
        let none = BTreeMap::new();
        let selects = |one: &Remembered| {
            let selector = one.selector.as_ref();
            selector.is_some_and(|selector| {
                pods.iter().any(|pod| selector.matches(pod.metadata.labels.as_ref().unwrap_or(&none)))
            })
        };
        let found = remembered.iter().filter(|(other, one)| other.0 == key.0 && selects(one));
        let mut found: Vec<Key> = found.map(|(other, _)| other.clone()).collect();
        drop(remembered);
        found.sort();
        if found.len() > 1 { found } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests;
