//! When pods become available: ready for long enough, of which no event tells.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

/// How long until the first of the pods that are ready is so for `min_ready_seconds`; none if all are.
pub(crate) fn next<'a>(
    pods: impl IntoIterator<Item = &'a Arc<Pod>>,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Option<Duration> {
    if min_ready_seconds <= 0 {
        return None;
    }
    let delay = |pod: &Arc<Pod>| {
        if !api::pod::is_ready(pod) || api::pod::is_available(pod, min_ready_seconds, now) {
            return None;
        }
        let since = api::pod::ready_since(pod).unwrap_or(now);
        let at = api::time::plus_seconds(since, i64::from(min_ready_seconds));
        // At least a little, lest clocks that differ make us look all the time.
        let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
        Some(left.max(Duration::from_millis(10)))
    };
    pods.into_iter().filter_map(delay).min()
}
