//! What a container is given besides its image: its environment, its volumes, its hosts file and a place for
//! its last words.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::ApiError;
use client::Informer;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Service};
use tokio::sync::watch;

use crate::files;
use crate::host::Host;
use crate::sources::Sources;
use crate::spec::amount::Resources;
use crate::spec::env::EnvInput;
use crate::spec::fields::Addresses;
use crate::spec::{PodExt, container, env, hosts};
use crate::volumes::{Mounted, MountedVolume, VolumeError};

/// The largest environment file that is read.
const LARGEST_ENV_FILE: u64 = 64 * 1024;

/// Where containers' inputs come from.
pub(crate) struct Inputs {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) sources: Sources,
    pub(crate) services: Informer<Service>,
    /// What the node can give to pods.
    pub(crate) allocatable: Resources,
    /// Directory of the pods' directories.
    pub(crate) pods_dir: PathBuf,
    pub(crate) cluster_domain: String,
    pub(crate) node_ip: watch::Receiver<IpAddr>,
}

/// Why a container cannot be configured; the text ends in its `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Environment(#[from] env::EnvError),
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    NoVolume { volume: String, container: String },
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("cannot write {}: {source}", .path.display())]
    File { path: PathBuf, source: std::io::Error },
}

impl Inputs {
    pub(crate) fn host_ips(&self) -> Vec<String> {
        vec![self.node_ip.borrow().to_string()]
    }

    pub(super) async fn environment(
        &self,
        pod: &Pod,
        mounted: &Mounted,
        definition: &Container,
        ips: &[String],
    ) -> Result<std::collections::BTreeMap<String, String>, InputError> {
        let (uid, namespace) = (pod.uid(), pod.namespace());
        let (config_maps, secrets) = env::referenced(definition);
        let mut sources = env::Sources::default();
        for name in config_maps {
            let found = self.sources.get::<ConfigMap>(uid, namespace, &name).await;
            sources.config_maps.insert(name, found?);
        }
        for name in secrets {
            let found = self.sources.get::<Secret>(uid, namespace, &name).await;
            sources.secrets.insert(name, found?);
        }
        for (volume, path) in env::referenced_files(definition) {
            let known = mounted.volumes.get(&volume).ok_or_else(|| {
                let container = definition.name.clone();
                InputError::NoVolume { volume: volume.clone(), container }
            })?;
            let (top, file) = (known.path.clone(), path.clone());
            // A container may have put anything in its place.
            let read = files::blocking(move || files::read_inside(&top, &file, LARGEST_ENV_FILE)).await;
            let text = read.ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok());
            sources.files.insert((volume, path), text);
        }
        let links = pod.spec_ref().enable_service_links.unwrap_or(true);
        let mut services = self.services.list(Some(namespace));
        services.extend(self.services.get(Some("default"), "kubernetes"));
        let services = env::service_variables(&services, namespace, links);
        let addresses = Addresses { host: self.host_ips(), pod: ips.to_vec() };
        let input = EnvInput {
            pod,
            addresses: &addresses,
            allocatable: &self.allocatable,
            services: &services,
            sources: &sources,
        };
        Ok(env::environment(definition, &input)?)
    }

    pub(super) async fn mounts(
        &self,
        pod: &Pod,
        mounted: &Mounted,
        definition: &Container,
        ips: &[String],
        env: &std::collections::BTreeMap<String, String>,
        restart_count: i32,
    ) -> Result<Vec<cri::Mount>, InputError> {
        let mut mounts = Vec::new();
        let pod_dir = self.pods_dir.join(pod.uid());
        for (index, mount) in definition.volume_mounts.iter().flatten().enumerate() {
            let volume = mounted.volumes.get(&mount.name);
            let MountedVolume { path, read_only } = volume.cloned().ok_or_else(|| {
                let [volume, container] = [&mount.name, &definition.name].map(String::clone);
                InputError::NoVolume { volume, container }
            })?;
            let sub = match (mount.sub_path_expr.as_deref(), mount.sub_path.as_deref()) {
                (Some(expression), _) if !expression.is_empty() => env::expand_strictly(expression, env)?,
                (_, sub) => sub.unwrap_or("").to_string(),
            };
            let host_path = if sub.is_empty() {
                path
            } else {
                let target = pod_dir
                    .join("volume-subpaths")
                    .join(&mount.name)
                    .join(&definition.name)
                    .join(index.to_string());
                files::blocking({
                    let host = self.host.clone();
                    move || host.bind(&path, &sub, target)
                })
                .await?
            };
            let propagation = match mount.mount_propagation.as_deref() {
                Some("Bidirectional") => cri::MountPropagation::PropagationBidirectional,
                Some("HostToContainer") => cri::MountPropagation::PropagationHostToContainer,
                _ => cri::MountPropagation::PropagationPrivate,
            };
            mounts.push(cri::Mount {
                container_path: absolute(&mount.mount_path, definition.working_dir.as_deref()),
                host_path: host_path.to_string_lossy().into_owned(),
                readonly: mount.read_only.unwrap_or(false) || read_only,
                propagation: propagation as i32,
                ..Default::default()
            });
        }
        self.hosts_mount(pod, definition, ips, &pod_dir, &mut mounts).await?;
        self.termination_mount(definition, &pod_dir, restart_count, &mut mounts).await?;
        Ok(mounts)
    }

    async fn hosts_mount(
        &self,
        pod: &Pod,
        definition: &Container,
        ips: &[String],
        pod_dir: &Path,
        mounts: &mut Vec<cri::Mount>,
    ) -> Result<(), InputError> {
        let own = definition.volume_mounts.iter().flatten().any(|mount| mount.mount_path == "/etc/hosts");
        if own {
            return Ok(());
        }
        let (host, ips, pod) = (self.host.clone(), ips.to_vec(), pod.clone());
        let (path, domain) = (pod_dir.join("etc-hosts"), self.cluster_domain.clone());
        let path = files::blocking(move || {
            let text = hosts::hosts_file(&pod, &ips, &domain, &host.read_text("/etc/hosts"));
            write_file(&*host, &path, text.as_bytes(), 0o644).map(|()| path)
        })
        .await?;
        mounts.push(cri::Mount {
            container_path: "/etc/hosts".to_string(),
            host_path: path.to_string_lossy().into_owned(),
            ..Default::default()
        });
        Ok(())
    }

    async fn termination_mount(
        &self,
        definition: &Container,
        pod_dir: &Path,
        restart_count: i32,
        mounts: &mut Vec<cri::Mount>,
    ) -> Result<(), InputError> {
        let path = pod_dir.join("containers").join(&definition.name).join(restart_count.to_string());
        let host = self.host.clone();
        let path = files::blocking(move || write_file(&*host, &path, b"", 0o666).map(|()| path)).await?;
        mounts.push(cri::Mount {
            container_path: container::termination_path(definition).to_string(),
            host_path: path.to_string_lossy().into_owned(),
            ..Default::default()
        });
        Ok(())
    }
}

fn absolute(path: &str, working_dir: Option<&str>) -> String {
    if path.starts_with('/') {
        return path.to_string();
    }
    format!("{}/{path}", working_dir.unwrap_or("").trim_end_matches('/'))
}

fn write_file(host: &dyn Host, path: &Path, data: &[u8], mode: u32) -> Result<(), InputError> {
    host.write_file(path, data, mode).map_err(|source| InputError::File { path: path.to_path_buf(), source })
}
