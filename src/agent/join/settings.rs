//! What a node must know of its cluster. A server publishes it in a ConfigMap. A node keeps what it read, so
//! it starts without its server being there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::Api;
use client::https::HttpsApi;
use k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, Serialize};

use super::{Attempt, Waiting, patiently};
use crate::{Problem, files};

/// Namespace and name of the ConfigMap with which a server tells its nodes about the cluster.
pub const SETTINGS_NAMESPACE: &str = "kube-public";
pub const SETTINGS_NAME: &str = "minik8s-cluster";

/// What a node must know of its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterSettings {
    pub cluster_cidr: String,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// Parts of a node that the cluster does without, by their names for `--disable`.
    #[serde(default)]
    pub disabled: Vec<String>,
    /// CA of client certificates, which the kubelet checks the API server's against.
    #[serde(rename = "client-ca.crt")]
    pub client_ca_pem: String,
    /// CA of kubelets' serving certificates; a certificate of another is asked for anew. Servers of earlier
    /// versions have none.
    #[serde(rename = "kubelet-ca.crt", default)]
    pub kubelet_ca_pem: Option<String>,
}

impl ClusterSettings {
    /// As the data of a ConfigMap.
    pub fn to_data(&self) -> BTreeMap<String, String> {
        let dns: Vec<String> = self.cluster_dns.iter().map(IpAddr::to_string).collect();
        let mut data = BTreeMap::from([
            ("cluster-cidr".to_string(), self.cluster_cidr.clone()),
            ("cluster-dns".to_string(), dns.join(",")),
            ("cluster-domain".to_string(), self.cluster_domain.clone()),
            ("disabled".to_string(), self.disabled.join(",")),
            ("client-ca.crt".to_string(), self.client_ca_pem.clone()),
        ]);
        data.extend(self.kubelet_ca_pem.clone().map(|pem| ("kubelet-ca.crt".to_string(), pem)));
        data
    }

    /// Whether nodes have a part.
    pub fn runs(&self, part: &str) -> bool {
        !self.disabled.iter().any(|name| name == part)
    }

    fn from_data(map: &ConfigMap) -> Option<Self> {
        let data = map.data.as_ref()?;
        let dns = data.get("cluster-dns")?.split(',').filter(|part| !part.is_empty());
        Some(ClusterSettings {
            cluster_cidr: data.get("cluster-cidr")?.clone(),
            cluster_dns: dns.map(str::parse).collect::<Result<_, _>>().ok()?,
            cluster_domain: data.get("cluster-domain")?.clone(),
            disabled: data
                .get("disabled")
                .map(|all| all.split(',').filter(|name| !name.is_empty()).map(str::to_string).collect())
                .unwrap_or_default(),
            client_ca_pem: data.get("client-ca.crt")?.clone(),
            kubelet_ca_pem: data.get("kubelet-ca.crt").cloned(),
        })
    }
}

pub(super) fn settings_file(folder: &Path) -> PathBuf {
    folder.join("cluster.json")
}

/// What the server says of the cluster, or what it said last if it cannot be reached now.
pub(super) async fn settings(
    folder: &Path,
    api: &HttpsApi,
    waiting: &Waiting,
) -> Result<ClusterSettings, Problem> {
    let path = settings_file(folder);
    let kept: Option<ClusterSettings> = files::read(&path)?.and_then(|text| serde_json::from_str(&text).ok());
    let maps: Api<ConfigMap> = Api::namespaced(Arc::new(api.clone()), SETTINGS_NAMESPACE);
    let fresh =
        patiently("read the cluster's settings", waiting, async || match maps.get(SETTINGS_NAME).await {
            Ok(map) => match ClusterSettings::from_data(&map) {
                Some(settings) => Ok(settings),
                None => Err(Attempt::Again(format!(
                    "ConfigMap {SETTINGS_NAMESPACE}/{SETTINGS_NAME} is incomplete"
                ))),
            },
            Err(error) => match &kept {
                Some(kept) => {
                    tracing::warn!(%error, "the server does not answer: the node starts with what it knew");
                    Ok(kept.clone())
                }
                None => Err(Attempt::Again(error.to_string())),
            },
        })
        .await?;
    if kept.as_ref() != Some(&fresh) {
        files::write(&path, &serde_json::to_vec_pretty(&fresh).unwrap_or_default(), 0o600)?;
    }
    Ok(fresh)
}

#[cfg(test)]
mod tests;
