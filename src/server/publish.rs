//! What the server tells of its cluster: to its nodes and machines that are about to join, the settings; to
//! everyone in it, the authority of kubelets' serving certificates, for whoever scrapes them.
//!
//! Both are ConfigMaps in `kube-public` with a role and a binding of the same name. The authority of kubelets
//! is in no kubeconfig and not in `kube-root-ca.crt`: what it signs must never pass for an API server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent::join::{ClusterSettings, SETTINGS_NAME, SETTINGS_NAMESPACE};
use api::identity::GROUP_NODES;
use api::{ApiError, Kinded};
use client::{Api, ObjectApi};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use supervisor::{OnExit, Stage};

/// Group of machines that show the join token.
const GROUP_BOOTSTRAPPERS: &str = "system:bootstrappers";

const GROUP_AUTHENTICATED: &str = "system:authenticated";

/// The authorities that kubelets' serving certificates lead to, as `ca.crt`.
const KUBELET_SERVING_CA: &str = "kubelet-serving-ca";

/// Publishes the settings in a task of `stage`, and tries again until it has worked.
pub(crate) fn start(
    api: Arc<dyn ObjectApi>,
    settings: ClusterSettings,
    kubelet_roots_pem: String,
    stage: &Stage,
) {
    stage.spawn_cancellable("publication of the cluster's settings", OnExit::Done, async move {
        let mut delay = Duration::from_millis(100);
        let told = [
            PublishedConfigMap {
                name: SETTINGS_NAME,
                data: settings.to_data(),
                groups: &[GROUP_NODES, GROUP_BOOTSTRAPPERS],
                verbs: &["get"],
            },
            PublishedConfigMap {
                name: KUBELET_SERVING_CA,
                data: [("ca.crt".to_string(), kubelet_roots_pem)].into(),
                groups: &[GROUP_AUTHENTICATED],
                verbs: &["get", "list", "watch"],
            },
        ];
        while let Err(error) = publish(&api, &told).await {
            tracing::warn!(%error, retry = ?delay, "the cluster's settings are not published yet: no node can join");
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(30));
        }
    });
}

/// A ConfigMap and who may read it.
struct PublishedConfigMap {
    name: &'static str,
    data: BTreeMap<String, String>,
    groups: &'static [&'static str],
    verbs: &'static [&'static str],
}

async fn publish(api: &Arc<dyn ObjectApi>, maps: &[PublishedConfigMap]) -> Result<(), ApiError> {
    for one in maps {
        publish_one(api, one).await?;
    }
    Ok(())
}

fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_string()),
        namespace: Some(SETTINGS_NAMESPACE.to_string()),
        ..ObjectMeta::default()
    }
}

async fn publish_one(api: &Arc<dyn ObjectApi>, told: &PublishedConfigMap) -> Result<(), ApiError> {
    let metadata = || metadata(told.name);
    let config_map =
        ConfigMap { metadata: metadata(), data: Some(told.data.clone()), ..ConfigMap::default() };
    ensure(api, &config_map, |old, new| old.data == new.data).await?;
    let rule = PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["configmaps".to_string()]),
        resource_names: Some(vec![told.name.to_string()]),
        verbs: told.verbs.iter().map(|verb| verb.to_string()).collect(),
        non_resource_urls: None,
    };
    let role = Role { metadata: metadata(), rules: Some(vec![rule]) };
    ensure(api, &role, |old, new| old.rules == new.rules).await?;
    let group = |name: &str| Subject {
        kind: "Group".to_string(),
        name: name.to_string(),
        api_group: Some("rbac.authorization.k8s.io".to_string()),
        namespace: None,
    };
    let binding = RoleBinding {
        metadata: metadata(),
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_string()),
            kind: "Role".to_string(),
            name: told.name.to_string(),
        },
        subjects: Some(told.groups.iter().map(|name| group(name)).collect()),
    };
    ensure(api, &binding, |old, new| old.subjects == new.subjects).await
}

/// Creates the object, or updates the one that is there if it is another.
pub(crate) async fn ensure<K: Kinded>(
    api: &Arc<dyn ObjectApi>,
    wanted: &K,
    same: impl Fn(&K, &K) -> bool,
) -> Result<(), ApiError> {
    let namespace = wanted.metadata().namespace.clone().unwrap_or_default();
    let api: Api<K> = Api::namespaced(api.clone(), &namespace);
    match api.find(wanted.metadata().name.as_deref().unwrap_or_default()).await? {
        None => api.create(wanted).await.map(|_| ()),
        Some(old) if same(&old, wanted) => Ok(()),
        Some(old) => {
            let mut new = wanted.clone();
            new.metadata_mut().resource_version = old.metadata().resource_version.clone();
            api.update(&new).await.map(|_| ())
        }
    }
}
