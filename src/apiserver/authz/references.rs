//! What a pod names of other API objects: one walk over the spec for all who need to know, the Node
//! authorizer (what a node may read) and admission (what a mirror pod may not name).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, PodSpec, Volume, VolumeProjection};

/// Names of all secrets of a pod's namespace that the pod refers to.
pub(crate) fn secrets(spec: &PodSpec) -> BTreeSet<&str> {
    let mut found: BTreeSet<&str> =
        spec.image_pull_secrets.iter().flatten().map(|one| one.name.as_str()).collect();
    spec.volumes.iter().flatten().for_each(|volume| volume_secrets(volume, &mut found));
    for (env, from) in environments(spec) {
        let sources = env.iter().filter_map(|one| one.value_from.as_ref());
        found.extend(sources.filter_map(|one| one.secret_key_ref.as_ref()).map(|one| one.name.as_str()));
        found.extend(from.iter().filter_map(|one| one.secret_ref.as_ref()).map(|one| one.name.as_str()));
    }
    found
}

/// Names of all config maps of a pod's namespace that the pod refers to.
pub(crate) fn config_maps(spec: &PodSpec) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for volume in spec.volumes.iter().flatten() {
        found.extend(volume.config_map.as_ref().map(|one| one.name.as_str()));
        found.extend(
            projections(volume).filter_map(|one| one.config_map.as_ref()).map(|one| one.name.as_str()),
        );
    }
    for (env, from) in environments(spec) {
        let sources = env.iter().filter_map(|one| one.value_from.as_ref());
        found.extend(sources.filter_map(|one| one.config_map_key_ref.as_ref()).map(|one| one.name.as_str()));
        found.extend(from.iter().filter_map(|one| one.config_map_ref.as_ref()).map(|one| one.name.as_str()));
    }
    found
}

/// Names of the claims that a pod mounts.
pub(crate) fn claims(spec: &PodSpec) -> BTreeSet<&str> {
    let volumes = spec.volumes.iter().flatten();
    let claims = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
    claims.map(|claim| claim.claim_name.as_str()).collect()
}

/// What API object of any kind a pod refers to, in upstream's words; none if the pod can run without the API.
pub(crate) fn first(spec: &PodSpec) -> Option<String> {
    let found = |what: &str| Some(what.to_string());
    if spec.service_account_name.as_deref().is_some_and(|name| !name.is_empty()) {
        return found("serviceaccounts");
    }
    if !secrets(spec).is_empty() {
        return found("secrets");
    }
    if !config_maps(spec).is_empty() {
        return found("configmaps");
    }
    if spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        return found("resourceclaims");
    }
    spec.volumes.iter().flatten().find_map(of_volume)
}

fn of_volume(volume: &Volume) -> Option<String> {
    let referring = [
        (volume.config_map.is_some(), "configmaps (via configmap volumes)"),
        (volume.secret.is_some(), "secrets (via secret volumes)"),
        (volume.csi.is_some(), "csidrivers (via CSI volumes)"),
        (volume.glusterfs.is_some(), "endpoints (via glusterFS volumes)"),
        (volume.persistent_volume_claim.is_some(), "persistentvolumeclaims"),
        (volume.ephemeral.is_some(), "persistentvolumeclaims (via ephemeral volumes)"),
        (volume.azure_file.is_some(), "secrets (via azureFile volumes)"),
    ];
    if let Some((_, what)) = referring.iter().find(|(named, _)| *named) {
        return Some(what.to_string());
    }
    if volume.projected.is_some() {
        return projections(volume).find_map(|source| of_projection(volume, source));
    }
    // Whatever is not known to be harmless is not: a list of the harmless, so that a new type is refused.
    let harmless = [
        volume.aws_elastic_block_store.is_some(),
        volume.azure_disk.is_some(),
        volume.cephfs.is_some(),
        volume.cinder.is_some(),
        volume.downward_api.is_some(),
        volume.empty_dir.is_some(),
        volume.fc.is_some(),
        volume.flex_volume.is_some(),
        volume.flocker.is_some(),
        volume.gce_persistent_disk.is_some(),
        volume.git_repo.is_some(),
        volume.host_path.is_some(),
        volume.image.is_some(),
        volume.iscsi.is_some(),
        volume.nfs.is_some(),
        volume.photon_persistent_disk.is_some(),
        volume.portworx_volume.is_some(),
        volume.quobyte.is_some(),
        volume.rbd.is_some(),
        volume.scale_io.is_some(),
        volume.storageos.is_some(),
        volume.vsphere_volume.is_some(),
    ];
    let unknown = !harmless.contains(&true);
    unknown.then(|| format!("unknown volume type for volume {:?}", volume.name))
}

fn of_projection(volume: &Volume, source: &VolumeProjection) -> Option<String> {
    let what = match source {
        one if one.config_map.is_some() => "configmaps (via projected volumes)",
        one if one.secret.is_some() => "secrets (via projected volumes)",
        one if one.service_account_token.is_some() => "serviceaccounts (via projected volumes)",
        one if one.cluster_trust_bundle.is_some() => "clustertrustbundles",
        one if one.pod_certificate.is_some() => "podcertificates",
        one if one.downward_api.is_some() => return None,
        _ => return Some(format!("unknown source for projected volume {:?}", volume.name)),
    };
    Some(what.to_string())
}

/// The variables of every container of a pod, of whatever kind the container is.
fn environments(spec: &PodSpec) -> impl Iterator<Item = (&[EnvVar], &[EnvFromSource])> {
    let plain = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let plain = plain.map(|one| (one.env.as_deref(), one.env_from.as_deref()));
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let ephemeral = ephemeral.map(|one| (one.env.as_deref(), one.env_from.as_deref()));
    plain.chain(ephemeral).map(|(env, from)| (env.unwrap_or(&[]), from.unwrap_or(&[])))
}

fn projections(volume: &Volume) -> impl Iterator<Item = &VolumeProjection> {
    volume.projected.iter().filter_map(|one| one.sources.as_ref()).flatten()
}

fn volume_secrets<'a>(volume: &'a Volume, found: &mut BTreeSet<&'a str>) {
    found.extend(volume.secret.as_ref().and_then(|one| one.secret_name.as_deref()));
    found.extend(projections(volume).filter_map(|one| one.secret.as_ref()).map(|one| one.name.as_str()));
    found.extend(volume.azure_file.as_ref().map(|one| one.secret_name.as_str()));
    let references = [
        volume.cephfs.as_ref().and_then(|one| one.secret_ref.as_ref()),
        volume.cinder.as_ref().and_then(|one| one.secret_ref.as_ref()),
        volume.flex_volume.as_ref().and_then(|one| one.secret_ref.as_ref()),
        volume.iscsi.as_ref().and_then(|one| one.secret_ref.as_ref()),
        volume.rbd.as_ref().and_then(|one| one.secret_ref.as_ref()),
        volume.scale_io.as_ref().map(|one| &one.secret_ref),
        volume.storageos.as_ref().and_then(|one| one.secret_ref.as_ref()),
        volume.csi.as_ref().and_then(|one| one.node_publish_secret_ref.as_ref()),
    ];
    found.extend(references.into_iter().flatten().map(|one| one.name.as_str()));
}
