//! `components.schemas`: every type that the operations reach.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Descriptions;
use crate::KindRow;
use crate::schema::{Base, Field, ListType, PatchStrategy, Shape, TypeRef, by_name};

/// Types met so far; their schemas are written at the end, with all that they refer to.
pub(super) struct Schemas<'a> {
    group: &'a str,
    version: &'a str,
    types: BTreeSet<TypeRef>,
    /// Types that are not objects of the table, by name.
    scalars: BTreeSet<&'static str>,
    /// Schemas from definitions.
    custom: Map<String, Value>,
    descriptions: &'a Descriptions,
}

/// Where upstream's documents lead.
const CONVENTIONS: &str =
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

impl<'a> Schemas<'a> {
    pub(super) fn new(group: &'a str, version: &'a str, descriptions: &'a Descriptions) -> Self {
        Schemas {
            group,
            version,
            types: BTreeSet::new(),
            scalars: BTreeSet::new(),
            custom: Map::new(),
            descriptions,
        }
    }

    /// A reference to a type, which is thereby wanted.
    pub(super) fn of(&mut self, ty: TypeRef) -> Value {
        self.types.insert(ty);
        reference(&ty.name())
    }

    /// A reference to a type of `meta/v1`.
    pub(super) fn of_meta(&mut self, name: &str) -> Value {
        match by_name(&format!("{META}{name}")) {
            Some(ty) => self.of(ty),
            None => json!({}),
        }
    }

    /// References to the schemas of a kind from a definition and of its list, which are thereby wanted.
    pub(super) fn of_custom(&mut self, row: &KindRow, schema: &Value) -> (Value, Value) {
        // What upstream says of these it says of every kind.
        let about = |list: &str, field: &str| {
            self.descriptions.of_field(&format!("api.core.v1.ConfigMap{list}"), field).unwrap_or_default()
        };
        let text = |field: &str| json!({ "type": "string", "description": about("", field) });
        let (version, named) = (text("apiVersion"), text("kind"));
        let (about_metadata, about_list) = (about("", "metadata"), about("List", "metadata"));
        let group: Vec<&str> = row.group.rsplit('.').collect();
        let name = format!("{}.{}.{}", group.join("."), row.version, row.kind);
        let kind = |kind: &str| json!([{ "group": row.group, "kind": kind, "version": row.version }]);
        let mut own = schema.clone();
        own["type"] = json!("object");
        own["properties"]["apiVersion"] = version.clone();
        own["properties"]["kind"] = named.clone();
        own["properties"]["metadata"] = self.wrapped_meta("ObjectMeta");
        own["properties"]["metadata"]["description"] = json!(about_metadata);
        own["x-kubernetes-group-version-kind"] = kind(&row.kind);
        let mut list_metadata = self.wrapped_meta("ListMeta");
        list_metadata["description"] = json!(about_list);
        let about_items = format!("List of {}. More info: {CONVENTIONS}", row.plural);
        let list = json!({
            "description": format!("{} is a list of {}", row.list_kind(), row.kind),
            "type": "object", "required": ["items"],
            "properties": {
                "apiVersion": version, "kind": named,
                "items": {
                    "description": about_items, "type": "array", "items": { "allOf": [reference(&name)] },
                },
                "metadata": list_metadata,
            },
            "x-kubernetes-group-version-kind": kind(&row.list_kind()),
        });
        let list_name = format!("{name}List");
        let references = (reference(&name), reference(&list_name));
        self.custom.insert(name, own);
        self.custom.insert(list_name, list);
        references
    }

    fn wrapped_meta(&mut self, name: &str) -> Value {
        let reference = self.of_meta(name);
        self.wrapped(reference, None)
    }

    pub(super) fn finish(mut self) -> Map<String, Value> {
        let mut out = std::mem::take(&mut self.custom);
        let mut done = BTreeSet::new();
        while let Some(ty) = self.types.iter().copied().find(|ty| !done.contains(ty)) {
            done.insert(ty);
            let schema = self.object(ty);
            out.insert(ty.name(), schema);
        }
        for name in &self.scalars {
            out.insert((*name).to_string(), scalar_schema(name));
        }
        self.descriptions.describe(&mut out);
        out
    }

    fn object(&mut self, ty: TypeRef) -> Value {
        let mut schema = Map::new();
        schema.insert("type".into(), json!("object"));
        if ty.fields().is_empty() {
            // Nothing more to say: an empty object.
        } else {
            let properties = ty.fields().iter().map(|field| (field.name.to_string(), self.property(field)));
            schema.insert("properties".into(), Value::Object(properties.collect()));
        }
        let required: Vec<&str> =
            ty.fields().iter().filter(|field| field.required).map(|field| field.name).collect();
        if !required.is_empty() {
            schema.insert("required".into(), json!(required));
        }
        if ty.atomic() {
            schema.insert("x-kubernetes-map-type".into(), json!("atomic"));
        }
        if let Some((group, version, kind)) = ty.kind() {
            let kinds = if group == "*" {
                let core =
                    (!self.group.is_empty()).then(|| json!({"group": "", "kind": kind, "version": "v1"}));
                let own = json!({"group": self.group, "kind": kind, "version": self.version});
                core.into_iter().chain([own]).collect()
            } else {
                vec![json!({"group": group, "kind": kind, "version": version})]
            };
            schema.insert("x-kubernetes-group-version-kind".into(), Value::Array(kinds));
        }
        Value::Object(schema)
    }

    fn property(&mut self, field: &Field) -> Value {
        let mut schema = match field.ty.shape {
            Shape::One => self.base(field.ty.base, is_written_always(field)),
            Shape::List => json!({"type": "array", "items": self.base(field.ty.base, true)}),
            Shape::Map => json!({"type": "object", "additionalProperties": self.base(field.ty.base, true)}),
            Shape::MapOfLists => json!({"type": "object",
                "additionalProperties": {"type": "array", "items": self.base(field.ty.base, true)}}),
        };
        let Value::Object(map) = &mut schema else { return schema };
        if let Some(list_type) = field.list_type {
            let name = match list_type {
                ListType::Atomic => "atomic",
                ListType::Set => "set",
                ListType::Map => "map",
            };
            map.insert("x-kubernetes-list-type".into(), json!(name));
        }
        if !field.map_keys().is_empty() {
            map.insert("x-kubernetes-list-map-keys".into(), json!(field.map_keys()));
        }
        if field.atomic_map {
            map.insert("x-kubernetes-map-type".into(), json!("atomic"));
        }
        if let Some(key) = field.merge_key() {
            map.insert("x-kubernetes-patch-merge-key".into(), json!(key));
        }
        let PatchStrategy { merge, replace, retain_keys } = field.patch;
        let words = [(merge, "merge"), (replace, "replace"), (retain_keys, "retainKeys")];
        let strategy: Vec<&str> = words.into_iter().filter(|(set, _)| *set).map(|(_, word)| word).collect();
        if !strategy.is_empty() {
            map.insert("x-kubernetes-patch-strategy".into(), json!(strategy.join(",")));
        }
        schema
    }

    /// A reference stands in an `allOf`, because a `$ref` may have no siblings.
    fn wrapped(&self, reference: Value, default: Option<Value>) -> Value {
        match default {
            Some(default) => json!({ "allOf": [reference], "default": default }),
            None => json!({ "allOf": [reference] }),
        }
    }

    fn named(&mut self, name: &'static str, default: Option<Value>) -> Value {
        self.scalars.insert(name);
        self.wrapped(reference(name), default)
    }

    fn base(&mut self, base: Base, defaulted: bool) -> Value {
        let with = |mut schema: Value, default: Value| {
            if defaulted && let Value::Object(map) = &mut schema {
                map.insert("default".into(), default);
            }
            schema
        };
        match base {
            Base::String => with(json!({"type": "string"}), json!("")),
            Base::Int32 => with(json!({"type": "integer", "format": "int32"}), json!(0)),
            Base::Int64 => with(json!({"type": "integer", "format": "int64"}), json!(0)),
            Base::Number => with(json!({"type": "number", "format": "double"}), json!(0)),
            Base::Bool => with(json!({"type": "boolean"}), json!(false)),
            Base::Bytes => json!({"type": "string", "format": "byte"}),
            Base::Object(ty) => {
                let reference = self.of(ty);
                self.wrapped(reference, defaulted.then(|| json!({})))
            }
            Base::Time => self.named("io.k8s.apimachinery.pkg.apis.meta.v1.Time", None),
            Base::MicroTime => self.named("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", None),
            Base::Quantity => self.named("io.k8s.apimachinery.pkg.api.resource.Quantity", None),
            Base::IntOrString => self.named("io.k8s.apimachinery.pkg.util.intstr.IntOrString", None),
            Base::Raw => self.named("io.k8s.apimachinery.pkg.runtime.RawExtension", None),
            Base::Fields => self.named("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", None),
            Base::Json => self.named("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON", None),
            Base::SchemaOrArray => self.named(
                "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
                None,
            ),
            Base::SchemaOrBool => self.named(
                "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
                None,
            ),
            Base::SchemaOrStrings => self.named(
                "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
                None,
            ),
        }
    }
}

/// Whether the type's JSON has the field even if nothing was given: required values, and the three parts of
/// an object.
fn is_written_always(field: &Field) -> bool {
    field.required || (matches!(field.name, "metadata" | "spec" | "status") && field.object().is_some())
}

fn scalar_schema(name: &str) -> Value {
    match name.rsplit('.').next() {
        Some("Time" | "MicroTime") => json!({"type": "string", "format": "date-time"}),
        Some("Quantity") => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        Some("IntOrString") => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        Some("RawExtension" | "FieldsV1") => json!({"type": "object"}),
        _ => json!({}),
    }
}
