//! From `openAPIV3Schema` to nodes, with the faults of what is not structural.

use serde_json::{Map, Number, Value};

use super::{Additional, Bounds, Kind, Pattern, Rules, Structural, compile};
use crate::FieldError;
use crate::schema::ListType;
use crate::validation::Faults;

type Object = Map<String, Value>;

/// How deep a schema may nest.
const MAX_DEPTH: usize = 64;

/// Members that no schema may have.
const UNSUPPORTED: [&str; 6] =
    ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"];

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Field,
    Item,
    /// Inside of `allOf` and its kin, which say nothing of types.
    Value,
}

impl Structural {
    /// Parses a schema at a path of the definition, such as `spec.versions[0].schema.openAPIV3Schema`.
    pub fn parse(schema: &Value, path: &str) -> Result<Self, Faults> {
        let mut parser = Parser { faults: Faults::new() };
        let root = parser.node(schema, path, Level::Root, 0);
        if parser.faults.is_empty() { Ok(root) } else { Err(parser.faults) }
    }
}

struct Parser {
    faults: Faults,
}

impl Parser {
    fn node(&mut self, schema: &Value, path: &str, level: Level, depth: usize) -> Structural {
        let Some(schema) = schema.as_object().filter(|_| depth < MAX_DEPTH) else {
            self.faults.push(FieldError::invalid(path, "", "must be a schema that is not nested too deeply"));
            return Structural::default();
        };
        self.unsupported(schema, path);
        let mut node = Structural {
            nullable: flag(schema, "nullable"),
            default: schema.get("default").cloned(),
            preserve_unknown: flag(schema, "x-kubernetes-preserve-unknown-fields"),
            embedded: flag(schema, "x-kubernetes-embedded-resource"),
            int_or_string: flag(schema, "x-kubernetes-int-or-string"),
            list_map_keys: texts(schema, "x-kubernetes-list-map-keys"),
            atomic_map: schema.get("x-kubernetes-map-type").is_some_and(|kind| kind == "atomic"),
            ..Structural::default()
        };
        self.kind(&mut node, schema, path, level);
        self.list_type(&mut node, schema, path);
        self.children(&mut node, schema, path, level, depth);
        self.lists(&node, schema, path);
        node.rules = self.rules(schema, path, depth);
        if level == Level::Value {
            self.only_values(&node, schema, path);
        }
        if let Some(default) = &node.default {
            self.check_default(&node, default, path);
        }
        node
    }

    fn unsupported(&mut self, schema: &Object, path: &str) {
        for name in UNSUPPORTED.into_iter().filter(|name| schema.contains_key(*name)) {
            self.faults
                .push(FieldError::forbidden(format!("{path}.{name}"), format!("{name} is not supported")));
        }
        if flag(schema, "uniqueItems") {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.faults.push(FieldError::forbidden(format!("{path}.uniqueItems"), why));
        }
    }

    fn kind(&mut self, node: &mut Structural, schema: &Object, path: &str, level: Level) {
        let at = format!("{path}.type");
        let name = schema.get("type").and_then(Value::as_str).unwrap_or("");
        node.kind = Kind::parse(name);
        let why = match level {
            Level::Root if name.is_empty() => Some("must not be empty at the root"),
            Level::Field if name.is_empty() => Some("must not be empty for specified object fields"),
            Level::Item if name.is_empty() => Some("must not be empty for specified array items"),
            _ => None,
        };
        let exempt = level != Level::Root && (node.preserve_unknown || node.int_or_string);
        match why {
            Some(why) if !exempt => self.faults.push(FieldError::required(at, why)),
            Some(_) => {}
            None if level == Level::Root && name != "object" => {
                self.faults.push(FieldError::invalid(at, name, "must be object at the root"));
            }
            None if !name.is_empty() && node.kind.is_none() => {
                let known = ["array", "boolean", "integer", "number", "object", "string"];
                self.faults.push(FieldError::not_supported(at, name, &known));
            }
            None => {}
        }
    }

    fn list_type(&mut self, node: &mut Structural, schema: &Object, path: &str) {
        let Some(name) = schema.get("x-kubernetes-list-type").and_then(Value::as_str) else { return };
        node.list_type = match name {
            "atomic" => Some(ListType::Atomic),
            "set" => Some(ListType::Set),
            "map" => Some(ListType::Map),
            other => {
                let at = format!("{path}.x-kubernetes-list-type");
                self.faults.push(FieldError::not_supported(at, other, &["atomic", "set", "map"]));
                None
            }
        };
        if node.kind != Some(Kind::Array) {
            let at = format!("{path}.type");
            let why = "must be array if x-kubernetes-list-type is specified";
            self.faults.push(FieldError::invalid(at, schema.get("type"), why));
        }
    }

    fn children(&mut self, node: &mut Structural, schema: &Object, path: &str, level: Level, depth: usize) {
        let below = |own: Level| if level == Level::Value { Level::Value } else { own };
        for (name, child) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let at = format!("{path}.properties[{name}]");
            // What every object has is known without its being said.
            let implied = level == Level::Root && matches!(name.as_str(), "metadata" | "apiVersion" | "kind");
            if implied {
                self.implied(name, child, &at);
                continue;
            }
            let child = self.node(child, &at, below(Level::Field), depth + 1);
            node.properties.insert(name.clone(), child);
        }
        match schema.get("additionalProperties") {
            None | Some(Value::Bool(false)) => {}
            Some(_) if level == Level::Root => {
                let at = format!("{path}.additionalProperties");
                self.faults.push(FieldError::forbidden(at, "must not be used at the root"));
            }
            Some(_) if !node.properties.is_empty() => {
                let at = format!("{path}.additionalProperties");
                let why = "additionalProperties and properties are mutual exclusive";
                self.faults.push(FieldError::forbidden(at, why));
            }
            Some(Value::Bool(true)) => node.additional = Additional::Any,
            Some(child) => {
                let at = format!("{path}.additionalProperties");
                let child = self.node(child, &at, below(Level::Field), depth + 1);
                node.additional = Additional::Schema(Box::new(child));
            }
        }
        match schema.get("items") {
            None => {}
            Some(child @ Value::Object(_)) => {
                let at = format!("{path}.items");
                node.items = Some(Box::new(self.node(child, &at, below(Level::Item), depth + 1)));
            }
            Some(_) => {
                let why = "items must be a schema object and not an array";
                self.faults.push(FieldError::forbidden(format!("{path}.items"), why));
            }
        }
        if node.kind == Some(Kind::Array) && node.items.is_none() && level != Level::Value {
            self.faults.push(FieldError::required(format!("{path}.items"), "must be specified"));
        }
    }

    /// `metadata` may be restricted by its name only; `apiVersion` and `kind` are text.
    fn implied(&mut self, name: &str, schema: &Value, path: &str) {
        let kind = schema["type"].as_str().unwrap_or("");
        if name != "metadata" {
            if !matches!(kind, "" | "string") {
                self.faults.push(FieldError::invalid(format!("{path}.type"), kind, "must be string"));
            }
            return;
        }
        if !matches!(kind, "" | "object") {
            self.faults.push(FieldError::invalid(format!("{path}.type"), kind, "must be object"));
        }
        let named = |one: &String| matches!(one.as_str(), "name" | "generateName");
        if schema["properties"].as_object().is_some_and(|properties| !properties.keys().all(named)) {
            let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            self.faults.push(FieldError::forbidden(path, why));
        }
    }

    fn lists(&mut self, node: &Structural, schema: &Object, path: &str) {
        let keys = format!("{path}.x-kubernetes-list-map-keys");
        let is_map = node.list_type == Some(ListType::Map);
        if !is_map && !node.list_map_keys.is_empty() {
            let at = format!("{path}.x-kubernetes-list-type");
            let why = "must be map if x-kubernetes-list-map-keys is non-empty";
            self.faults.push(match schema.get("x-kubernetes-list-type") {
                Some(given) => FieldError::invalid(at, given, why),
                None => FieldError::required(at, why),
            });
        }
        if !is_map {
            return;
        }
        if node.list_map_keys.is_empty() {
            let why = "must not be empty if x-kubernetes-list-type is map";
            self.faults.push(FieldError::required(keys, why));
            return;
        }
        let Some(items) = &node.items else { return };
        if items.kind != Some(Kind::Object) {
            let at = format!("{path}.items.type");
            let why = "must be object if parent array's x-kubernetes-list-type is map";
            let given = items.kind.map_or("", Kind::name);
            self.faults.push(FieldError::invalid(at, given, why));
        } else if !node.list_map_keys.iter().all(|key| items.properties.contains_key(key)) {
            let why = "entries must all be names of item properties";
            self.faults.push(FieldError::invalid(keys, &node.list_map_keys, why));
        }
    }

    fn rules(&mut self, schema: &Object, path: &str, depth: usize) -> Option<Box<Rules>> {
        let mut many = |name: &str| -> Vec<Structural> {
            let list = schema.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
            list.map(|(at, one)| self.node(one, &format!("{path}.{name}[{at}]"), Level::Value, depth + 1))
                .collect()
        };
        let (all_of, any_of, one_of) = (many("allOf"), many("anyOf"), many("oneOf"));
        let not = schema
            .get("not")
            .map(|one| Box::new(self.node(one, &format!("{path}.not"), Level::Value, depth + 1)));
        let pattern = schema.get("pattern").and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(text) = pattern.filter(|text| compile(text).is_none()) {
            let why = "must be a valid regular expression, but isn't";
            self.faults.push(FieldError::invalid(format!("{path}.pattern"), text, why));
        }
        let rules = Rules {
            required: texts(schema, "required"),
            allowed: schema.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            format: schema.get("format").and_then(Value::as_str).unwrap_or("").to_string(),
            pattern: pattern.map(Pattern::new),
            minimum: limit(schema, "minimum", "exclusiveMinimum"),
            maximum: limit(schema, "maximum", "exclusiveMaximum"),
            multiple_of: number(schema, "multipleOf"),
            length: bounds(schema, "minLength", "maxLength"),
            items: bounds(schema, "minItems", "maxItems"),
            properties: bounds(schema, "minProperties", "maxProperties"),
            all_of,
            any_of,
            one_of,
            not,
        };
        let names = [
            "required",
            "enum",
            "format",
            "pattern",
            "minimum",
            "maximum",
            "multipleOf",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "minProperties",
            "maxProperties",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
        ];
        names.iter().any(|name| schema.contains_key(*name)).then(|| Box::new(rules))
    }

    /// Inside of `allOf` and its kin a schema restricts values; it defines nothing.
    fn only_values(&mut self, node: &Structural, schema: &Object, path: &str) {
        let mut forbid = |name: &str, why: &str| {
            self.faults.push(FieldError::forbidden(format!("{path}.{name}"), why));
        };
        if node.default.is_some() {
            forbid("default", "must be undefined to be structural");
        }
        if !matches!(node.additional, Additional::Unspecified) {
            forbid("additionalProperties", "must be undefined to be structural");
        }
        if schema.contains_key("title") {
            forbid("title", "must be empty to be structural");
        }
        if schema.contains_key("description") {
            forbid("description", "must be empty to be structural");
        }
        if node.nullable {
            forbid("nullable", "must be false to be structural");
        }
    }

    /// A default that is no valid value would make every object invalid that leaves the field out.
    fn check_default(&mut self, node: &Structural, default: &Value, path: &str) {
        let at = format!("{path}.default");
        self.faults.extend(node.faults(default, &at));
    }
}

fn flag(schema: &Object, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn texts(schema: &Object, name: &str) -> Vec<String> {
    let list = schema.get(name).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_string).collect()
}

fn number(schema: &Object, name: &str) -> Option<Number> {
    match schema.get(name) {
        Some(Value::Number(number)) => Some(number.clone()),
        _ => None,
    }
}

fn limit(schema: &Object, name: &str, exclusive: &str) -> Option<(Number, bool)> {
    number(schema, name).map(|number| (number, flag(schema, exclusive)))
}

fn bounds(schema: &Object, least: &str, most: &str) -> Bounds {
    let of = |name: &str| schema.get(name).and_then(Value::as_i64);
    (of(least), of(most))
}
