//! The `scale` subresource: `autoscaling/v1` Scale as a view of an object's replicas, found where the kind
//! has them.

use std::sync::Arc;

use api::{ApiError, FieldError, Object, UpdateOptions, patch, schema};
use serde_json::{Map, Value, json};

use super::read::parse_version;
use super::scale_paths::ScalePaths;
use super::{Call, Registry, Source, meta, meta_str};

pub(crate) const GROUP: &str = "autoscaling";
pub(crate) const VERSION: &str = "v1";
pub(crate) const KIND: &str = "Scale";

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
            write_into(call, paths, name, &scale, tree)
        };
        // A Scale is a view: the write is one of the object, with its own validation and admission.
        let whole = whole(call, paths);
        let object = self.update(&whole, name, Source::Change(&change), options).await?;
        call.warn(whole.take_warnings());
        view(paths, &object.tree().map_err(ApiError::internal)?, object.resource_version())
    }
}

/// The call on the object itself by which its replicas are written.
pub(super) fn whole<'a>(call: &Call<'a>, paths: &'a ScalePaths) -> Call<'a> {
    let mut whole = Call::new(&call.resource, call.namespace, call.user)
        .dry(call.dry_run)
        .by_agent(call.agent.clone())
        .fenced(call.fence);
    whole.scales = Some(paths);
    whole
}

/// Writes what a Scale says into the object.
pub(super) fn write_into(
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
    // A Scale carries the version and uid of its object, so that a stale one is refused.
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

pub(super) fn scale_row() -> api::KindRow {
    let row = api::kinds::BINDING.clone();
    api::KindRow {
        group: GROUP.into(),
        version: VERSION.into(),
        kind: KIND.into(),
        plural: "scales".into(),
        ..row
    }
}

pub(super) fn view(paths: &ScalePaths, tree: &Value, version: u64) -> Result<Arc<Object>, ApiError> {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        let value = meta(tree, field);
        if !value.is_null() {
            metadata.insert(field.into(), value.clone());
        }
    }
    let mut spec = Map::new();
    // Go leaves a zero out, and clients compare what they get.
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
