//! The `scale` subresource: `autoscaling/v1` Scale as a view of an object's replicas, found where the kind has them.

use std::sync::Arc;

use api::{ApiError, FieldError, LabelSelector, Object, UpdateOptions, patch, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta_v1;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::read::parse_version;
use super::{Call, Registry, Source, meta, meta_str};

pub(crate) const GROUP: &str = "autoscaling";
pub(crate) const VERSION: &str = "v1";
pub(crate) const KIND: &str = "Scale";

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
    fn set(&self, tree: &mut Value, value: Value) {
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

    fn selector(&self, tree: &Value) -> String {
        self.selector.as_ref().map_or(String::new(), |path| selector(path.get(tree)))
    }
}

impl Registry {
    pub(super) async fn get_scale(
        &self,
        call: &Call<'_>,
        paths: &ScalePaths,
        name: &str,
        version: Option<&str>,
    ) -> Result<Arc<Object>, ApiError> {
        self.reach(parse_version(version)?).await?;
        let entry = self.find(call, name)?;
        let tree = call.resource.outward_tree(&entry.object).await?;
        view(paths, &tree, entry.object.resource_version())
    }

    pub(super) async fn update_scale(
        &self,
        call: &Call<'_>,
        paths: &ScalePaths,
        name: &str,
        mut source: Source<'_>,
        options: &UpdateOptions,
    ) -> Result<Arc<Object>, ApiError> {
        if let Source::Body(scale, _) = &mut source {
            // What is no Scale must not count as one of no replicas.
            super::body::check_kind(&scale_row(), scale)?;
            call.warn(schema::check_kind(GROUP, VERSION, KIND, scale, &[], options.field_validation)?);
        }
        let change = |tree: &mut Value| -> Result<(), ApiError> {
            let scale = match &source {
                Source::Body(scale, _) => scale.clone(),
                Source::Patch(change) => {
                    let version = meta_str(tree, "resourceVersion").parse().unwrap_or(0);
                    let mut scale = view(paths, tree, version)?.tree().map_err(ApiError::internal)?;
                    patch::apply(schema::for_gvk(GROUP, VERSION, KIND), &mut scale, change)?;
                    schema::check_kind(GROUP, VERSION, KIND, &mut scale, &[], options.field_validation)?;
                    scale
                }
                Source::Change(_) => return Err(super::not_allowed()),
            };
            apply(call, paths, name, &scale, tree)
        };
        let mut whole = Call::new(&call.resource, call.namespace, call.user)
            .dry(call.dry_run)
            .by_agent(call.agent.clone())
            .fenced(call.fence);
        whole.scales = Some(paths);
        let object = self.update(&whole, name, Source::Change(&change), options).await?;
        call.warn(whole.take_warnings());
        view(paths, &object.tree().map_err(ApiError::internal)?, object.resource_version())
    }
}

/// Writes what a Scale says into the object.
fn apply(
    call: &Call<'_>,
    paths: &ScalePaths,
    name: &str,
    scale: &Value,
    tree: &mut Value,
) -> Result<(), ApiError> {
    let given = meta_str(scale, "name");
    if !given.is_empty() && given != name {
        let message = format!("the name of the object ({given}) does not match the name on the URL ({name})");
        return Err(ApiError::bad_request(message));
    }
    for field in ["resourceVersion", "uid"] {
        let wanted = meta_str(scale, field);
        if !wanted.is_empty() && wanted != meta_str(tree, field) {
            return Err(ApiError::modified(call.row(), name));
        }
    }
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let fault = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(ApiError::invalid(&scale_row(), name, vec![fault]));
    }
    paths.spec_replicas.set(tree, json!(replicas));
    Ok(())
}

fn scale_row() -> api::KindRow {
    let row = api::kinds::BINDING.clone();
    api::KindRow {
        group: GROUP.into(),
        version: VERSION.into(),
        kind: KIND.into(),
        plural: "scales".into(),
        ..row
    }
}

fn view(paths: &ScalePaths, tree: &Value, version: u64) -> Result<Arc<Object>, ApiError> {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        let value = meta(tree, field);
        if !value.is_null() {
            metadata.insert(field.into(), value.clone());
        }
    }
    let mut spec = Map::new();
    if let Some(replicas) = paths.spec_replicas.get(tree).as_i64().filter(|replicas| *replicas != 0) {
        spec.insert("replicas".into(), json!(replicas));
    }
    let mut status = Map::new();
    status.insert("replicas".into(), json!(paths.status_replicas.get(tree).as_i64().unwrap_or(0)));
    let selector = paths.selector(tree);
    if !selector.is_empty() {
        status.insert("selector".into(), json!(selector));
    }
    let scale = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": KIND,
        "metadata": metadata, "spec": spec, "status": status,
    });
    Object::from_tree(scale, version).map(Arc::new).map_err(ApiError::internal)
}

/// A selector in its text form: a LabelSelector, a plain map as replication controllers have it, or text already.
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
