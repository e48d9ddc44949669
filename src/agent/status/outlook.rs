//! What is wrong in the cluster as a whole, for `minik8s status` of a server: nodes that are not Ready, pods
//! that do not come up, a configuration of DNS that is not in use.
//!
//! [`look`] reads a few kinds through the API; [`judge`] is pure. Pods in the same trouble are one finding
//! that names one of them: a cluster with a thousand pods that cannot be placed has one problem, not a
//! thousand. Absent: what the machine of the server itself tells, which is the node's report.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{ApiError, FieldSelector, ListOptions};
use client::{Api, ObjectApi};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Event, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::report::{Cluster, Finding};

/// What is looked at.
#[derive(Default)]
struct Seen {
    nodes: Vec<Arc<Node>>,
    pods: Vec<Arc<Pod>>,
    /// Warnings only.
    events: Vec<Arc<Event>>,
    /// Those of `kube-system`.
    maps: Vec<Arc<ConfigMap>>,
}

/// Looks at the cluster. The node called `own` is left out: its own report tells more of it.
pub async fn look(
    api: Arc<dyn ObjectApi>,
    own: Option<&str>,
    problems: &mut Vec<Finding>,
) -> Result<Cluster, ApiError> {
    let all = ListOptions::default();
    let warnings = ListOptions { fields: FieldSelector::equals("type", "Warning"), ..ListOptions::default() };
    let seen = Seen {
        nodes: Api::all(api.clone()).list(&all).await?,
        pods: Api::all(api.clone()).list(&all).await?,
        events: Api::all(api.clone()).list(&warnings).await?,
        maps: Api::namespaced(api, "kube-system").list(&all).await?,
    };
    let (cluster, found) = judge(&seen, own, Timestamp::now());
    problems.extend(found);
    Ok(cluster)
}

fn judge(seen: &Seen, own: Option<&str>, now: Timestamp) -> (Cluster, Vec<Finding>) {
    let mut cluster = Cluster { nodes: seen.nodes.len(), ..Cluster::default() };
    let mut findings = Vec::new();
    for node in &seen.nodes {
        match not_ready(node) {
            None => cluster.nodes_ready += 1,
            Some(why) => {
                let name = name_of(&node.metadata);
                if own != Some(name) {
                    let advice = format!("see 'minik8s status' on it and 'kubectl describe node {name}'");
                    findings.push(Finding::new(format!("node {name} is not Ready"), why, advice));
                }
            }
        }
    }
    for pod in &seen.pods {
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
        *cluster.pods.entry(phase.unwrap_or_else(|| "Pending".to_string())).or_default() += 1;
    }
    findings.extend(pods_in_trouble(seen, now));
    findings.extend(seen.maps.iter().filter_map(|map| corefile_not_in_use(map, &seen.events)));
    (cluster, findings)
}

fn name_of(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

/// Why a node is not Ready; none if it is.
fn not_ready(node: &Node) -> Option<String> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let Some(ready) = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready") else {
        return Some("it has not told yet how it is".to_string());
    };
    if ready.status == "True" {
        return None;
    }
    let message = ready.message.as_deref().unwrap_or("it does not say why");
    let since = ready.last_transition_time.as_ref().map(|at| at.0.to_string());
    Some(match since {
        Some(since) => format!("{message} (since {since})"),
        None => message.to_string(),
    })
}

/// What keeps pods from running, the most common causes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    NoNode,
    NoScheduler,
    NoImage,
    NotMade,
    Crashing,
    NotStarted,
    NotRemoved,
}

impl Trouble {
    fn what(self) -> &'static str {
        match self {
            Trouble::NoNode => "find no node",
            Trouble::NoScheduler => "are not looked at by a scheduler",
            Trouble::NoImage => "do not get their image",
            Trouble::NotMade => "have containers that cannot be made",
            Trouble::Crashing => "end again and again",
            Trouble::NotStarted => "have not started for minutes",
            Trouble::NotRemoved => "should have been gone for a minute",
        }
    }

    fn advice(self, pod: &Pod) -> String {
        let name = name_of(&pod.metadata);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let describe = format!("see 'kubectl describe pod -n {namespace} {name}'");
        match self {
            Trouble::NoNode => format!("ask for less, add a node, or {describe}"),
            Trouble::NoScheduler => "check whether one runs (--disable scheduler, schedulerName)".to_string(),
            Trouble::NoImage => {
                format!("correct the image's name, or 'minik8s image import FILE'; {describe}")
            }
            Trouble::Crashing => format!("see 'kubectl logs -p -n {namespace} {name}'"),
            Trouble::NotMade | Trouble::NotStarted | Trouble::NotRemoved => describe,
        }
    }
}

/// Longer than anything that is only slow.
const STARTING: SignedDuration = SignedDuration::from_mins(2);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// The trouble of a pod, and why.
fn trouble(pod: &Pod, events: &[Arc<Event>], now: Timestamp) -> Option<(Trouble, String)> {
    let status = pod.status.clone().unwrap_or_default();
    let since = |time: Option<Timestamp>| time.map_or(SignedDuration::ZERO, |time| now.duration_since(time));
    if let Some(gone_at) = &pod.metadata.deletion_timestamp {
        // Its grace is in it.
        let is_late = since(Some(gone_at.0)) > MINUTE;
        let kept = pod.metadata.finalizers.iter().flatten().next();
        let why = match kept {
            Some(finalizer) => format!("its finalizer {finalizer} is still there"),
            None => "its node has not ended it".to_string(),
        };
        return is_late.then_some((Trouble::NotRemoved, why));
    }
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let is_bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    if !is_bound {
        let scheduled = status.conditions.iter().flatten().find(|one| one.type_ == "PodScheduled");
        let refused = scheduled.filter(|one| one.status == "False");
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        return match refused {
            Some(condition) => Some((Trouble::NoNode, condition.message.clone().unwrap_or_default())),
            None if since(created) > MINUTE => Some((Trouble::NoScheduler, "nothing has tried".to_string())),
            None => None,
        };
    }
    let containers =
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    if let Some(found) = containers.clone().find_map(container_trouble) {
        return Some(found);
    }
    let is_pending = status.phase.as_deref().is_none_or(|phase| phase == "Pending");
    let runs_something =
        containers.clone().any(|one| one.state.as_ref().is_some_and(|state| state.running.is_some()));
    let accepted = status.start_time.or_else(|| pod.metadata.creation_timestamp.clone());
    if is_pending && !runs_something && since(accepted.map(|time| time.0)) > STARTING {
        let told =
            newest(events, |about| about.uid == pod.metadata.uid).and_then(|event| event.message.clone());
        return Some((
            Trouble::NotStarted,
            told.unwrap_or_else(|| "its node says nothing about it".to_string()),
        ));
    }
    None
}

fn container_trouble(container: &ContainerStatus) -> Option<(Trouble, String)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let message = waiting.message.as_deref().unwrap_or_default();
    let told = |about: &str| match message.is_empty() {
        true => about.to_string(),
        false => format!("{about}: {message}"),
    };
    match waiting.reason.as_deref()? {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => {
            Some((Trouble::NoImage, told(&format!("image {}", container.image))))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some((Trouble::NotMade, told(&format!("container {}", container.name))))
        }
        "CrashLoopBackOff" => {
            let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            let how = last.map_or(String::new(), |last| {
                let reason = last.reason.as_deref().unwrap_or("Error");
                format!(" with exit code {} ({reason})", last.exit_code)
            });
            let (name, count) = (&container.name, container.restart_count);
            Some((Trouble::Crashing, format!("container {name} has ended{how}, {count} restarts")))
        }
        _ => None,
    }
}

fn pods_in_trouble(seen: &Seen, now: Timestamp) -> Vec<Finding> {
    let mut groups: BTreeMap<Trouble, (usize, &Pod, String)> = BTreeMap::new();
    for pod in &seen.pods {
        if let Some((kind, why)) = trouble(pod, &seen.events, now) {
            groups.entry(kind).or_insert((0, pod, why)).0 += 1;
        }
    }
    let total = seen.pods.len();
    let finding = |(kind, (count, pod, why)): (Trouble, (usize, &Pod, String))| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let place = format!("{namespace}/{}", name_of(&pod.metadata));
        let why = if count == 1 {
            format!("{place}: {}", short(&why))
        } else {
            format!("{place} for one: {}", short(&why))
        };
        Finding::new(format!("{count} of {total} pods {}", kind.what()), why, kind.advice(pod))
    };
    groups.into_iter().map(finding).collect()
}

/// Enough of a message to know what it is about.
const LONGEST_MESSAGE: usize = 240;

fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_MESSAGE) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// The newest of the events about an object.
fn newest(
    events: &[Arc<Event>],
    is_about: impl Fn(&k8s_openapi::api::core::v1::ObjectReference) -> bool,
) -> Option<&Arc<Event>> {
    events.iter().filter(|event| is_about(&event.involved_object)).max_by_key(|event| time_of(event))
}

fn time_of(event: &Event) -> Option<Timestamp> {
    let exact = event.event_time.as_ref().map(|time| time.0);
    event.last_timestamp.as_ref().map(|time| time.0).or(exact)
}

/// A node says so once, when it sees the object: an event older than the object's last change is about what
/// has been corrected since.
fn corefile_not_in_use(map: &ConfigMap, events: &[Arc<Event>]) -> Option<Finding> {
    let name = name_of(&map.metadata);
    if !matches!(name, "coredns" | "coredns-custom") {
        return None;
    }
    let uid = &map.metadata.uid;
    let of_it: Vec<Arc<Event>> =
        events.iter().filter(|event| event.reason.as_deref() == Some("InvalidCorefile")).cloned().collect();
    let event = newest(&of_it, |about| about.uid == *uid)?;
    let changed = map.metadata.managed_fields.iter().flatten().filter_map(|entry| entry.time.as_ref());
    let changed = changed.map(|time| time.0).max();
    if time_of(event).map(|time| time.as_second()) < changed.map(|time| time.as_second()) {
        return None;
    }
    let why = short(event.message.as_deref().unwrap_or("an event says so"));
    let advice = format!("correct it: kubectl edit configmap -n kube-system {name}");
    Some(Finding::new(format!("ConfigMap kube-system/{name} is not in use"), why, advice))
}

#[cfg(test)]
mod tests;
