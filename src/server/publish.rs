//! What the server tells the nodes of its cluster: a ConfigMap that they, and machines that are about to join, may read.

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

/// Publishes the settings in a task of `stage`, and tries again until it has worked.
pub(crate) fn start(api: Arc<dyn ObjectApi>, settings: ClusterSettings, stage: &Stage) {
    stage.spawn_cancellable("publication of the cluster's settings", OnExit::Done, async move {
        let mut delay = Duration::from_millis(100);
        while let Err(error) = publish(&api, &settings).await {
            tracing::warn!(%error, retry = ?delay, "the cluster's settings are not published yet: no node can join");
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(30));
        }
    });
}

fn metadata() -> ObjectMeta {
    ObjectMeta {
        name: Some(SETTINGS_NAME.to_string()),
        namespace: Some(SETTINGS_NAMESPACE.to_string()),
        ..ObjectMeta::default()
    }
}

async fn publish(api: &Arc<dyn ObjectApi>, settings: &ClusterSettings) -> Result<(), ApiError> {
    let config_map =
        ConfigMap { metadata: metadata(), data: Some(settings.to_data()), ..ConfigMap::default() };
    ensure(api, &config_map, |old, new| old.data == new.data).await?;
    let rule = PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["configmaps".to_string()]),
        resource_names: Some(vec![SETTINGS_NAME.to_string()]),
        verbs: vec!["get".to_string()],
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
            name: SETTINGS_NAME.to_string(),
        },
        subjects: Some(vec![group(GROUP_NODES), group(GROUP_BOOTSTRAPPERS)]),
    };
    ensure(api, &binding, |old, new| old.subjects == new.subjects).await
}

/// Creates the object, or updates the one that is there if it is another.
async fn ensure<K: Kinded>(
    api: &Arc<dyn ObjectApi>,
    wanted: &K,
    same: impl Fn(&K, &K) -> bool,
) -> Result<(), ApiError> {
    let api: Api<K> = Api::namespaced(api.clone(), SETTINGS_NAMESPACE);
    match api.find(SETTINGS_NAME).await? {
        None => api.create(wanted).await.map(|_| ()),
        Some(old) if same(&old, wanted) => Ok(()),
        Some(old) => {
            let mut new = wanted.clone();
            new.metadata_mut().resource_version = old.metadata().resource_version.clone();
            api.update(&new).await.map(|_| ())
        }
    }
}
