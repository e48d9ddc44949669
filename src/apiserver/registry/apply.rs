//! Server-side apply: the verb. What becomes of object and owners is decided in `api::apply`; here are the
//! present object, the other versions of its kind, and the write, which is that of every update or creation.

use std::sync::Arc;

use api::apply::{self, Applied, BoxFuture, Change, Versions};
use api::managed::{self, Author, Entry, Reset};
use api::schema::{self, Place};
use api::{ApiError, CreateOptions, FieldValidation, Object, Patch, UpdateOptions};
use serde_json::Value;

use super::managed::Owners;
use super::request_options::RequestOptions;
use super::scale::{self, GROUP, KIND, VERSION};
use super::scale_paths::ScalePaths;
use super::update::{ATTEMPTS, Attempt, Current, Writer, check_name};
use super::{Call, Registry, Resource, body, meta_str, metadata};

#[cfg(test)]
mod tests;

/// `apiVersion` of a Scale.
const SCALE: &str = "autoscaling/v1";

impl Registry {
    /// Applies a configuration to an object or to a part of it, or creates the object.
    pub(super) async fn apply(
        &self,
        call: &Call<'_>,
        name: &str,
        patch: &Patch,
        options: &UpdateOptions,
    ) -> Result<Arc<Object>, ApiError> {
        for _ in 0..ATTEMPTS {
            call.note_options(RequestOptions::Patch(options.clone()));
            let Some(entry) = self.present(call, name)? else {
                match self.apply_to_nothing(call, name, patch, options).await {
                    Err(error) if error.is_already_exists() => continue,
                    done => return done,
                }
            };
            let mut tree = call.resource.outward_bare_tree(&entry.object).await?;
            let pruned = call.resource.schema.prune(&mut tree);
            let current = Current { entry, tree, pruned };
            call.take_warnings();
            let (mut new, owners) = self.applied(call, Some(&current), patch, options).await?;
            body::decode(call, &self.context(call), &mut new, &[], options.field_validation)?;
            check_name(&new, name)?;
            self.expect(call, name, &current, &mut new)?;
            if let Attempt::Done(object) =
                self.replace(call, name, &current, new, Writer::Applied(owners)).await?
            {
                return Ok(object);
            }
        }
        Err(ApiError::modified(call.row(), name))
    }

    /// Creates the object as the configuration has it.
    async fn apply_to_nothing(
        &self,
        call: &Call<'_>,
        name: &str,
        patch: &Patch,
        options: &UpdateOptions,
    ) -> Result<Arc<Object>, ApiError> {
        if call.subresource.is_some() {
            return Err(ApiError::not_found(call.row(), name));
        }
        call.take_warnings();
        let (mut new, owners) = self.applied(call, None, patch, options).await?;
        let uid = meta_str(&new, "uid");
        if !uid.is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(ApiError::conflict(call.row(), name, &why));
        }
        check_name(&new, name)?;
        // Permission to patch is no permission to create.
        self.authorize(call, "create", Some(name), None)?;
        if let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
        }
        let options = CreateOptions {
            dry_run: options.dry_run,
            field_manager: options.field_manager.clone(),
            field_validation: options.field_validation,
        };
        let object = self.create_owned(call, (new, &[]), &options, Some(owners)).await?;
        call.note_created();
        Ok(object)
    }

    /// What the object becomes, before the server has its say, and who owns what of it.
    async fn applied(
        &self,
        call: &Call<'_>,
        current: Option<&Current>,
        patch: &Patch,
        options: &UpdateOptions,
    ) -> Result<(Value, Owners), ApiError> {
        let manager = manager(options)?;
        let resource = &call.resource;
        apply::check(resource.schema.root(), &resource.version, &call.row().kind, &patch.body)?;
        let kept = current.and_then(|current| current.entry.object.managed_fields());
        let entries = entries(kept.as_deref());
        let now = metadata::time(self.context(call).now);
        let author = Author {
            manager,
            api_version: &resource.version,
            subresource: call.subresource.unwrap_or(""),
            now: &now,
        };
        let reset = super::managed::reset_of(call);
        let change = Change { author: &author, reset: &reset, force: options.force };
        let served = Served::of(self, call, &entries);
        let live = current.map_or(&Value::Null, |current| &current.tree);
        let Applied { mut tree, entries, effect } =
            apply::apply(&served, &change, live, &patch.body, entries).await?;
        tell_duplicates(call, patch, options.field_validation)?;
        super::managed::take(&mut tree);
        Ok((tree, Owners::applied(&entries, effect, kept)))
    }

    /// Applies a Scale: its replicas are those of the object.
    pub(super) async fn apply_scale(
        &self,
        call: &Call<'_>,
        paths: &ScalePaths,
        name: &str,
        patch: &Patch,
        options: &UpdateOptions,
    ) -> Result<Arc<Object>, ApiError> {
        let manager = manager(options)?;
        let root = Place::from(schema::for_gvk(GROUP, VERSION, KIND));
        let whole = scale::whole(call, paths);
        let path = paths.spec_replicas.steps();
        for _ in 0..ATTEMPTS {
            let entry = self.find(call, name)?;
            let tree = call.resource.outward_bare_tree(&entry.object).await?;
            apply::check(root, SCALE, KIND, &patch.body)?;
            let version = entry.object.resource_version();
            let live = scale::view(paths, &tree, version)?.tree().map_err(ApiError::internal)?;
            let mut owners = entries(entry.object.managed_fields().as_deref());
            let now = metadata::time(self.context(call).now);
            let author = Author { manager, api_version: SCALE, subresource: "scale", now: &now };
            let change = Change {
                author: &author,
                reset: &Reset::of(&scale::scale_row(), None, false),
                force: options.force,
            };
            let before = managed::scale_owners(&owners, &path, SCALE);
            let applied = apply::apply(&Scales(root), &change, &live, &patch.body, before).await?;
            tell_duplicates(call, patch, options.field_validation)?;
            let mut scale = applied.tree;
            schema::check_kind(GROUP, VERSION, KIND, &mut scale, &[], options.field_validation)?;
            let mut new = tree.clone();
            scale::write_into(call, paths, name, &scale, &mut new)?;
            managed::merge_scale_owners(&mut owners, applied.entries, &path, &call.resource.version);
            let kept = entry.object.managed_fields();
            let owners = Owners::applied(&owners, applied.effect, kept);
            let current = Current { entry, tree, pruned: false };
            let written = self.replace(&whole, name, &current, new, Writer::Applied(owners)).await?;
            if let Attempt::Done(object) = written {
                call.warn(whole.take_warnings());
                let tree = object.tree().map_err(ApiError::internal)?;
                return scale::view(paths, &tree, object.resource_version());
            }
        }
        Err(ApiError::modified(call.row(), name))
    }
}

fn manager(options: &UpdateOptions) -> Result<&str, ApiError> {
    let named = options.field_manager.as_deref().filter(|name| !name.is_empty());
    named.ok_or_else(|| {
        let fault = apply::manager_required();
        ApiError::new(422, "Invalid", format!("PatchOptions.meta.k8s.io \"\" is invalid: {fault}"))
    })
}

fn entries(json: Option<&[u8]>) -> Vec<Entry> {
    json.and_then(|json| managed::decode(json).ok()).unwrap_or_default()
}

/// Keys that the configuration has twice.
fn tell_duplicates(call: &Call<'_>, patch: &Patch, validation: FieldValidation) -> Result<(), ApiError> {
    if patch.duplicates.is_empty() || validation == FieldValidation::Ignore {
        return Ok(());
    }
    if validation == FieldValidation::Strict {
        let lines = patch.duplicates.join("\n  ");
        return Err(ApiError::bad_request(format!(
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {lines}"
        )));
    }
    call.warn(patch.duplicates.clone());
    Ok(())
}

/// The versions that entries of an object are in, as far as they are served.
struct Served<'a> {
    own: &'a Resource,
    others: Vec<Arc<Resource>>,
}

impl<'a> Served<'a> {
    fn of(registry: &Registry, call: &'a Call<'_>, entries: &[Entry]) -> Self {
        let own = &*call.resource;
        let mut others: Vec<Arc<Resource>> = Vec::new();
        for entry in entries {
            let version = &entry.api_version;
            if *version != own.version && others.iter().all(|other| other.version != *version) {
                others.extend(registry.sibling(call, version));
            }
        }
        Served { own, others }
    }

    fn find(&self, version: &str) -> Option<&Resource> {
        if self.own.version == version {
            return Some(self.own);
        }
        self.others.iter().map(|other| &**other).find(|other| other.version == version)
    }
}

impl Versions for Served<'_> {
    fn root(&self, version: &str) -> Option<Place<'_>> {
        self.find(version).map(|resource| resource.schema.root())
    }

    fn convert<'a>(
        &'a self,
        tree: &'a Value,
        from: &'a str,
        to: &'a str,
    ) -> BoxFuture<'a, Result<Value, ApiError>> {
        Box::pin(async move {
            match (self.find(from), self.find(to)) {
                (Some(from), Some(to)) => from.in_version(to, tree).await,
                _ => Err(ApiError::internal(format!("{from} or {to} is not served"))),
            }
        })
    }
}

/// The one version of Scales.
struct Scales(Place<'static>);

impl Versions for Scales {
    fn root(&self, version: &str) -> Option<Place<'_>> {
        (version == SCALE).then_some(self.0)
    }

    fn convert<'a>(
        &'a self,
        tree: &'a Value,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Value, ApiError>> {
        Box::pin(std::future::ready(Ok(tree.clone())))
    }
}
