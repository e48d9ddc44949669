//! The entries of a kustomization: patches, images, generators, replacements and so on.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::decode::{Place, same};
use super::super::error::Built;
use super::super::ids::{Gvk, ResId, split_api_version};
use super::super::selector::Selector;
use super::super::specs::FieldSpec;

type Pairs = BTreeMap<String, String>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Label {
    pub(crate) pairs: Pairs,
    pub(crate) include_selectors: bool,
    pub(crate) include_templates: bool,
    pub(crate) fields: Vec<FieldSpec>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Patch {
    pub(crate) path: String,
    pub(crate) patch: String,
    pub(crate) target: Option<Selector>,
    pub(crate) allow_name_change: bool,
    pub(crate) allow_kind_change: bool,
    /// As it was written, for messages.
    pub(crate) written: Value,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) new_name: String,
    pub(crate) tag_suffix: String,
    pub(crate) new_tag: String,
    pub(crate) digest: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) count: i64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct GeneratorOptions {
    pub(crate) labels: Pairs,
    pub(crate) annotations: Pairs,
    pub(crate) disable_name_suffix_hash: bool,
    pub(crate) immutable: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct GeneratorArgs {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) behavior: String,
    pub(crate) literals: Vec<String>,
    pub(crate) files: Vec<String>,
    pub(crate) envs: Vec<String>,
    pub(crate) options: Option<GeneratorOptions>,
    /// Of secrets.
    pub(crate) secret_type: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Var {
    pub(crate) name: String,
    pub(crate) object: ResId,
    pub(crate) field_path: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct SortOptions {
    pub(crate) order: String,
    /// Kinds that come first, and those that come last.
    pub(crate) legacy: Option<(Vec<String>, Vec<String>)>,
}

const FIELD_SPEC: [(&str, &str); 5] = [
    ("group", "Gvk.group"),
    ("version", "Gvk.version"),
    ("kind", "Gvk.kind"),
    ("path", "path"),
    ("create", "create"),
];

impl FieldSpec {
    pub(crate) fn decode(value: &Value, place: Place<'_>) -> Built<Self> {
        let mut read = FieldSpec::default();
        let place = place.in_structure("FieldSpec");
        place.members(value, "types.FieldSpec", &FIELD_SPEC, &mut |name, value, place| {
            match name {
                "group" => read.gvk.group = place.text(value)?,
                "version" => read.gvk.version = place.text(value)?,
                "kind" => read.gvk.kind = place.text(value)?,
                "path" => read.path = place.text(value)?,
                _ => read.create = place.flag(value)?,
            }
            Ok(())
        })?;
        Ok(read)
    }

    pub(crate) fn decode_all(value: &Value, place: Place<'_>) -> Built<Vec<Self>> {
        place.list(value, "[]types.FieldSpec", |one| FieldSpec::decode(one, place))
    }
}

impl Label {
    pub(crate) fn decode(value: &Value, place: Place<'_>) -> Built<Self> {
        let known = same(["pairs", "includeSelectors", "includeTemplates", "fields"]);
        let mut read = Label::default();
        place.in_structure("Label").members(value, "types.Label", &known, &mut |name, value, place| {
            match name {
                "pairs" => read.pairs = place.pairs(value)?,
                "includeSelectors" => read.include_selectors = place.flag(value)?,
                "includeTemplates" => read.include_templates = place.flag(value)?,
                _ => read.fields = FieldSpec::decode_all(value, place)?,
            }
            Ok(())
        })?;
        Ok(read)
    }
}

const SELECTOR: [(&str, &str); 7] = [
    ("group", "ResId.Gvk.group"),
    ("version", "ResId.Gvk.version"),
    ("kind", "ResId.Gvk.kind"),
    ("name", "ResId.name"),
    ("namespace", "ResId.namespace"),
    ("annotationSelector", "annotationSelector"),
    ("labelSelector", "labelSelector"),
];

impl Selector {
    pub(crate) fn decode(value: &Value, place: Place<'_>) -> Built<Self> {
        let mut read = Selector::default();
        let place = place.in_structure("Selector");
        place.members(value, "types.Selector", &SELECTOR, &mut |name, value, place| {
            let text = place.text(value)?;
            match name {
                "group" => read.id.gvk.group = text,
                "version" => read.id.gvk.version = text,
                "kind" => read.id.gvk.kind = text,
                "name" => read.id.name = text,
                "namespace" => read.id.namespace = text,
                "annotationSelector" => read.annotations = text,
                _ => read.labels = text,
            }
            Ok(())
        })?;
        Ok(read)
    }
}

impl Patch {
    pub(crate) fn decode(value: &Value, place: Place<'_>) -> Built<Self> {
        let known = same(["path", "patch", "target", "options"]);
        let mut read = Patch { written: value.clone(), ..Patch::default() };
        place.in_structure("Patch").members(value, "types.Patch", &known, &mut |name, value, place| {
            match name {
                "path" => read.path = place.text(value)?,
                "patch" => read.patch = place.text(value)?,
                "target" => read.target = Some(Selector::decode(value, place)?),
                _ => {
                    let known = same(["allowNameChange", "allowKindChange"]);
                    let place = place.in_structure("PatchArgs");
                    place.members(value, "types.PatchArgs", &known, &mut |name, value, place| {
                        match name {
                            "allowNameChange" => read.allow_name_change = place.flag(value)?,
                            _ => read.allow_kind_change = place.flag(value)?,
                        }
                        Ok(())
                    })?;
                }
            }
            Ok(())
        })?;
        Ok(read)
    }
}

impl Image {
    pub(crate) fn decode(value: &Value, place: Place<'_>) -> Built<Self> {
        let known = same(["name", "newName", "tagSuffix", "newTag", "digest"]);
        let mut read = Image::default();
        place.in_structure("Image").members(value, "types.Image", &known, &mut |name, value, place| {
            let text = place.text(value)?;
            match name {
                "name" => read.name = text,
                "newName" => read.new_name = text,
                "tagSuffix" => read.tag_suffix = text,
                "newTag" => read.new_tag = text,
                _ => read.digest = text,
            }
            Ok(())
        })?;
        Ok(read)
    }
}

impl Replica {
    pub(crate) fn decode(value: &Value, place: Place<'_>) -> Built<Self> {
        let mut read = Replica::default();
        let known = same(["name", "count"]);
        place.in_structure("Replica").members(
            value,
            "types.Replica",
            &known,
            &mut |name, value, place| {
                match name {
                    "name" => read.name = place.text(value)?,
                    _ => read.count = place.integer(value, "int64")?,
                }
                Ok(())
            },
        )?;
        Ok(read)
    }
}

impl GeneratorOptions {
    pub(crate) fn decode(value: &Value, place: Place<'_>) -> Built<Self> {
        let known = same(["labels", "annotations", "disableNameSuffixHash", "immutable"]);
        let mut read = GeneratorOptions::default();
        let place = place.in_structure("GeneratorOptions");
        place.members(value, "types.GeneratorOptions", &known, &mut |name, value, place| {
            match name {
                "labels" => read.labels = place.pairs(value)?,
                "annotations" => read.annotations = place.pairs(value)?,
                "disableNameSuffixHash" => read.disable_name_suffix_hash = place.flag(value)?,
                _ => read.immutable = place.flag(value)?,
            }
            Ok(())
        })?;
        Ok(read)
    }

    /// The options of one generator with those of the whole file, which stand behind.
    pub(crate) fn with_global(own: Option<Self>, global: Option<&Self>) -> Option<Self> {
        let Some(global) = global else { return own };
        let mut own = own.unwrap_or_default();
        for (key, value) in &global.labels {
            own.labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        for (key, value) in &global.annotations {
            own.annotations.entry(key.clone()).or_insert_with(|| value.clone());
        }
        own.disable_name_suffix_hash |= global.disable_name_suffix_hash;
        own.immutable |= global.immutable;
        Some(own)
    }
}

const GENERATOR: [(&str, &str); 10] = [
    ("namespace", "GeneratorArgs.namespace"),
    ("name", "GeneratorArgs.name"),
    ("behavior", "GeneratorArgs.behavior"),
    ("literals", "GeneratorArgs.KvPairSources.literals"),
    ("files", "GeneratorArgs.KvPairSources.files"),
    ("envs", "GeneratorArgs.KvPairSources.envs"),
    ("env", "GeneratorArgs.KvPairSources.env"),
    ("options", "GeneratorArgs.options"),
    ("type", "type"),
    ("metadata", "metadata"),
];

impl GeneratorArgs {
    pub(crate) fn decode(value: &Value, place: Place<'_>) -> Built<Self> {
        let mut read = GeneratorArgs::default();
        let mut env = String::new();
        // Only secrets have a type, and only generators in files of their own have metadata.
        let known = match (place.is_of("SecretArgs"), place.is_lenient()) {
            (_, true) => &GENERATOR[..],
            (true, false) => &GENERATOR[..9],
            (false, false) => &GENERATOR[..8],
        };
        let ty = if place.is_of("SecretArgs") { "types.SecretArgs" } else { "types.ConfigMapArgs" };
        place.members(value, ty, known, &mut |name, value, place| {
            match name {
                "namespace" => read.namespace = place.text(value)?,
                "name" => read.name = place.text(value)?,
                "behavior" => read.behavior = place.text(value)?,
                "literals" => read.literals = place.texts(value)?,
                "files" => read.files = place.texts(value)?,
                "envs" => read.envs = place.texts(value)?,
                "env" => env = place.text(value)?,
                "options" => read.options = Some(GeneratorOptions::decode(value, place)?),
                "type" => read.secret_type = place.text(value)?,
                _ => {}
            }
            Ok(())
        })?;
        if !env.is_empty() {
            read.envs.push(env);
        }
        let own = |field: &mut String, name: &str| {
            if field.is_empty() {
                *field = value["metadata"][name].as_str().unwrap_or_default().to_string();
            }
        };
        own(&mut read.name, "name");
        own(&mut read.namespace, "namespace");
        Ok(read)
    }
}

impl Var {
    pub(crate) fn decode(value: &Value, place: Place<'_>) -> Built<Self> {
        let mut read = Var { field_path: "metadata.name".to_string(), ..Var::default() };
        let known = same(["name", "objref", "fieldref"]);
        place.in_structure("Var").members(value, "types.Var", &known, &mut |name, value, place| {
            match name {
                "name" => read.name = place.text(value)?,
                "objref" => read.object = object_reference(value, place)?,
                _ => {
                    let known = same(["fieldPath"]);
                    let place = place.in_structure("FieldSelector");
                    place.members(value, "types.FieldSelector", &known, &mut |_, value, place| {
                        read.field_path = place.text(value)?;
                        Ok(())
                    })?;
                }
            }
            Ok(())
        })?;
        if read.field_path.is_empty() {
            read.field_path = "metadata.name".to_string();
        }
        Ok(read)
    }
}

const OBJECT_REFERENCE: [(&str, &str); 6] = [
    ("apiVersion", "apiVersion"),
    ("group", "Gvk.group"),
    ("version", "Gvk.version"),
    ("kind", "Gvk.kind"),
    ("name", "name"),
    ("namespace", "namespace"),
];

fn object_reference(value: &Value, place: Place<'_>) -> Built<ResId> {
    let mut read = ResId::default();
    let place = place.in_structure("Target");
    let mut api_version = String::new();
    place.members(value, "types.Target", &OBJECT_REFERENCE, &mut |name, value, place| {
        let text = place.text(value)?;
        match name {
            "apiVersion" => api_version = text,
            "group" => read.gvk.group = text,
            "version" => read.gvk.version = text,
            "kind" => read.gvk.kind = text,
            "name" => read.name = text,
            _ => read.namespace = text,
        }
        Ok(())
    })?;
    if !api_version.is_empty() {
        let (group, version) = split_api_version(&api_version);
        let kind = std::mem::take(&mut read.gvk.kind);
        let group = if api_version.contains('/') { group.to_string() } else { read.gvk.group };
        read.gvk = Gvk { group, version: version.to_string(), kind, is_cluster_scoped: false };
    }
    Ok(read)
}

impl SortOptions {
    pub(crate) fn decode(value: &Value, place: Place<'_>) -> Built<Self> {
        let mut read = SortOptions::default();
        let known = same(["order", "legacySortOptions"]);
        let place = place.in_structure("SortOptions");
        place.members(value, "types.SortOptions", &known, &mut |name, value, place| {
            if name == "order" {
                read.order = place.text(value)?;
                return Ok(());
            }
            let known = same(["orderFirst", "orderLast"]);
            let (mut first, mut last) = (Vec::new(), Vec::new());
            let place = place.in_structure("LegacySortOptions");
            place.members(value, "types.LegacySortOptions", &known, &mut |name, value, place| {
                let kinds = place.texts(value)?;
                if name == "orderFirst" {
                    first = kinds
                } else {
                    last = kinds
                }
                Ok(())
            })?;
            read.legacy = Some((first, last));
            Ok(())
        })?;
        Ok(read)
    }
}
