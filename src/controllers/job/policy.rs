//! What a failed pod means under the job's pod failure policy, and when indexes are success enough.

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use super::indexes::Indexes;
use crate::context::text;

/// What comes of a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts towards the back-off limit.
    Count,
    Ignore,
    FailIndex,
    /// The job fails, for this reason.
    FailJob(String),
}

impl Verdict {
    pub(super) fn counts(&self) -> bool {
        *self != Verdict::Ignore
    }
}

/// The verdict of the first rule that matches; without one the failure counts.
pub(super) fn judge(spec: &JobSpec, pod: &Pod) -> Verdict {
    let rules = spec.pod_failure_policy.as_ref().map(|policy| policy.rules.as_slice()).unwrap_or_default();
    let verdict = |(at, rule): (usize, &PodFailurePolicyRule)| {
        let why = matched(rule, pod)?;
        Some(match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{why} matching FailJob rule at index {at}")),
            "Count" => Verdict::Count,
            _ => return None,
        })
    };
    rules.iter().enumerate().find_map(verdict).unwrap_or(Verdict::Count)
}

/// What the rule recognises in the pod, in words.
fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let place = format!("{}/{}", text(&pod.metadata.namespace), text(&pod.metadata.name));
    if let Some(codes) = &rule.on_exit_codes {
        let lists = [&status.container_statuses, &status.init_container_statuses];
        let (name, code) = lists.into_iter().find_map(|list| exit_code(list.as_deref()?, codes))?;
        return Some(format!("Container {name} for pod {place} failed with exit code {code}"));
    }
    let kind = condition(status, rule.on_pod_conditions.as_deref()?)?;
    Some(format!("Pod {place} has condition {kind}"))
}

fn exit_code(
    containers: &[ContainerStatus],
    wanted: &PodFailurePolicyOnExitCodesRequirement,
) -> Option<(String, i32)> {
    containers.iter().find_map(|container| {
        let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
        let named = wanted.container_name.as_ref().is_none_or(|name| *name == container.name);
        let listed = wanted.values.contains(&code);
        let fits = match wanted.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        (named && code != 0 && fits).then(|| (container.name.clone(), code))
    })
}

fn condition<'a>(
    status: &'a PodStatus,
    patterns: &[PodFailurePolicyOnPodConditionsPattern],
) -> Option<&'a str> {
    let conditions = status.conditions.iter().flatten();
    let fits = |condition: &&k8s_openapi::api::core::v1::PodCondition| {
        patterns.iter().any(|pattern| {
            pattern.type_ == condition.type_
                && pattern.status.as_deref().unwrap_or("True") == condition.status
        })
    };
    conditions.into_iter().find(fits).map(|condition| condition.type_.as_str())
}

/// Which rule of the success policy the indexes meet, in words.
pub(super) fn success(spec: &JobSpec, succeeded: &Indexes) -> Option<String> {
    let rules = spec.success_policy.as_ref().map(|policy| policy.rules.as_slice()).unwrap_or_default();
    if succeeded.is_empty() {
        return None;
    }
    let completions = spec.completions.and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
    let met = |rule: &k8s_openapi::api::batch::v1::SuccessPolicyRule| {
        let enough = |done: usize| {
            rule.succeeded_count
                .and_then(|count| usize::try_from(count).ok())
                .is_some_and(|count| done >= count)
        };
        match &rule.succeeded_indexes {
            None => enough(succeeded.total()),
            Some(wanted) => {
                let wanted = Indexes::parse(wanted, completions);
                let done = wanted.shared(succeeded);
                !wanted.is_empty() && (done == wanted.total() || enough(done))
            }
        }
    };
    rules.iter().position(met).map(|at| format!("Matched rules at index {at}"))
}

#[cfg(test)]
mod tests;
