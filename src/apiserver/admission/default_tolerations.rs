//! DefaultTolerationSeconds: a pod stays five minutes on a node that is gone before it is evicted, unless it
//! says else. Updates count too: clients send lists of tolerations without the two that were filled in.

use api::json::{items, text};
use serde_json::{Value, json};

use super::request::{Operation, Request};

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const SECONDS: i64 = 300;

pub(super) fn mutate(request: &Request<'_>, pod: &mut Value) {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if !writes || !request.is("", "pods", None) || !pod["spec"].is_object() {
        return;
    }
    let own = items(pod, "spec.tolerations");
    let covers = |toleration: &Value, taint: &str| {
        let (key, effect) = (text(toleration, "key"), text(toleration, "effect"));
        (key.is_empty() || key == taint) && matches!(effect, "" | "NoExecute")
    };
    let missing = TAINTS.iter().filter(|taint| !own.iter().any(|toleration| covers(toleration, taint)));
    let added: Vec<Value> = missing
        .map(|taint| json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}))
        .collect();
    if added.is_empty() {
        return;
    }
    match pod["spec"].get_mut("tolerations").and_then(Value::as_array_mut) {
        Some(tolerations) => tolerations.extend(added),
        None => pod["spec"]["tolerations"] = Value::Array(added),
    }
}
