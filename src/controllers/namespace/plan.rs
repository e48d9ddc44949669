//! What a namespace's conditions say about the content that remains.

use std::collections::BTreeMap;

use api::{ApiError, KindRow};
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::jiff::Timestamp;

/// What is left in a namespace after everything has been told to go.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// Objects by `resource.group`.
    counts: BTreeMap<String, usize>,
    /// Objects by finalizer.
    finalizers: BTreeMap<String, usize>,
    failures: Vec<String>,
    /// The first failure: the reason to try again soon.
    pub(super) failure: Option<ApiError>,
    pub(super) grace_seconds: i64,
    /// Objects were told to go, and not only looked at.
    pub(super) told: bool,
}

impl Remains {
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.failures.is_empty()
    }

    pub(super) fn add(
        &mut self,
        row: &KindRow,
        count: usize,
        grace: i64,
        finalizers: BTreeMap<String, usize>,
    ) {
        if count == 0 {
            return;
        }
        // Upstream prints `pods.` for the core group.
        self.counts.insert(format!("{}.{}", row.plural, row.group), count);
        self.grace_seconds = self.grace_seconds.max(grace);
        for (finalizer, count) in finalizers {
            *self.finalizers.entry(finalizer).or_insert(0) += count;
        }
    }

    pub(super) fn failed(&mut self, row: &KindRow, error: ApiError) {
        self.failures.push(format!("unable to delete {}: {error}", row.group_resource()));
        self.failure.get_or_insert(error);
    }
}

/// Brings the conditions up to date; tells whether anything changed.
pub(super) fn conditions(list: &mut Vec<NamespaceCondition>, remains: &Remains, now: Timestamp) -> bool {
    let joined = |counts: &BTreeMap<String, usize>, verb: &str| {
        let parts: Vec<String> =
            counts.iter().map(|(name, count)| format!("{name} {verb} {count} resource instances")).collect();
        parts.join(", ")
    };
    let failed = !remains.failures.is_empty();
    let left = !remains.counts.is_empty();
    let held = !remains.finalizers.is_empty();
    let failure = format!(
        "Failed to delete all resource types, {} remaining: {}",
        remains.failures.len(),
        remains.failures.join(", ")
    );
    let remaining = format!("Some resources are remaining: {}", joined(&remains.counts, "has"));
    let finalizers = format!(
        "Some content in the namespace has finalizers remaining: {}",
        joined(&remains.finalizers, "in")
    );
    let mut changed = false;
    for (kind, bad, reason, message, good_reason, good_message) in [
        (
            "NamespaceDeletionDiscoveryFailure",
            false,
            "",
            String::new(),
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "",
            String::new(),
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            failed,
            "ContentDeletionFailed",
            failure,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            left,
            "SomeResourcesRemain",
            remaining,
            "ContentRemoved",
            "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            held,
            "SomeFinalizersRemain",
            finalizers,
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ] {
        let (status, reason, message) =
            if bad { ("True", reason, message) } else { ("False", good_reason, good_message.to_string()) };
        changed |= set(list, kind, status, reason, message, now);
    }
    changed
}

fn set(
    list: &mut Vec<NamespaceCondition>,
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> bool {
    let old = list.iter_mut().find(|condition| condition.type_ == kind);
    if let Some(old) = &old
        && old.status == status
        && old.reason.as_deref() == Some(reason)
        && old.message.as_deref() == Some(message.as_str())
    {
        return false;
    }
    let since =
        old.as_ref().filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
    let new = NamespaceCondition {
        type_: kind.to_string(),
        status: status.to_string(),
        reason: Some(reason.to_string()),
        message: Some(message),
        last_transition_time: since.or_else(|| Some(api::time::seconds(now))),
    };
    match old {
        Some(old) => *old = new,
        None => list.push(new),
    }
    true
}

#[cfg(test)]
mod tests;
