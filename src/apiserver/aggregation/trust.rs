//! ConfigMap `extension-apiserver-authentication`: by what other servers know this one, and its callers.

use std::sync::Arc;
use std::time::Duration;

use api::kinds::CONFIG_MAP;
use api::{ApiError, CreateOptions, Patch, UpdateOptions};
use client::{ApiFor, ObjectApi, ObjectRef};
use serde_json::{Value, json};

use crate::bootstrap::identity;
use crate::server::ApiServer;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";
/// The name in the certificate that is shown to other servers.
const ALLOWED: &str = "front-proxy-client";

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Keeps the object as the keys are, until the server stops.
pub(crate) async fn follow(server: Arc<ApiServer>) {
    let api = server.as_user(identity());
    let mut proxy = server.registry.aggregation.front_proxy.clone();
    loop {
        let wanted = data(&server, proxy.borrow_and_update().as_ref().map(|proxy| proxy.ca_pem.as_str()));
        let mut pause = FIRST_PAUSE;
        while let Err(error) = bring(&api, &wanted).await {
            tracing::warn!(%error, retry = ?pause, "{NAME} is not up to date yet");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if proxy.changed().await.is_err() {
            return;
        }
    }
}

fn data(server: &ApiServer, ca: Option<&str>) -> Value {
    let mut data = json!({ "client-ca-file": server.registry.config.client_ca_pem });
    if let Some(ca) = ca {
        let list = |items: &[&str]| json!(items).to_string();
        data["requestheader-client-ca-file"] = json!(ca);
        data["requestheader-allowed-names"] = json!(list(&[ALLOWED]));
        data["requestheader-username-headers"] = json!(list(&["X-Remote-User"]));
        data["requestheader-uid-headers"] = json!(list(&["X-Remote-Uid"]));
        data["requestheader-group-headers"] = json!(list(&["X-Remote-Group"]));
        data["requestheader-extra-headers-prefix"] = json!(list(&["X-Remote-Extra-"]));
    }
    data
}

async fn bring(api: &Arc<dyn ObjectApi>, data: &Value) -> Result<(), ApiError> {
    let at = ObjectRef::new(Some(NAMESPACE), NAME);
    match api.get(&CONFIG_MAP, at).await {
        Ok(present) => {
            let tree = present.tree().map_err(ApiError::internal)?;
            if tree["data"] == *data {
                return Ok(());
            }
            let patch = Patch::merge(json!({ "data": data }));
            api.patch(&CONFIG_MAP, at, patch, &UpdateOptions::default()).await.map(drop)
        }
        Err(error) if error.is_not_found() => {
            let body = json!({ "metadata": { "name": NAME, "namespace": NAMESPACE }, "data": data });
            api.create(&CONFIG_MAP, Some(NAMESPACE), body, &CreateOptions::default()).await.map(drop)
        }
        Err(error) => Err(error),
    }
}
