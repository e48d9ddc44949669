//! When two pod templates are the same: as the API sees it, not as their bytes are.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

/// Absent and empty are the same to the API, so what differs as a structure may still be equal.
pub(crate) fn same(one: &PodTemplateSpec, other: &PodTemplateSpec) -> bool {
    one == other || pruned(one) == pruned(other)
}

fn pruned(template: &PodTemplateSpec) -> Option<Value> {
    let mut value = serde_json::to_value(template).ok()?;
    prune(&mut value);
    Some(value)
}

fn prune(value: &mut Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(map) => {
            map.retain(|_, value| prune(value));
            !map.is_empty()
        }
        Value::Array(list) => {
            list.iter_mut().for_each(|value| {
                prune(value);
            });
            !list.is_empty()
        }
        _ => true,
    }
}
