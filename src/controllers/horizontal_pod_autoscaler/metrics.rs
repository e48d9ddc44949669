//! Reading what is measured: of pods from `metrics.k8s.io`, of anything else from the servers that other
//! groups of metrics are aggregated from, if there are any.

use std::sync::Arc;
use std::time::Duration;

use api::resources::milli;
use api::{ApiError, KindRow, LabelSelector, ListOptions};
use client::https::encode_component;
use client::{ExtensionApi, ObjectApi, ServedKinds};
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::replicas::{PodMetric, PodMetrics};

const RESOURCE: (&str, &str) = ("metrics.k8s.io/v1beta1", "PodMetrics");
const CUSTOM: &str = "custom.metrics.k8s.io";
/// Versions of it that are understood; of several the server's preference counts.
const CUSTOM_VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];
const EXTERNAL: &str = "external.metrics.k8s.io/v1beta1";
/// What a measurement is about where it does not say so.
const WINDOW: Duration = Duration::from_secs(60);

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub(super) enum MetricsError {
    #[error("unable to fetch metrics from {api} metrics API: {error}")]
    Fetch { api: &'static str, error: ApiError },
    #[error("no metrics returned from {0} metrics API")]
    Empty(&'static str),
    #[error(
        "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) \
         registered"
    )]
    NoCustom,
    #[error(
        "unable to fetch metrics from custom metrics API: no matches for kind {kind:?} in group {group:?}"
    )]
    NoKind { kind: String, group: String },
    #[error(
        "unable to fetch metrics from custom metrics API: the custom metrics API server returned {0} results \
         when we asked for exactly one"
    )]
    NotOne(usize),
}

/// Whom measurements are asked of.
pub(super) struct MetricsReader {
    pub(super) api: Arc<dyn ObjectApi>,
    pub(super) extensions: Arc<dyn ExtensionApi>,
    pub(super) served: ServedKinds,
}

impl MetricsReader {
    /// What each of the selected pods uses of a resource, or one container of each.
    pub(super) async fn resource(
        &self,
        namespace: &str,
        selector: &LabelSelector,
        resource: &str,
        container: Option<&str>,
    ) -> Result<PodMetrics, MetricsError> {
        let failed = |error| MetricsError::Fetch { api: "resource", error };
        let row = self.served.borrow().by_kind(RESOURCE.0, RESOURCE.1).cloned();
        let missing = || ApiError::new(404, "NotFound", "the server could not find the requested resource");
        let row = row.ok_or_else(|| failed(missing()))?;
        let options = ListOptions { labels: selector.clone(), ..ListOptions::default() };
        let list = self.api.list(&row, Some(namespace), &options).await.map_err(failed)?;
        let mut found = PodMetrics::new();
        for item in &list.items {
            let tree = item.tree().map_err(|error| failed(ApiError::internal(error)))?;
            if let Some(metric) = of_pod(&tree, resource, container) {
                found.insert(item.name().to_string(), metric);
            }
        }
        if list.items.is_empty() { Err(MetricsError::Empty("resource")) } else { Ok(found) }
    }

    /// A metric of each of the selected pods.
    pub(super) async fn of_pods(
        &self,
        namespace: &str,
        selector: &LabelSelector,
        metric: &str,
        metric_selector: &LabelSelector,
    ) -> Result<PodMetrics, MetricsError> {
        let segments = ["namespaces", namespace, "pods", "*", metric];
        let items = self.custom(&segments, Some(selector), metric_selector).await?;
        if items.is_empty() {
            return Err(MetricsError::Empty("custom"));
        }
        let named =
            items.iter().map(|item| (api::json::text(item, "describedObject.name").to_string(), item));
        Ok(named.map(|(name, item)| (name, of_item(item))).collect())
    }

    /// A metric of one object.
    pub(super) async fn of_object(
        &self,
        namespace: &str,
        object: &CrossVersionObjectReference,
        metric: &str,
        metric_selector: &LabelSelector,
    ) -> Result<i64, MetricsError> {
        let group = group_of(object.api_version.as_deref().unwrap_or(""));
        let items = if object.kind == "Namespace" && group.is_empty() {
            // A reference does not lead out of its namespace, whatever it is called.
            self.custom(&["namespaces", namespace, "metrics", metric], None, metric_selector).await?
        } else {
            let served = self.served.borrow().clone();
            let row = served.rows().iter().find(|row| row.kind == object.kind && row.group == group);
            let missing = || MetricsError::NoKind { kind: object.kind.clone(), group: group.to_string() };
            let resource = group_resource(row.ok_or_else(missing)?);
            let segments = ["namespaces", namespace, &resource, &object.name, metric];
            self.custom(&segments, None, metric_selector).await?
        };
        match &items[..] {
            [item] => Ok(of_item(item).value),
            items => Err(MetricsError::NotOne(items.len())),
        }
    }

    /// The sum of all values of a metric of something outside of the cluster.
    pub(super) async fn external(
        &self,
        namespace: &str,
        metric: &str,
        selector: &LabelSelector,
    ) -> Result<i64, MetricsError> {
        let path = format!(
            "/apis/{EXTERNAL}/namespaces/{}/{}?labelSelector={}",
            encode_component(namespace),
            encode_component(metric),
            encode_component(&selector.to_string())
        );
        let failed = |error| MetricsError::Fetch { api: "external", error };
        let list = self.extensions.read(&path).await.map_err(failed)?;
        let items = api::json::items(&list, "items");
        if items.is_empty() {
            return Err(MetricsError::Empty("external"));
        }
        Ok(items.iter().fold(0_i64, |sum, item| sum.saturating_add(amount(&item["value"]))))
    }

    async fn custom(
        &self,
        segments: &[&str],
        selector: Option<&LabelSelector>,
        metric_selector: &LabelSelector,
    ) -> Result<Vec<Value>, MetricsError> {
        let versions = self.extensions.versions(CUSTOM);
        let version = versions.into_iter().find(|version| CUSTOM_VERSIONS.contains(&&**version));
        let version = version.ok_or(MetricsError::NoCustom)?;
        let mut path = format!("/apis/{CUSTOM}/{version}");
        for segment in segments {
            path.push('/');
            path.push_str(&if *segment == "*" { "*".to_string() } else { encode_component(segment) });
        }
        path.push_str("?metricLabelSelector=");
        path.push_str(&encode_component(&metric_selector.to_string()));
        if let Some(selector) = selector {
            path.push_str("&labelSelector=");
            path.push_str(&encode_component(&selector.to_string()));
        }
        let failed = |error| MetricsError::Fetch { api: "custom", error };
        let mut list = self.extensions.read(&path).await.map_err(failed)?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }
}

/// The group of an `apiVersion`.
pub(super) fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

fn group_resource(row: &KindRow) -> String {
    if row.group.is_empty() { row.plural.to_string() } else { format!("{}.{}", row.plural, row.group) }
}

/// A pod's usage of a resource; none if it, or one of its containers, was not measured.
fn of_pod(tree: &Value, resource: &str, container: Option<&str>) -> Option<PodMetric> {
    let containers = api::json::items(tree, "containers");
    let usage = |one: &Value| one["usage"].get(resource).map(amount);
    let value = match container {
        Some(container) => usage(containers.iter().find(|one| one["name"] == container)?)?,
        None if containers.is_empty() => return None,
        None => containers.iter().try_fold(0_i64, |sum, one| Some(sum.saturating_add(usage(one)?)))?,
    };
    let window = tree["window"].as_str().and_then(|text| api::duration::parse(text).ok());
    let window = window.and_then(|window| Duration::try_from(window).ok());
    Some(PodMetric { at: time_of(tree), window: window.unwrap_or(WINDOW), value })
}

/// An item of the custom metrics API.
fn of_item(item: &Value) -> PodMetric {
    let seconds = item["windowSeconds"].as_u64().or_else(|| item["window"].as_u64());
    let window = seconds.map_or(WINDOW, Duration::from_secs);
    PodMetric { at: time_of(item), window, value: amount(&item["value"]) }
}

fn time_of(tree: &Value) -> Timestamp {
    api::time::parse(api::json::text(tree, "timestamp")).unwrap_or(Timestamp::MIN)
}

/// A quantity in thousandths.
fn amount(value: &Value) -> i64 {
    match value {
        Value::String(text) => milli(&Quantity(text.clone())),
        number => milli(&Quantity(number.to_string())),
    }
}

#[cfg(test)]
mod tests;
