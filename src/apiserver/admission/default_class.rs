//! DefaultStorageClass and DefaultIngressClass: claims and ingresses that name no class get the one that is
//! marked as the default, of several the newest.

use api::KindRow;
use api::ingress::{CLASS_ANNOTATION, IS_DEFAULT};
use api::json::text;
use api::kinds::{INGRESS_CLASS, STORAGE_CLASS};
use serde_json::{Value, json};

use super::request::{Operation, Request};

const STORAGE_MARKS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const INGRESS_MARKS: [&str; 1] = [IS_DEFAULT];
const BETA_STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// A claim with an empty class wants none; only one without any gets the default.
pub(super) fn of_claim(request: &Request<'_>, claim: &mut Value) {
    let creates = request.operation == Operation::Create && request.is("", "persistentvolumeclaims", None);
    let named = !claim["metadata"]["annotations"][BETA_STORAGE_CLASS].is_null()
        || !claim["spec"]["storageClassName"].is_null();
    if creates
        && !named
        && claim["spec"].is_object()
        && let Some(class) = default(request, &STORAGE_CLASS, &STORAGE_MARKS)
    {
        claim["spec"]["storageClassName"] = json!(class);
    }
}

pub(super) fn of_ingress(request: &Request<'_>, ingress: &mut Value) {
    let creates =
        request.operation == Operation::Create && request.is("networking.k8s.io", "ingresses", None);
    let named = !ingress["metadata"]["annotations"][CLASS_ANNOTATION].is_null()
        || !ingress["spec"]["ingressClassName"].is_null();
    if creates
        && !named
        && ingress["spec"].is_object()
        && let Some(class) = default(request, &INGRESS_CLASS, &INGRESS_MARKS)
    {
        ingress["spec"]["ingressClassName"] = json!(class);
    }
}

fn default(request: &Request<'_>, row: &KindRow, marks: &[&str]) -> Option<String> {
    let classes = request.ctx.caches.list(row, None);
    let trees = classes.iter().filter_map(|class| class.tree().ok());
    let marked =
        trees.filter(|class| marks.iter().any(|mark| class["metadata"]["annotations"][*mark] == "true"));
    let of = |class: &Value, field: &str| text(&class["metadata"], field).to_string();
    let newest = marked.min_by(|a, b| {
        let (older, newer) = (of(a, "creationTimestamp"), of(b, "creationTimestamp"));
        newer.cmp(&older).then_with(|| of(a, "name").cmp(&of(b, "name")))
    });
    newest.map(|class| of(&class, "name"))
}
