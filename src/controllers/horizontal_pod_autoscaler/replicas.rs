//! How many replicas a measured usage asks for. Pure.
//!
//! The ratio of usage and target times the pods that were measured, unless the ratio is within the tolerance.
//! Pods without a measurement, and pods whose measurement says nothing yet, are counted in the way that
//! changes least: as idle where usage asks for more pods, as busy where it asks for fewer. If that turns the
//! direction, nothing changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::resources::{CPU, is_restartable_init, milli, pod_requests};
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::Settings;
use crate::context::text;

/// What was measured of one pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PodMetric {
    pub(super) at: Timestamp,
    /// The time that the measurement is about, before `at`.
    pub(super) window: Duration,
    /// In thousandths.
    pub(super) value: i64,
}

/// By name of the pod.
pub(super) type PodMetrics = BTreeMap<String, PodMetric>;

/// By which part usage may differ from its target without a consequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tolerances {
    pub(super) down: f64,
    pub(super) up: f64,
}

impl Tolerances {
    fn cover(&self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// Why a usage leads to no number.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CalculationError {
    #[error("no pods returned by selector while calculating replica count")]
    NoPods,
    #[error("unable to calculate ready pods: no pods returned by selector while calculating replica count")]
    NoReadyPods,
    #[error("did not receive metrics for targeted pods (pods might be unready)")]
    NoMetrics,
    #[error("no metrics returned matched known pods")]
    Unmatched,
    #[error("missing request for {resource} in container {container} of Pod {pod}")]
    NoRequest { resource: String, container: String, pod: String },
    #[error("missing pod-level request for {resource} in Pod {pod}")]
    NoPodRequest { resource: String, pod: String },
    #[error("container {container} not found in Pod {pod}")]
    NoContainer { container: String, pod: String },
}

/// How many replicas there should be, and what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) replicas: i32,
    /// In thousandths: of a pod on average, or of all where the target is for all.
    pub(super) usage: i64,
    /// Percentage of what pods ask for.
    pub(super) utilization: Option<i32>,
}

/// What the calculation is made for.
pub(super) struct Sizing<'a> {
    /// All that the target selects.
    pub(super) pods: &'a [Arc<Pod>],
    /// How many replicas the target asks for, and has.
    pub(super) spec_replicas: i32,
    pub(super) status_replicas: i32,
    pub(super) tolerances: Tolerances,
    pub(super) settings: &'a Settings,
    pub(super) now: Timestamp,
}

/// Pods by what their measurements are good for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Groups {
    ready: usize,
    unready: BTreeSet<String>,
    missing: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

/// A mean usage and its ratio to the target.
struct Ratio {
    ratio: f64,
    usage: i64,
    utilization: Option<i32>,
}

impl Sizing<'_> {
    /// Usage of a resource as a percentage of what pods ask for.
    pub(super) fn by_utilization(
        &self,
        metrics: PodMetrics,
        resource: &str,
        container: Option<&str>,
        target: i32,
    ) -> Result<Wanted, CalculationError> {
        let (groups, metrics) = self.usable(metrics, Some(resource))?;
        let requests = requests(self.pods, container, resource)?;
        let ratio = |metrics: &PodMetrics| utilization(metrics, &requests, target);
        // A pod that is not measured counts as one that uses all that it asks for, or what is aimed at.
        let busy = |pod: &str| {
            let request = requests.get(pod).copied().unwrap_or(0);
            narrowed(i128::from(request) * i128::from(target.max(100)) / 100)
        };
        self.wanted(metrics, &groups, ratio, busy)
    }

    /// Usage of each pod on average. For `cpu` the time since pods started counts.
    pub(super) fn by_average(
        &self,
        metrics: PodMetrics,
        resource: Option<&str>,
        target: i64,
    ) -> Result<Wanted, CalculationError> {
        let (groups, metrics) = self.usable(metrics, resource)?;
        self.wanted(metrics, &groups, |metrics| Ok(average(metrics, target)), |_| target)
    }

    /// A figure of something else, which grows with what each replica has to do.
    pub(super) fn by_value(&self, usage: i64, target: i64) -> Result<Wanted, CalculationError> {
        let ratio = usage as f64 / target as f64;
        let wanted = |replicas| Ok(Wanted { replicas, usage, utilization: None });
        if self.spec_replicas == 0 {
            return wanted(rounded_up(ratio));
        }
        if self.tolerances.cover(ratio) {
            return wanted(self.spec_replicas);
        }
        if self.pods.is_empty() {
            return Err(CalculationError::NoReadyPods);
        }
        let is_ready = |pod: &&Arc<Pod>| api::pod::phase(pod) == "Running" && api::pod::is_ready(pod);
        wanted(rounded_up(ratio * self.pods.iter().filter(is_ready).count() as f64))
    }

    /// The same shared out among all replicas.
    pub(super) fn by_value_per_pod(&self, usage: i64, target: i64) -> Wanted {
        let there = f64::from(self.status_replicas);
        let ratio = usage as f64 / (target as f64 * there);
        let replicas = match self.tolerances.cover(ratio) {
            true => self.status_replicas,
            false => rounded_up(usage as f64 / target as f64),
        };
        let usage = if usage == i64::MAX { usage } else { (usage as f64 / there).ceil() as i64 };
        Wanted { replicas, usage, utilization: None }
    }

    /// The measurements that count.
    fn usable(
        &self,
        mut metrics: PodMetrics,
        resource: Option<&str>,
    ) -> Result<(Groups, PodMetrics), CalculationError> {
        if self.pods.is_empty() {
            return Err(CalculationError::NoPods);
        }
        let groups = self.grouped(&metrics, resource);
        metrics.retain(|pod, _| !groups.ignored.contains(pod) && !groups.unready.contains(pod));
        if metrics.is_empty() { Err(CalculationError::NoMetrics) } else { Ok((groups, metrics)) }
    }

    fn grouped(&self, metrics: &PodMetrics, resource: Option<&str>) -> Groups {
        let mut groups = Groups::default();
        for pod in self.pods {
            let name = text(&pod.metadata.name);
            let phase = api::pod::phase(pod);
            let group = if api::pod::is_terminating(pod) || phase == "Failed" {
                &mut groups.ignored
            } else if phase == "Pending" {
                &mut groups.unready
            } else {
                match metrics.get(name) {
                    None => &mut groups.missing,
                    Some(metric) if resource == Some(CPU) && self.is_young(pod, metric) => {
                        &mut groups.unready
                    }
                    Some(_) => {
                        groups.ready += 1;
                        continue;
                    }
                }
            };
            group.insert(name.to_string());
        }
        groups
    }

    /// Whether the processor time of a pod is that of its start rather than of its work.
    fn is_young(&self, pod: &Pod, metric: &PodMetric) -> bool {
        let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
        let (Some(ready), Some(started)) = (api::pod::condition(pod, "Ready"), started) else { return true };
        let since = ready.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0);
        let is_unready = ready.status == "False";
        if later(started.0, self.settings.cpu_initialization_period) > self.now {
            return is_unready || metric.at < later(since, metric.window);
        }
        // It has never been ready.
        is_unready && later(started.0, self.settings.initial_readiness_delay) > since
    }

    fn wanted(
        &self,
        mut metrics: PodMetrics,
        groups: &Groups,
        ratio: impl Fn(&PodMetrics) -> Result<Ratio, CalculationError>,
        busy: impl Fn(&str) -> i64,
    ) -> Result<Wanted, CalculationError> {
        let measured = ratio(&metrics)?;
        let wanted =
            |replicas| Ok(Wanted { replicas, usage: measured.usage, utilization: measured.utilization });
        let grows = measured.ratio > 1.0;
        let shrinks = measured.ratio < 1.0;
        let counts_unready = grows && !groups.unready.is_empty();
        if !counts_unready && groups.missing.is_empty() {
            return wanted(match self.tolerances.cover(measured.ratio) {
                true => self.spec_replicas,
                false => rounded_up(measured.ratio * groups.ready as f64),
            });
        }
        let mut assume = |pod: &String, value| {
            metrics.insert(pod.clone(), PodMetric { at: self.now, window: Duration::ZERO, value });
        };
        if shrinks {
            groups.missing.iter().for_each(|pod| assume(pod, busy(pod)));
        } else if grows {
            groups.missing.iter().for_each(|pod| assume(pod, 0));
        }
        if counts_unready {
            groups.unready.iter().for_each(|pod| assume(pod, 0));
        }
        let assumed = ratio(&metrics)?.ratio;
        let turns = (shrinks && assumed > 1.0) || (grows && assumed < 1.0);
        if self.tolerances.cover(assumed) || turns {
            return wanted(self.spec_replicas);
        }
        let replicas = rounded_up(assumed * metrics.len() as f64);
        let turns = (assumed < 1.0 && replicas > self.spec_replicas)
            || (assumed > 1.0 && replicas < self.spec_replicas);
        wanted(if turns { self.spec_replicas } else { replicas })
    }
}

/// The mean of a usage, in relation to a target.
fn average(metrics: &PodMetrics, target: i64) -> Ratio {
    let total: i128 = metrics.values().map(|metric| i128::from(metric.value)).sum();
    let usage = narrowed(total / metrics.len().max(1) as i128);
    Ratio { ratio: usage as f64 / target as f64, usage, utilization: None }
}

/// The usage of all pods as a percentage of all that they ask for, in relation to a target.
fn utilization(
    metrics: &PodMetrics,
    requests: &BTreeMap<String, i64>,
    target: i32,
) -> Result<Ratio, CalculationError> {
    let (mut used, mut asked, mut count): (i128, i128, i128) = (0, 0, 0);
    for (pod, metric) in metrics {
        // Measurements of pods that are not there any more.
        let Some(request) = requests.get(pod) else { continue };
        used += i128::from(metric.value);
        asked += i128::from(*request);
        count += 1;
    }
    if asked == 0 {
        return Err(CalculationError::Unmatched);
    }
    let percent = i32::try_from(used * 100 / asked).unwrap_or(i32::MAX);
    let ratio = f64::from(percent) / f64::from(target);
    Ok(Ratio { ratio, usage: narrowed(used / count), utilization: Some(percent) })
}

/// What each pod asks for, or one of its containers, in thousandths.
fn requests(
    pods: &[Arc<Pod>],
    container: Option<&str>,
    resource: &str,
) -> Result<BTreeMap<String, i64>, CalculationError> {
    let named =
        |pod: &Arc<Pod>| Ok((text(&pod.metadata.name).to_string(), request(pod, container, resource)?));
    pods.iter().map(named).collect()
}

fn request(pod: &Pod, container: Option<&str>, resource: &str) -> Result<i64, CalculationError> {
    let Some(spec) = &pod.spec else { return Ok(0) };
    let name = || text(&pod.metadata.name).to_string();
    let of_pod = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let is_pod_level = |name: &String| matches!(&**name, "cpu" | "memory") || name.starts_with("hugepages-");
    if container.is_none() && of_pod.is_some_and(|requests| requests.keys().any(is_pod_level)) {
        let missing = || CalculationError::NoPodRequest { resource: resource.to_string(), pod: name() };
        let amount = pod_requests(spec).get(resource).copied().ok_or_else(missing)?;
        return Ok(if resource == CPU { amount } else { amount.saturating_mul(1000) });
    }
    let asked = |one: &Container| {
        let requests = one.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let quantity = requests.and_then(|requests| requests.get(resource));
        quantity.map(milli).ok_or_else(|| CalculationError::NoRequest {
            resource: resource.to_string(),
            container: one.name.clone(),
            pod: name(),
        })
    };
    let sidecars = spec.init_containers.iter().flatten().filter(|one| is_restartable_init(one));
    let mut all = spec.containers.iter().chain(sidecars);
    match container {
        None => all.try_fold(0_i64, |sum, one| Ok(sum.saturating_add(asked(one)?))),
        Some(container) => {
            let missing = || CalculationError::NoContainer { container: container.to_string(), pod: name() };
            asked(all.find(|one| one.name == container).ok_or_else(missing)?)
        }
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| time.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

/// The next whole number, within what a count of replicas can be.
fn rounded_up(replicas: f64) -> i32 {
    replicas.ceil() as i32
}

fn narrowed(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests;
