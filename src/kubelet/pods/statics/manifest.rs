//! A static pod from its manifest, and the mirror that the API shows of it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::Path;

use api::kinds::POD;
use api::schema::{BuiltIn, Schema};
use api::{ApiError, FieldValidation, Kinded};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::HASH;
use crate::files;
use crate::spec::{MIRROR, PodExt, SOURCE};

/// The largest manifest that is read.
const LARGEST: u64 = 1024 * 1024;

/// Why a manifest is no pod that can be run here.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestError {
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("it is larger than 1 MiB")]
    TooLarge,
    #[error("{}", .0.message())]
    Form(#[from] ApiError),
    #[error("it is a {0:?} of {1:?}, not a v1 Pod")]
    Kind(String, String),
    #[error("{0}")]
    Type(#[from] serde_json::Error),
    #[error("metadata.name: Required value")]
    NoName,
    #[error("spec.containers: Required value")]
    NoContainers,
    #[error("static pods may not reference {0}")]
    Reference(&'static str),
    #[error("its defaults take too much room")]
    Defaults,
}

pub(super) fn read(path: &Path, node: &str) -> Result<Pod, ManifestError> {
    // A link may lead to where the manifests really are.
    let bytes = files::read_bounded(path, LARGEST)?.ok_or(ManifestError::TooLarge)?;
    parse(&bytes, &path.to_string_lossy(), node)
}

/// A manifest's pod with the API's defaults and what makes it this node's.
pub(super) fn parse(bytes: &[u8], source: &str, node: &str) -> Result<Pod, ManifestError> {
    let (mut tree, duplicates) = api::schema::decode_yaml(bytes)?;
    let (version, kind) = (api::json::text(&tree, "apiVersion"), api::json::text(&tree, "kind"));
    if (version, kind) != ("v1", "Pod") {
        return Err(ManifestError::Kind(kind.to_string(), version.to_string()));
    }
    let schema = BuiltIn::of(&POD);
    schema.check(&mut tree, &duplicates, FieldValidation::Strict)?;
    if let Some(object) = tree.as_object_mut() {
        object.remove("status");
    }
    // Of an object that was once read from the API. The version would tell that this one comes from there.
    if let Some(metadata) = tree.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    let given = api::json::text(&tree, "metadata.name");
    if given.is_empty() {
        return Err(ManifestError::NoName);
    }
    if api::json::items(&tree, "spec.containers").is_empty() {
        return Err(ManifestError::NoContainers);
    }
    let name = format!("{given}-{}", node.to_lowercase());
    let uid = match api::json::text(&tree, "metadata.uid") {
        "" => identity(&tree, source, node),
        own => own.to_string(),
    };
    let metadata = &mut tree["metadata"];
    metadata["name"] = json!(name);
    metadata["uid"] = json!(uid);
    if metadata["namespace"].as_str().is_none_or(str::is_empty) {
        metadata["namespace"] = json!("default");
    }
    metadata["annotations"][HASH] = json!(uid);
    metadata["annotations"][SOURCE] = json!("file");
    let spec = &mut tree["spec"];
    spec["nodeName"] = json!(node);
    // It runs whatever is said of the node.
    let toleration = json!({"operator": "Exists", "effect": "NoExecute"});
    match spec["tolerations"].as_array_mut() {
        Some(list) => list.push(toleration),
        None => spec["tolerations"] = json!([toleration]),
    }
    schema.default(&mut tree).map_err(|_| ManifestError::Defaults)?;
    refuse_references(&tree)?;
    Ok(Pod::from_tree(&tree)?)
}

/// A uid that is another one whenever the manifest is.
fn identity(tree: &Value, source: &str, node: &str) -> String {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, tree.to_string(), source, node).hash(&mut hasher);
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(0), half(1))
}

/// What only the API could give.
fn refuse_references(tree: &Value) -> Result<(), ManifestError> {
    let spec = &tree["spec"];
    if !api::json::text(spec, "serviceAccountName").is_empty() {
        return Err(ManifestError::Reference("serviceaccounts"));
    }
    let lists = ["containers", "initContainers"].map(|list| api::json::items(spec, list));
    for container in lists.into_iter().flatten() {
        let sources = api::json::items(container, "envFrom").iter();
        let sources = sources.chain(api::json::items(container, "env").iter().map(|one| &one["valueFrom"]));
        for source in sources {
            if ["configMapRef", "configMapKeyRef"].iter().any(|name| !source[name].is_null()) {
                return Err(ManifestError::Reference("configmaps"));
            }
            if ["secretRef", "secretKeyRef"].iter().any(|name| !source[name].is_null()) {
                return Err(ManifestError::Reference("secrets"));
            }
        }
    }
    for volume in api::json::items(spec, "volumes") {
        let kinds = [
            ("configMap", "configmaps"),
            ("secret", "secrets"),
            ("persistentVolumeClaim", "persistentvolumeclaims"),
            ("projected", "projected volumes"),
        ];
        if let Some((_, what)) = kinds.into_iter().find(|(field, _)| !volume[*field].is_null()) {
            return Err(ManifestError::Reference(what));
        }
    }
    Ok(())
}

/// What the API is to show of a static pod.
pub(super) fn mirror(pod: &Pod, node: &Node) -> Pod {
    let mut mirror = pod.clone();
    let metadata = &mut mirror.metadata;
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(MIRROR.to_string(), pod.uid().to_string());
    metadata.uid = None;
    metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_string(),
        kind: "Node".to_string(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    }]);
    mirror.status = None;
    mirror
}
