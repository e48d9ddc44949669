//! Patches: strategic merges and JSON patches (RFC 6902), for one object or for those that a selector finds.

use serde_json::Value;

use super::error::{BuildError, Built};
use super::kustomization::Patch;
use super::loader::Loader;
use super::node::Node;
use super::resource::{Resource, Resources};
use super::selector::Selector;
use super::{objects, parse};

/// One entry of `patches`.
pub(crate) struct PatchChange {
    kind: PatchKind,
    target: Option<Selector>,
    /// Where the text came from, for messages.
    source: String,
}

enum PatchKind {
    StrategicMerge(Vec<Resource>),
    Json(Value),
}

/// One entry of `patchesJson6902`.
pub(crate) struct JsonPatch {
    patch: Value,
    target: Selector,
}

/// A list of operations, in JSON or YAML.
fn operations(text: &str) -> Built<Value> {
    if text.is_empty() {
        return Err(BuildError::told("empty json patch operations"));
    }
    let value: Value = if text.starts_with('[') {
        serde_json::from_str(text).map_err(|error| BuildError::told(error.to_string()))?
    } else {
        let node = parse::document(text)?;
        node.map_or(Ok(Value::Null), |node| node.to_json())?
    };
    let is_list = value.as_array().is_some_and(|list| list.iter().all(Value::is_object));
    if is_list || value.is_null() {
        return Ok(value);
    }
    let found = if value.is_object() { "object" } else { "string" };
    Err(BuildError::told(format!("json: cannot unmarshal {found} into Go value of type jsonpatch.Patch")))
}

impl PatchChange {
    pub(crate) fn new(patch: &Patch, loader: &Loader) -> Built<Self> {
        let written = || crate::output::yaml::to_yaml(&patch.written);
        let inline = patch.patch.trim();
        let (text, source) = match (inline.is_empty(), patch.path.is_empty()) {
            (true, true) => {
                return Err(BuildError::told(format!(
                    "must specify one of patch and path in\n{}",
                    written()
                )));
            }
            (false, false) => {
                return Err(BuildError::told(format!(
                    "patch and path can't be set at the same time\n{}",
                    written()
                )));
            }
            (false, true) => (inline.to_string(), format!("[patch: {inline:?}]")),
            (true, false) => {
                let text = loader.load_text(&patch.path).map_err(|error| {
                    error.doing(format!("failed to get the patch file from path({})", patch.path))
                })?;
                (text, format!("[path: {:?}]", patch.path))
            }
        };
        let merges = objects::read(&text);
        let steps = operations(&text);
        let some_steps =
            steps.as_ref().is_ok_and(|steps| steps.as_array().is_some_and(|list| !list.is_empty()));
        let kind = match (merges, steps) {
            (Ok(merges), _) if !merges.is_empty() && some_steps => {
                return Err(BuildError::told(format!(
                    "illegally qualifies as both an SM and JSON patch: {source}"
                )));
            }
            (Ok(mut merges), _) => {
                for one in &mut merges {
                    one.allows_name_change = patch.allow_name_change;
                    one.allows_kind_change = patch.allow_kind_change;
                }
                PatchKind::StrategicMerge(merges)
            }
            (Err(_), Ok(steps)) => PatchKind::Json(steps),
            (Err(_), Err(_)) => {
                return Err(BuildError::told(format!("unable to parse SM or JSON patch from {source}")));
            }
        };
        Ok(PatchChange { kind, target: patch.target.clone(), source })
    }

    pub(crate) fn run(&self, resources: &mut Resources) -> Built<()> {
        match (&self.kind, &self.target) {
            (PatchKind::StrategicMerge(patches), Some(target)) => {
                if patches.len() > 1 {
                    return Err(BuildError::told(format!(
                        "Multiple Strategic-Merge Patches in one `patches` entry is not allowed to set `patches.target` field: {}",
                        self.source
                    )));
                }
                let Some(patch) = patches.first() else { return Ok(()) };
                let selected = resources.select(target).map_err(|error| {
                    error
                        .doing(format!("unable to find patch target {:?} in `resources`", target.to_string()))
                })?;
                resources.patch(&selected, patch)
            }
            (PatchKind::StrategicMerge(patches), None) => {
                for patch in patches {
                    let id = patch.original_id();
                    let target = resources.target_of(&id).map_err(|error| {
                        let id = id.to_string();
                        error.doing(format!("no resource matches strategic merge patch {id:?}"))
                    })?;
                    if !resources.0[target].patch(patch)? {
                        resources.0.remove(target);
                    }
                }
                Ok(())
            }
            (PatchKind::Json(Value::Null), _) => Ok(()),
            (PatchKind::Json(_), None) => {
                Err(BuildError::told(format!("must specify a target for JSON patch {}", self.source)))
            }
            (PatchKind::Json(steps), Some(target)) => {
                for at in resources.select(target)? {
                    resources.0[at].note_previous();
                    apply(steps, &mut resources.0[at])?;
                }
                Ok(())
            }
        }
    }
}

impl JsonPatch {
    pub(crate) fn new(patch: &Patch, loader: &Loader) -> Built<Self> {
        let told = |text: &str| Err(BuildError::told(text));
        let target = patch.target.clone().unwrap_or_default();
        if target.id.name.is_empty() {
            return told("must specify the target name");
        }
        let text = match (patch.path.is_empty(), patch.patch.is_empty()) {
            (true, true) => return told("empty file path and empty jsonOp"),
            (false, false) => return told("must specify a file path or jsonOp, not both"),
            (true, false) => patch.patch.clone(),
            (false, true) => {
                let text = loader.load_text(&patch.path)?;
                if text.is_empty() {
                    return Err(BuildError::told(format!(
                        "patch file '{}' empty seems to be empty",
                        patch.path
                    )));
                }
                text
            }
        };
        let steps = operations(&text).map_err(|error| error.doing(format!("decoding {text}")))?;
        if steps.as_array().is_none_or(Vec::is_empty) {
            return Err(BuildError::told(format!(
                "patch appears to be empty; file={}, JsonOp={text}",
                patch.path
            )));
        }
        Ok(JsonPatch { patch: steps, target })
    }

    pub(crate) fn run(&self, resources: &mut Resources) -> Built<()> {
        for at in resources.select(&self.target)? {
            apply(&self.patch, &mut resources.0[at])?;
        }
        Ok(())
    }
}

fn apply(steps: &Value, resource: &mut Resource) -> Built<()> {
    let mut tree = resource.node.to_json()?;
    api::patch::json_patch(&mut tree, steps).map_err(|error| {
        BuildError::told(match error {
            api::patch::PatchError::Rejected(why) | api::patch::PatchError::Spent(why) => why,
            other => other.to_string(),
        })
    })?;
    resource.node = Node::from_json(&tree);
    Ok(())
}

/// The patches of `patchesStrategicMerge`: each a text, or the name of a file with some.
pub(crate) fn strategic_merges(entries: &[String], loader: &Loader) -> Built<Vec<Resource>> {
    let mut patches = Vec::new();
    for entry in entries {
        if let Ok(inline) = objects::read(entry) {
            patches.extend(inline);
            continue;
        }
        let text = loader.load_text(entry)?;
        patches.extend(objects::read(&text).map_err(|error| error.in_file(entry))?);
    }
    if patches.is_empty() {
        return Err(BuildError::told(format!(
            "patch appears to be empty; files=[{}], Patch=",
            entries.join(" ")
        )));
    }
    Ok(patches)
}
