//! The annotation that remembers what was applied.

use serde_json::{Value, json};

use crate::error::Result;
use crate::output::json::compact;

pub(crate) const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What was applied last, if the object remembers it.
pub(crate) fn read(object: &Value) -> Option<Value> {
    serde_json::from_str(object["metadata"]["annotations"][ANNOTATION].as_str()?).ok()
}

/// Takes the annotation away; a map of annotations is there then, as an apply would make one.
pub(crate) fn forget(object: &mut Value) {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    if !object["metadata"]["annotations"].is_object() {
        object["metadata"]["annotations"] = json!({});
    }
    let annotations = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    if let Some(annotations) = annotations {
        annotations.remove(ANNOTATION);
    }
}

/// Makes the object remember itself as it is now.
pub(crate) fn annotate(object: &mut Value) -> Result<()> {
    forget(object);
    let own = compact(object) + "\n";
    object["metadata"]["annotations"][ANNOTATION] = Value::String(own);
    Ok(())
}
