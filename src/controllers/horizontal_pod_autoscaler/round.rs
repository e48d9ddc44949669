//! One look at an autoscaler: find the target, have it measured, give it another size, tell what came of it.

use std::sync::Arc;

use api::{ApiError, LabelMatcher, LabelSelector};
use client::Api;
use client::events::{EventType, reference_to};
use futures::future::join_all;
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus, MetricStatus,
};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::pace::{Behavior, Bounds, History};
use super::plan::{
    self, ABLE, ACTIVE, Course, LIMITED, combine, least, propose, set_condition, tolerances, why,
};
use super::replicas::Sizing;
use super::{Controller, Scale, TargetError};
use crate::context::Key;

/// Why a round has not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum RoundError {
    #[error("failed to query scale subresource for {target}: {error}")]
    Scale { target: String, error: TargetError },
    #[error("failed to compute desired number of replicas based on listed metrics for {target}: {why}")]
    Metrics { target: String, why: Undecided },
    #[error("failed to rescale {target}: {error}")]
    Rescale { target: String, error: ApiError },
    #[error("failed to update status: {0}")]
    Status(ApiError),
}

/// Why metrics ask for no size.
#[derive(Debug, thiserror::Error)]
pub(super) enum Undecided {
    #[error("{0}")]
    Selector(#[from] SelectorFault),
    #[error("{0}")]
    Metrics(String),
}

/// What is wrong with the selector of a target.
#[derive(Debug, thiserror::Error)]
pub(super) enum SelectorFault {
    #[error("selector is required")]
    Missing,
    #[error("couldn't convert selector into a corresponding internal selector object: {0}")]
    Unreadable(String),
    #[error("pods by selector {selector} are controlled by multiple HPAs: [{rivals}]")]
    Ambiguous { selector: String, rivals: String },
}

impl SelectorFault {
    /// The reasons of the event and of the condition, whose text may be another.
    fn reasons(&self) -> (&'static str, &'static str, String) {
        match self {
            SelectorFault::Missing => {
                let message = "the HPA target's scale is missing a selector";
                ("SelectorRequired", "InvalidSelector", message.to_string())
            }
            SelectorFault::Unreadable(_) => ("InvalidSelector", "InvalidSelector", self.to_string()),
            SelectorFault::Ambiguous { .. } => ("AmbiguousSelector", "AmbiguousSelector", self.to_string()),
        }
    }
}

/// A size that metrics ask for, and which of them.
struct Wish {
    replicas: i32,
    metric: String,
}

/// One look at an autoscaler.
pub(super) struct Round<'a> {
    controller: &'a Controller,
    key: &'a Key,
    autoscaler: &'a HorizontalPodAutoscaler,
    reference: ObjectReference,
    /// As it will be written.
    status: HorizontalPodAutoscalerStatus,
    /// The target in texts.
    target: String,
}

impl<'a> Round<'a> {
    pub(super) fn new(
        controller: &'a Controller,
        key: &'a Key,
        autoscaler: &'a HorizontalPodAutoscaler,
    ) -> Self {
        let to = &autoscaler.spec.scale_target_ref;
        Round {
            controller,
            key,
            autoscaler,
            reference: reference_to(autoscaler),
            status: autoscaler.status.clone().unwrap_or_default(),
            target: format!("{}/{}/{}", to.kind, key.0, to.name),
        }
    }

    pub(super) async fn run(mut self) -> Result<(), RoundError> {
        let controller = self.controller;
        let scale = match controller.scale_of(self.autoscaler).await {
            Ok(scale) => scale,
            Err(error) => {
                self.tell(EventType::Warning, "FailedGetScale", error.to_string());
                let message =
                    format!("the HPA controller was unable to get the target's current scale: {error}");
                self.set(ABLE, false, "FailedGetScale", message);
                self.write().await?;
                return Err(RoundError::Scale { target: self.target, error });
            }
        };
        let message = "the HPA controller was able to get the target's current scale";
        self.set(ABLE, true, "SucceededGetScale", message);
        let current = scale.replicas;
        self.history(|history| history.begin(current, Instant::now()));
        match plan::course(&self.autoscaler.spec, current) {
            Course::Disabled => {
                let message = "scaling is disabled since the replica count of the target is zero";
                self.set(ACTIVE, false, "ScalingDisabled", message);
                self.finish(current, 0, Vec::new(), false).await
            }
            Course::Rescale { replicas, why } => self.rescale(scale, replicas, why, Vec::new()).await,
            Course::Measure => self.measure(scale).await,
        }
    }

    async fn measure(mut self, scale: Scale) -> Result<(), RoundError> {
        let current = scale.replicas;
        let mut statuses = Vec::new();
        let wish = match self.wish(&scale, &mut statuses).await {
            Ok(wish) => wish,
            Err(why) => {
                let desired = self.status.desired_replicas;
                self.tell(EventType::Warning, "FailedComputeMetricsReplicas", why.to_string());
                let target = self.target.clone();
                self.finish(current, desired, statuses, false).await?;
                return Err(RoundError::Metrics { target, why });
            }
        };
        let message =
            format!("the HPA was able to successfully calculate a replica count from {}", wish.metric);
        self.set(ACTIVE, true, "ValidMetricFound", message);
        let reason = why(wish.replicas, current, &wish.metric);
        let replicas = self.paced(wish.replicas, current);
        if replicas == current {
            return self.finish(current, current, statuses, false).await;
        }
        self.rescale(scale, replicas, &reason, statuses).await
    }

    /// How many replicas metrics ask for; notes what is told of each.
    async fn wish(&mut self, scale: &Scale, statuses: &mut Vec<MetricStatus>) -> Result<Wish, Undecided> {
        let (controller, autoscaler, namespace) = (self.controller, self.autoscaler, &self.key.0);
        let (selector, pods) = self.selected(&scale.selector).inspect_err(|fault| {
            let (event, reason, message) = fault.reasons();
            self.tell(EventType::Warning, event, fault.to_string());
            self.set(ACTIVE, false, reason, message);
        })?;
        let spec = &autoscaler.spec;
        let metrics = spec.metrics.as_deref().unwrap_or(&[]);
        let readings = metrics.iter().map(|one| controller.read(one, namespace, &selector));
        let readings = join_all(readings).await;
        let sizing = Sizing {
            pods: &pods,
            spec_replicas: scale.replicas,
            status_replicas: scale.present,
            tolerances: tolerances(spec, controller.settings.tolerance),
            settings: &controller.settings,
            now: Timestamp::now(),
        };
        let proposals = metrics.iter().zip(readings).map(|(spec, reading)| {
            let proposal = propose(spec, namespace, reading, &sizing);
            proposal.inspect_err(|failure| self.tell(EventType::Warning, failure.reason, &*failure.told))
        });
        let combined = combine(proposals.collect(), scale.replicas);
        *statuses = combined.statuses;
        match (combined.wanted, combined.failure) {
            (Some((replicas, metric)), failure) => {
                if let Some(failure) = failure {
                    tracing::debug!(autoscaler = ?self.key, "{}", failure.within);
                }
                Ok(Wish { replicas, metric })
            }
            (None, Some(failure)) => {
                let message = format!("the HPA was unable to compute the replica count: {}", failure.told);
                self.set(ACTIVE, false, failure.reason, message);
                Err(Undecided::Metrics(failure.within))
            }
            // No metric at all, which defaults do not let happen: nothing is changed.
            (None, None) => Ok(Wish { replicas: scale.replicas, metric: String::new() }),
        }
    }

    /// The target's pods, if they are this autoscaler's alone.
    fn selected(&self, selector: &str) -> Result<(LabelSelector, Vec<Arc<Pod>>), SelectorFault> {
        if selector.is_empty() {
            return Err(SelectorFault::Missing);
        }
        let parsed = LabelSelector::parse(selector);
        let parsed = parsed.map_err(|error| SelectorFault::Unreadable(error.to_string()))?;
        let matcher = Arc::new(LabelMatcher::new(parsed.clone()));
        let mut pods = self.controller.pods.objects(Some(&self.key.0));
        pods.retain(|pod| matcher.matches(pod.labels()));
        let pods: Vec<Arc<Pod>> = pods.iter().filter_map(|pod| pod.typed().ok()).collect();
        let rivals = self.controller.rivals(self.key, matcher, &pods);
        if rivals.is_empty() {
            return Ok((parsed, pods));
        }
        let named: Vec<String> =
            rivals.iter().map(|(namespace, name)| format!("{{{name} {namespace}}}")).collect();
        Err(SelectorFault::Ambiguous { selector: selector.to_string(), rivals: named.join(" ") })
    }

    /// A size that metrics ask for, within what is allowed now.
    fn paced(&mut self, desired: i32, current: i32) -> i32 {
        let spec = &self.autoscaler.spec;
        let bounds = Bounds { min: least(spec), max: spec.max_replicas, current };
        let (now, window) = (Instant::now(), self.controller.settings.downscale_stabilization);
        let none = HPAScalingRules::default();
        let paced = self.history(|history| match &spec.behavior {
            None => history.pace(desired, bounds, window, now),
            Some(behavior) => {
                let up = behavior.scale_up.as_ref().unwrap_or(&none);
                let down = behavior.scale_down.as_ref().unwrap_or(&none);
                history.pace_by(&Behavior { up, down }, desired, bounds, window, now)
            }
        });
        self.set(ABLE, true, paced.stabilized.0, paced.stabilized.1);
        let (is_limited, (reason, message)) = paced.limited;
        self.set(LIMITED, is_limited, reason, message);
        paced.replicas
    }

    async fn rescale(
        mut self,
        scale: Scale,
        replicas: i32,
        reason: &str,
        statuses: Vec<MetricStatus>,
    ) -> Result<(), RoundError> {
        let current = scale.replicas;
        if let Err(error) = self.controller.rescale(scale, &self.key.0, replicas).await {
            let message = format!("New size: {replicas}; reason: {reason}; error: {error}");
            self.tell(EventType::Warning, "FailedRescale", message);
            let message = format!("the HPA controller was unable to update the target scale: {error}");
            self.set(ABLE, false, "FailedUpdateScale", message);
            let (target, desired) = (self.target.clone(), self.status.desired_replicas);
            self.finish(current, desired, statuses, false).await?;
            return Err(RoundError::Rescale { target, error });
        }
        let message = format!("the HPA controller was able to update the target scale to {replicas}");
        self.set(ABLE, true, "SucceededRescale", message);
        let message = format!("New size: {replicas}; reason: {reason}");
        self.tell(EventType::Normal, "SuccessfulRescale", message);
        tracing::info!(autoscaler = ?self.key, from = current, to = replicas, reason, "rescaled");
        if self.autoscaler.spec.behavior.is_some() {
            self.history(|history| history.rescaled(current, replicas, Instant::now()));
        }
        self.finish(current, replicas, statuses, true).await
    }

    /// Writes what the round has come to.
    async fn finish(
        mut self,
        current: i32,
        desired: i32,
        statuses: Vec<MetricStatus>,
        rescaled: bool,
    ) -> Result<(), RoundError> {
        self.status.current_replicas = Some(current);
        self.status.desired_replicas = desired;
        self.status.current_metrics = Some(statuses).filter(|statuses| !statuses.is_empty());
        if rescaled {
            self.status.last_scale_time = Some(api::time::seconds(Timestamp::now()));
        }
        self.write().await
    }

    async fn write(&mut self) -> Result<(), RoundError> {
        self.status.observed_generation = self.autoscaler.metadata.generation;
        if self.autoscaler.status.as_ref() == Some(&self.status) {
            return Ok(());
        }
        let told = HorizontalPodAutoscaler { status: Some(self.status.clone()), ..self.autoscaler.clone() };
        let api = Api::<HorizontalPodAutoscaler>::namespaced(self.controller.api.clone(), &self.key.0);
        match api.update_status(&told).await {
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => {
                self.tell(EventType::Warning, "FailedUpdateStatus", error.to_string());
                Err(RoundError::Status(error))
            }
            Ok(_) => Ok(()),
        }
    }

    fn history<T>(&self, change: impl FnOnce(&mut History) -> T) -> T {
        change(&mut self.controller.remembered.lock().entry(self.key.clone()).or_default().history)
    }

    fn tell(&self, kind: EventType, reason: &str, message: impl Into<String>) {
        self.controller.recorder.event(&self.reference, kind, reason, message);
    }

    fn set(&mut self, kind: &str, status: bool, reason: &str, message: impl Into<String>) {
        let conditions = self.status.conditions.get_or_insert_default();
        set_condition(conditions, kind, status, reason, message, Timestamp::now());
    }
}
