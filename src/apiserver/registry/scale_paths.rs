//! Where a kind has the parts of its Scale.

use api::LabelSelector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta_v1;
use serde::Deserialize;
use serde_json::{Value, json};

/// Where the parts of a Scale are in an object.
pub(crate) struct ScalePaths {
    pub(crate) spec_replicas: FieldPath,
    pub(crate) status_replicas: FieldPath,
    /// A LabelSelector, a plain map of labels, or the text form of either.
    pub(crate) selector: Option<FieldPath>,
}

/// A path of member names: `spec.replicas`.
pub(crate) struct FieldPath(Vec<String>);

impl FieldPath {
    /// From names joined by dots.
    pub(crate) fn parse(text: &str) -> Self {
        FieldPath(text.split('.').filter(|step| !step.is_empty()).map(str::to_string).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn steps(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    pub(super) fn get<'a>(&self, tree: &'a Value) -> &'a Value {
        self.0.iter().fold(tree, |at, step| &at[step.as_str()])
    }

    /// Sets the value, making the objects on the way; nothing if something else is in the way.
    pub(super) fn set(&self, tree: &mut Value, value: Value) {
        let Some((last, way)) = self.0.split_last() else { return };
        let mut at = tree;
        for step in way {
            let Some(members) = at.as_object_mut() else { return };
            at = members.entry(step.as_str()).or_insert_with(|| json!({}));
        }
        if let Some(members) = at.as_object_mut() {
            members.insert(last.clone(), value);
        }
    }
}

impl ScalePaths {
    /// Those of every built-in kind.
    pub(crate) fn usual() -> Self {
        ScalePaths {
            spec_replicas: FieldPath::parse("spec.replicas"),
            status_replicas: FieldPath::parse("status.replicas"),
            selector: Some(FieldPath::parse("spec.selector")),
        }
    }

    pub(super) fn selector(&self, tree: &Value) -> String {
        self.selector.as_ref().map_or(String::new(), |path| selector(path.get(tree)))
    }
}

/// A selector in its text form: a LabelSelector, a plain map as replication controllers have it, or text
/// already.
fn selector(value: &Value) -> String {
    if let Some(text) = value.as_str() {
        return text.to_string();
    }
    if value.get("matchLabels").is_some() || value.get("matchExpressions").is_some() {
        let selector = meta_v1::LabelSelector::deserialize(value).ok();
        return LabelSelector::from_meta(selector.as_ref()).to_string();
    }
    let map = std::collections::BTreeMap::<String, String>::deserialize(value).unwrap_or_default();
    LabelSelector::from_map(&map).to_string()
}
