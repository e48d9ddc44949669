//! Replacements as a kustomization writes them: from where, to where, and which part.

use serde_json::Value;

use super::super::decode::{Place, same};
use super::super::error::Built;
use super::super::ids::ResId;
use super::super::selector::Selector;

#[derive(Clone, Debug, Default)]
pub(crate) struct FieldOptions {
    pub(crate) delimiter: String,
    pub(crate) index: i64,
    pub(crate) create: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    pub(crate) id: ResId,
    pub(crate) field_path: String,
    pub(crate) options: Option<FieldOptions>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Target {
    pub(crate) select: Option<Selector>,
    pub(crate) reject: Vec<Selector>,
    pub(crate) field_paths: Vec<String>,
    pub(crate) options: Option<FieldOptions>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Replacement {
    pub(crate) source: Option<Source>,
    pub(crate) source_value: Option<String>,
    pub(crate) targets: Option<Vec<Target>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ReplacementField {
    pub(crate) path: String,
    pub(crate) replacement: Replacement,
}

impl FieldOptions {
    pub(crate) fn decode(value: &Value, place: Place<'_>) -> Built<Self> {
        let known = same(["delimiter", "index", "encoding", "create"]);
        let mut read = FieldOptions::default();
        let place = place.in_structure("FieldOptions");
        place.members(value, "types.FieldOptions", &known, &mut |name, value, place| {
            match name {
                "delimiter" => read.delimiter = place.text(value)?,
                "index" => read.index = place.integer(value, "int")?,
                "encoding" => {
                    place.text(value)?;
                }
                _ => read.create = place.flag(value)?,
            }
            Ok(())
        })?;
        Ok(read)
    }
}

const SOURCE: [(&str, &str); 7] = [
    ("group", "ResId.Gvk.group"),
    ("version", "ResId.Gvk.version"),
    ("kind", "ResId.Gvk.kind"),
    ("name", "ResId.name"),
    ("namespace", "ResId.namespace"),
    ("fieldPath", "fieldPath"),
    ("options", "options"),
];

impl Source {
    pub(crate) fn decode(value: &Value, place: Place<'_>) -> Built<Self> {
        let mut read = Source::default();
        let place = place.in_structure("SourceSelector");
        place.members(value, "types.SourceSelector", &SOURCE, &mut |name, value, place| {
            match name {
                "group" => read.id.gvk.group = place.text(value)?,
                "version" => read.id.gvk.version = place.text(value)?,
                "kind" => read.id.gvk.kind = place.text(value)?,
                "name" => read.id.name = place.text(value)?,
                "namespace" => read.id.namespace = place.text(value)?,
                "fieldPath" => read.field_path = place.text(value)?,
                _ => read.options = Some(FieldOptions::decode(value, place)?),
            }
            Ok(())
        })?;
        Ok(read)
    }
}

impl Target {
    pub(crate) fn decode(value: &Value, place: Place<'_>) -> Built<Self> {
        let known = same(["select", "reject", "fieldPaths", "options"]);
        let mut read = Target::default();
        let place = place.in_structure("TargetSelector");
        place.members(value, "types.TargetSelector", &known, &mut |name, value, place| {
            match name {
                "select" => read.select = Some(Selector::decode(value, place)?),
                "reject" => {
                    read.reject =
                        place.list(value, "[]*types.Selector", |one| Selector::decode(one, place))?;
                }
                "fieldPaths" => read.field_paths = place.texts(value)?,
                _ => read.options = Some(FieldOptions::decode(value, place)?),
            }
            Ok(())
        })?;
        Ok(read)
    }
}

const REPLACEMENT: [(&str, &str); 4] = [
    ("source", "Replacement.source"),
    ("targets", "Replacement.targets"),
    ("sourceValue", "Replacement.sourceValue"),
    ("path", "path"),
];

impl ReplacementField {
    pub(crate) fn decode(value: &Value, place: Place<'_>) -> Built<Self> {
        let mut read = ReplacementField::default();
        let place = place.in_structure("ReplacementField");
        place.members(value, "types.ReplacementField", &REPLACEMENT, &mut |name, value, place| {
            match name {
                "source" => read.replacement.source = Some(Source::decode(value, place)?),
                "targets" => {
                    let targets =
                        place.list(value, "[]*types.TargetSelector", |one| Target::decode(one, place))?;
                    read.replacement.targets = Some(targets);
                }
                "sourceValue" => read.replacement.source_value = Some(place.text(value)?),
                _ => read.path = place.text(value)?,
            }
            Ok(())
        })?;
        Ok(read)
    }
}
