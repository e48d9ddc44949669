//! Defaults of autoscalers: what to measure where nothing is named, and how fast to go.

use serde_json::{Value, json};

use super::{Object, object, set};

/// Percentage of the requested processor time that pods are kept at where no metric is named.
const CPU_UTILIZATION: i32 = 80;

pub(super) fn spec(spec: &mut Object) {
    if spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        let target = json!({"type": "Utilization", "averageUtilization": CPU_UTILIZATION});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        spec.insert("metrics".into(), json!([metric]));
    }
}

/// An object that sets any of the behaviour gets the rest of the rules, for both directions. How long to look
/// back before going down is left to the controller's flag.
pub(super) fn behavior(behavior: &mut Object) {
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    if let Some(up) = object(behavior, "scaleUp") {
        set(up, "stabilizationWindowSeconds", || json!(0));
        set(up, "selectPolicy", || json!("Max"));
        set(up, "policies", || json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, percent]));
    }
    if let Some(down) = object(behavior, "scaleDown") {
        set(down, "selectPolicy", || json!("Max"));
        set(down, "policies", || json!([percent]));
    }
}
