//! Which of several active pods is the least far: the first to go where there are too many.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// The least far first: without a node, pending, not ready, ready for less time, restarted more often,
/// younger.
pub(crate) fn first_to_go_first(mut pods: Vec<Arc<Pod>>) -> Vec<Arc<Pod>> {
    pods.sort_by_cached_key(|pod| {
        let phase = match api::pod::phase(pod) {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        };
        let ready_since = api::pod::ready_since(pod);
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (
            api::pod::node_name(pod).is_some(),
            phase,
            api::pod::is_ready(pod),
            std::cmp::Reverse(ready_since),
            std::cmp::Reverse(restarts(pod)),
            std::cmp::Reverse(created),
            pod.metadata.name.clone(),
        )
    });
    pods
}

fn restarts(pod: &Pod) -> i32 {
    let most = |statuses: &Option<Vec<ContainerStatus>>| {
        statuses.iter().flatten().map(|status| status.restart_count).max().unwrap_or(0)
    };
    pod.status.as_ref().map_or(0, |status| most(&status.container_statuses))
}
