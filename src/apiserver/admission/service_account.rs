//! ServiceAccount: every pod runs as an account that exists, and finds its token, the cluster's CA and its
//! namespace in `/var/run/secrets/kubernetes.io/serviceaccount` unless it or its account wants none.

use api::ApiError;
use api::json::{items, text};
use api::kinds::SERVICE_ACCOUNT;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::request::Request;
use crate::registry::names;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// A little more than an hour: by this number the API server knew tokens it had mounted itself.
const TOKEN_SECONDS: i64 = 3607;
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What a pod has from its account. The rest, however large, is passed over.
#[derive(Deserialize)]
struct Account<'a> {
    #[serde(default, rename = "automountServiceAccountToken")]
    mounts_token: Option<bool>,
    #[serde(borrow, default, rename = "imagePullSecrets")]
    pull_secrets: Option<&'a RawValue>,
}

pub(super) fn mutate(request: &Request<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if !request.creates_pod() {
        return Ok(());
    }
    if !pod["metadata"]["annotations"][MIRROR].is_null() {
        return check_mirror(request, pod);
    }
    let name = account_of(pod).to_string();
    let namespace = request.ctx.namespace.unwrap_or("");
    let Some(account) = request.ctx.caches.get(&SERVICE_ACCOUNT, request.ctx.namespace, &name) else {
        let why =
            format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        return Err(request.forbidden(&why));
    };
    let account: Account<'_> = serde_json::from_slice(account.stored_bytes()).map_err(ApiError::internal)?;
    if !pod["spec"].is_object() {
        // Validation will say so.
        return Ok(());
    }
    pod["spec"]["serviceAccountName"] = json!(name);
    pod["spec"]["serviceAccount"] = json!(name);
    let wanted = pod["spec"]["automountServiceAccountToken"].as_bool().or(account.mounts_token);
    if wanted.unwrap_or(true) {
        mount(pod);
    }
    if let Some(secrets) = account.pull_secrets
        && items(pod, "spec.imagePullSecrets").is_empty()
    {
        let secrets: Vec<Value> = serde_json::from_str(secrets.get()).map_err(ApiError::internal)?;
        if !secrets.is_empty() {
            pod["spec"]["imagePullSecrets"] = Value::Array(secrets);
        }
    }
    Ok(())
}

/// How many bytes of its account a new pod brings along: they are read, and some are copied into the pod.
pub(super) fn weight(request: &Request<'_>, pod: &Value) -> usize {
    if !request.creates_pod() {
        return 0;
    }
    let account = request.ctx.caches.get(&SERVICE_ACCOUNT, request.ctx.namespace, account_of(pod));
    account.map_or(0, |account| account.stored_bytes().len())
}

fn account_of(pod: &Value) -> &str {
    match text(pod, "spec.serviceAccountName") {
        "" => "default",
        named => named,
    }
}

/// The mirror of a manifest on a node runs without an account.
fn check_mirror(request: &Request<'_>, pod: &Value) -> Result<(), ApiError> {
    if !text(pod, "spec.serviceAccountName").is_empty() {
        return Err(request.forbidden("a mirror pod may not reference service accounts"));
    }
    let token = |volume: &Value| {
        items(volume, "projected.sources").iter().any(|source| !source["serviceAccountToken"].is_null())
    };
    if items(pod, "spec.volumes").iter().any(token) {
        return Err(request.forbidden("a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

/// Mounts the token where nothing is mounted yet; the volume is added if anything needs it.
fn mount(pod: &mut Value) {
    let known = items(pod, "spec.volumes").iter().map(|volume| text(volume, "name"));
    let known = known.into_iter().find(|name| name.starts_with(VOLUME_PREFIX)).map(str::to_string);
    let exists = known.is_some();
    let volume = known.unwrap_or_else(|| names::generate(VOLUME_PREFIX));
    let mut needed = false;
    for list in ["containers", "initContainers"] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if items(container, "volumeMounts").iter().any(|mount| text(mount, "mountPath") == MOUNT_PATH) {
                continue;
            }
            let Some(container) = container.as_object_mut() else { continue };
            let mount = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
            match container.get_mut("volumeMounts").and_then(Value::as_array_mut) {
                Some(mounts) => mounts.push(mount),
                None => {
                    container.insert("volumeMounts".into(), json!([mount]));
                }
            }
            needed = true;
        }
    }
    if needed && !exists {
        let volume = token_volume(&volume);
        match pod["spec"].get_mut("volumes").and_then(Value::as_array_mut) {
            Some(volumes) => volumes.push(volume),
            None => pod["spec"]["volumes"] = json!([volume]),
        }
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
        ]}},
    ]}})
}
