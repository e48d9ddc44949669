//! Who a pod of a stateful set is: its ordinal, its name, its labels and its volumes.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};

use super::{claims, name_of, replicas};
use crate::context::text;
use crate::history::REVISION_LABEL;
use crate::pod_control::pod_of;

pub(super) const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
pub(super) const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The parts of `parent-ordinal`. An ordinal too large for a number is none, but the parent is known.
fn split(name: &str) -> Option<(&str, Option<i32>)> {
    let (parent, ordinal) = name.rsplit_once('-')?;
    let digits = !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| (parent, ordinal.parse().ok()))
}

/// The ordinal in a pod's name.
pub(super) fn ordinal(pod: &Pod) -> Option<i32> {
    split(text(&pod.metadata.name)).and_then(|(_, ordinal)| ordinal)
}

/// The pod's name is one of the set's.
pub(super) fn is_member(set: &StatefulSet, pod: &Pod) -> bool {
    split(text(&pod.metadata.name)).is_some_and(|(parent, _)| parent == name_of(set))
}

/// The lowest ordinal.
pub(super) fn start(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.ordinals.as_ref()?.start).unwrap_or(0)
}

/// The ordinal's place among those the set should have; none if it is not one of them.
pub(super) fn index(set: &StatefulSet, ordinal: i32) -> Option<usize> {
    let index = usize::try_from(i64::from(ordinal) - i64::from(start(set))).ok()?;
    (index < replicas(set)).then_some(index)
}

pub(super) fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", name_of(set))
}

/// The revision that a pod is of, empty if it says none.
pub(super) fn revision(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(REVISION_LABEL)).map_or("", String::as_str)
}

/// A new pod with this ordinal, of the template of `revision`.
pub(super) fn new_pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let namespace = text(&set.metadata.namespace);
    let mut pod = pod_of(template, namespace, name_of(set), &api::owner::controller_reference(set));
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(pod_name(set, ordinal));
    identify(set, &mut pod);
    // These two cannot change later, so they are not part of the identity that is mended.
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(pod_name(set, ordinal));
    spec.subdomain = set.spec.as_ref().and_then(|spec| spec.service_name.clone());
    mount_claims(set, &mut pod);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_string(), revision.to_string());
    pod
}

/// The labels that tell who the pod is.
pub(super) fn has_identity(set: &StatefulSet, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    ordinal(pod).is_some_and(|ordinal| pod_name(set, ordinal) == text(&pod.metadata.name))
        && labels.and_then(|labels| labels.get(POD_NAME_LABEL)) == pod.metadata.name.as_ref()
}

pub(super) fn identify(set: &StatefulSet, pod: &mut Pod) {
    let Some(ordinal) = ordinal(pod) else { return };
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME_LABEL.to_string(), pod_name(set, ordinal));
    labels.insert(POD_INDEX_LABEL.to_string(), ordinal.to_string());
}

/// The pod has a volume for each claim of the set's templates.
pub(super) fn has_storage(set: &StatefulSet, pod: &Pod) -> bool {
    let Some(ordinal) = ordinal(pod) else { return false };
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    claims::templates(set).iter().all(|template| {
        let wanted = claims::name(set, template, ordinal);
        volumes.iter().any(|volume| {
            volume.name == text(&template.metadata.name)
                && volume.persistent_volume_claim.as_ref().is_some_and(|claim| claim.claim_name == wanted)
        })
    })
}

/// Gives the pod a volume for each claim, in place of others of these names.
pub(super) fn mount_claims(set: &StatefulSet, pod: &mut Pod) {
    let Some(ordinal) = ordinal(pod) else { return };
    let templates: BTreeMap<&str, &PersistentVolumeClaim> =
        claims::templates(set).iter().map(|template| (text(&template.metadata.name), template)).collect();
    if templates.is_empty() {
        return;
    }
    let mut volumes: Vec<Volume> = templates
        .iter()
        .map(|(name, template)| Volume {
            name: (*name).to_string(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claims::name(set, template, ordinal),
                read_only: None,
            }),
            ..Volume::default()
        })
        .collect();
    let spec = pod.spec.get_or_insert_default();
    let others = spec.volumes.take().unwrap_or_default();
    volumes.extend(others.into_iter().filter(|volume| !templates.contains_key(volume.name.as_str())));
    spec.volumes = Some(volumes);
}
