//! What the files of configMap, secret, downwardAPI and projected volumes hold, and these four kinds of
//! volumes.

use std::sync::Arc;

use client::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, DownwardAPIVolumeFile, DownwardAPIVolumeSource, KeyToPath, Pod,
    ProjectedVolumeSource, Secret, SecretVolumeSource, Volume,
};

use super::atomic::{File, Files};
use super::emptydir::take_away;
use super::plugin::{MountedVolume, SetUp, VolumeError, VolumePlace, VolumePlugin, VolumeRequest};
use super::tokens::Tokens;
use crate::files;
use crate::host::Host;
use crate::sources::Sources;
use crate::spec::PodExt;
use crate::spec::amount::Resources;
use crate::spec::fields::{self, Addresses};

/// Where a volume's files come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentKind {
    ConfigMap,
    Secret,
    DownwardApi,
    Projected,
}

impl ContentKind {
    pub(super) const ALL: [ContentKind; 4] =
        [ContentKind::ConfigMap, ContentKind::Secret, ContentKind::DownwardApi, ContentKind::Projected];
}

/// Volumes that the kubelet fills with files; containers only read them.
pub(super) struct ContentPlugin {
    pub(super) kind: ContentKind,
    pub(super) host: Arc<dyn Host>,
    pub(super) sources: Sources,
    pub(super) tokens: Tokens,
}

impl ContentPlugin {
    async fn bring(&self, request: VolumeRequest<'_>) -> Result<SetUp, VolumeError> {
        let volume = request.volume;
        let needs = Needs {
            pod: request.pod,
            sources: &self.sources,
            tokens: &self.tokens,
            allocatable: request.allocatable,
            now: request.now,
            group: request.group,
        };
        let mut refresh = None;
        let content = match self.kind {
            ContentKind::ConfigMap => {
                config_map(&needs, &volume.config_map.clone().unwrap_or_default()).await?
            }
            ContentKind::Secret => secret(&needs, &volume.secret.clone().unwrap_or_default()).await?,
            ContentKind::DownwardApi => downward(&needs, &volume.downward_api.clone().unwrap_or_default())?,
            ContentKind::Projected => {
                projected(&needs, &volume.projected.clone().unwrap_or_default(), &mut refresh).await?
            }
        };
        // What is secret never reaches a disk.
        let in_memory = self.kind != ContentKind::ConfigMap;
        let (host, path, group, now) = (self.host.clone(), request.place.path, request.group, request.now);
        let path = files::blocking(move || -> Result<_, VolumeError> {
            let failed = |source| VolumeError::File { verb: "create", path: path.clone(), source };
            host.make_directory(&path, 0o755).map_err(failed)?;
            if in_memory {
                host.mount_memory(&path, None, 0o755)?;
            }
            host.write_volume(&path, &content, group, now)?;
            Ok(path)
        })
        .await?;
        Ok((MountedVolume { path, read_only: true }, refresh))
    }
}

impl VolumePlugin for ContentPlugin {
    fn name(&self) -> &'static str {
        match self.kind {
            ContentKind::ConfigMap => "configmap",
            ContentKind::Secret => "secret",
            ContentKind::DownwardApi => "downward-api",
            ContentKind::Projected => "projected",
        }
    }

    fn supports(&self, volume: &Volume) -> bool {
        match self.kind {
            ContentKind::ConfigMap => volume.config_map.is_some(),
            ContentKind::Secret => volume.secret.is_some(),
            ContentKind::DownwardApi => volume.downward_api.is_some(),
            ContentKind::Projected => volume.projected.is_some(),
        }
    }

    fn set_up<'a>(&'a self, request: VolumeRequest<'a>) -> BoxFuture<'a, Result<SetUp, VolumeError>> {
        Box::pin(self.bring(request))
    }

    fn tear_down<'a>(
        &'a self,
        _uid: &'a str,
        place: &'a VolumePlace,
    ) -> BoxFuture<'a, Result<(), VolumeError>> {
        Box::pin(take_away(&self.host, place))
    }

    fn forget_pod(&self, uid: &str) {
        self.tokens.forget(uid);
    }
}

pub(crate) struct Needs<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) sources: &'a Sources,
    pub(crate) tokens: &'a Tokens,
    pub(crate) allocatable: &'a Resources,
    pub(crate) now: Timestamp,
    /// The pod's `fsGroup`.
    pub(crate) group: Option<u32>,
}

fn mode(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or(0o644) & 0o777
}

pub(crate) async fn config_map(
    needs: &Needs<'_>,
    source: &ConfigMapVolumeSource,
) -> Result<Files, VolumeError> {
    let default = source.default_mode.unwrap_or(0o644);
    from_config_map(needs, &source.name, source.items.as_deref(), source.optional, default).await
}

async fn from_config_map(
    needs: &Needs<'_>,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    default: i32,
) -> Result<Files, VolumeError> {
    let pod = needs.pod;
    let found = needs.sources.get::<ConfigMap>(pod.uid(), pod.namespace(), name).await;
    let Some(map) = found? else {
        return absent(optional, "configmap", name);
    };
    let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    pick(text.chain(binary).collect(), items, optional, default)
}

pub(crate) async fn secret(needs: &Needs<'_>, source: &SecretVolumeSource) -> Result<Files, VolumeError> {
    let name = source.secret_name.as_deref().unwrap_or("");
    let default = source.default_mode.unwrap_or(0o644);
    from_secret(needs, name, source.items.as_deref(), source.optional, default).await
}

async fn from_secret(
    needs: &Needs<'_>,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    default: i32,
) -> Result<Files, VolumeError> {
    let pod = needs.pod;
    let found = needs.sources.get::<Secret>(pod.uid(), pod.namespace(), name).await;
    let Some(secret) = found? else {
        return absent(optional, "secret", name);
    };
    let data = secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    pick(data.collect(), items, optional, default)
}

fn absent(optional: Option<bool>, kind: &'static str, name: &str) -> Result<Files, VolumeError> {
    if optional == Some(true) {
        return Ok(Files::new());
    }
    Err(VolumeError::NoObject { kind, name: name.to_string() })
}

type Data = std::collections::BTreeMap<String, Vec<u8>>;

/// All keys, or those that `items` names, at the paths it gives.
fn pick(
    data: Data,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    default: i32,
) -> Result<Files, VolumeError> {
    let file =
        |data: Vec<u8>, own: Option<i32>| File { data, mode: mode(own.unwrap_or(default)), owner: None };
    let items = items.unwrap_or_default();
    if items.is_empty() {
        return Ok(data.into_iter().map(|(key, value)| (key, file(value, None))).collect());
    }
    let mut files = Files::new();
    for item in items {
        match data.get(&item.key) {
            Some(value) => {
                files.insert(item.path.clone(), file(value.clone(), item.mode));
            }
            None if optional == Some(true) => {}
            None => return Err(VolumeError::NoKey(item.key.clone())),
        }
    }
    Ok(files)
}

pub(crate) fn downward(needs: &Needs<'_>, source: &DownwardAPIVolumeSource) -> Result<Files, VolumeError> {
    from_downward(needs, source.items.as_deref().unwrap_or_default(), source.default_mode.unwrap_or(0o644))
}

fn from_downward(
    needs: &Needs<'_>,
    items: &[DownwardAPIVolumeFile],
    default: i32,
) -> Result<Files, VolumeError> {
    let mut files = Files::new();
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            fields::field(needs.pod, &field.field_path, &Addresses::default())?
        } else if let Some(resource) = &item.resource_field_ref {
            let name = resource.container_name.as_deref().unwrap_or("");
            let container =
                needs.pod.find_container(name).ok_or_else(|| VolumeError::NoContainer(name.to_string()))?;
            fields::resource(resource, container, needs.allocatable)?
        } else {
            continue;
        };
        let mode = mode(item.mode.unwrap_or(default));
        files.insert(item.path.clone(), File { data: text.into_bytes(), mode, owner: None });
    }
    Ok(files)
}

pub(crate) async fn projected(
    needs: &Needs<'_>,
    source: &ProjectedVolumeSource,
    refresh: &mut Option<Timestamp>,
) -> Result<Files, VolumeError> {
    let default = source.default_mode.unwrap_or(0o644);
    let mut files = Files::new();
    for part in source.sources.iter().flatten() {
        if let Some(one) = &part.config_map {
            files.extend(
                from_config_map(needs, &one.name, one.items.as_deref(), one.optional, default).await?,
            );
        }
        if let Some(one) = &part.secret {
            files.extend(from_secret(needs, &one.name, one.items.as_deref(), one.optional, default).await?);
        }
        if let Some(one) = &part.downward_api {
            files.extend(from_downward(needs, one.items.as_deref().unwrap_or_default(), default)?);
        }
        if let Some(one) = &part.service_account_token {
            let token = needs.tokens.get(needs.pod, one, needs.now).await?;
            *refresh = Some(refresh.map_or(token.refresh, |other: Timestamp| other.min(token.refresh)));
            let (mode, owner) = token_access(needs.pod, needs.group, default);
            files.insert(one.path.clone(), File { data: token.text.into_bytes(), mode, owner });
        }
        if part.cluster_trust_bundle.is_some() || part.pod_certificate.is_some() {
            return Err(VolumeError::Source);
        }
    }
    Ok(files)
}

/// Mode and owner of a token: its pod alone may read it, through its group if it has one (which gets its bit
/// when it is given the volume) and as the one user that all containers run as.
pub(super) fn token_access(pod: &Pod, group: Option<u32>, default: i32) -> (u32, Option<u32>) {
    let of_pod = pod.spec_ref().security_context.as_ref().and_then(|context| context.run_as_user);
    let containers = pod.containers().iter().chain(pod.init_containers());
    let mut users = containers
        .map(|one| one.security_context.as_ref().and_then(|context| context.run_as_user).or(of_pod));
    let first = users.next().flatten().filter(|first| users.all(|user| user == Some(*first)));
    let owner = first.and_then(|user| u32::try_from(user).ok());
    let mode = if owner.is_some() || group.is_some() { 0o600 } else { mode(default) };
    (mode, owner)
}
