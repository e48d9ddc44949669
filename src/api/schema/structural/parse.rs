//! From `openAPIV3Schema` to nodes, with the faults of what is not structural.
//!
//! One parser reads all schemas of a definition: they share a budget of nodes and their patterns. Faults come
//! in upstream's order: what is not structural, sorted, else what is wrong with defaults; then what no schema
//! may have.

use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::allowed::Allowed;
use super::limits::{MAX_DEPTH, MAX_NODES, MAX_PATTERNS, MAX_STEPS};
use super::node::{Additional, Bounds, Format, Kind, Rules, Structural};
use super::pattern::{Pattern, Patterns, Refused};
use super::steps::Steps;
use crate::FieldError;
use crate::schema::ListType;
use crate::validation::{Faults, Path};

pub(super) type Object = Map<String, Value>;

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Root,
    Field,
    Item,
    /// Inside of `allOf` and its kin, which say nothing of types.
    Nested,
    /// One of the two types of an `x-kubernetes-int-or-string`, which may be spelt out.
    IntOrString,
}

/// What holds for a node by what is around it.
#[derive(Clone, Copy)]
pub(super) struct NodeContext {
    pub(super) level: Level,
    depth: usize,
    /// Inside of `metadata`, `apiVersion` or `kind` of an object.
    pub(super) in_metadata: bool,
    /// Why there may be no default.
    pub(super) no_default: Option<&'static str>,
}

/// Reads the schemas of one definition.
#[derive(Default)]
pub struct Parser {
    nodes: usize,
    patterns: Patterns,
    /// What checking all defaults has taken of its budget.
    steps: Option<Steps>,
    /// What is not structural in the present schema.
    structural: Faults,
    /// All other faults.
    faults: Faults,
    /// It has members that no tree is made of, so that it is not judged as one.
    unreadable: bool,
}

impl Structural {
    /// Parses one schema at a path of the definition, such as `spec.versions[0].schema.openAPIV3Schema`.
    pub fn parse(schema: &Value, path: &str) -> Result<Self, Faults> {
        Parser::default().parse(schema, &Path::new(path), false)
    }
}

impl Parser {
    /// Parses a schema; `status` tells whether its kind has a status subresource, which is checked by itself.
    pub fn parse(&mut self, schema: &Value, path: &Path<'_>, status: bool) -> Result<Structural, Faults> {
        let (root, faults) = self.read(schema, path, status);
        if faults.is_empty() { Ok(root) } else { Err(faults) }
    }

    /// What can be made of a schema whatever its faults are, unless there were too many nodes.
    pub fn read(&mut self, schema: &Value, path: &Path<'_>, status: bool) -> (Structural, Faults) {
        (self.structural, self.faults, self.unreadable) = (Faults::new(), Faults::new(), false);
        let mut faults = Faults::new();
        if let Some(schema) = schema.as_object() {
            super::invariants::root(schema, path, status, &mut faults);
        }
        let context = NodeContext { level: Level::Root, depth: 0, in_metadata: false, no_default: None };
        let root = self.node(schema, path, context);
        if let Some(schema) = schema.as_object().filter(|_| !self.is_over()) {
            self.complete(schema, path);
        }
        if self.structural.is_empty() && !self.unreadable {
            self.defaults(&root, path);
        } else if !self.unreadable {
            let mut sorted: Vec<FieldError> = std::mem::take(&mut self.structural).into();
            sorted.sort_by_cached_key(ToString::to_string);
            faults.extend(sorted);
        }
        faults.extend(std::mem::take(&mut self.faults));
        (root, faults)
    }

    /// How many nodes there are by now.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// A fault of something that no schema may have.
    pub(super) fn fault(&mut self, fault: impl FnOnce() -> FieldError) {
        if !self.faults.is_full() {
            self.faults.push(fault());
        }
    }

    /// A fault of something that makes the schema not structural.
    pub(super) fn not_structural(&mut self, fault: impl FnOnce() -> FieldError) {
        if !self.structural.is_full() {
            self.structural.push(fault());
        }
    }

    /// Members that no tree can be made of.
    pub(super) fn unreadable(&mut self, fault: impl FnOnce() -> FieldError) {
        self.unreadable = true;
        self.fault(fault);
    }

    /// Whether there were more nodes than a definition may have.
    pub fn is_over(&self) -> bool {
        self.nodes > MAX_NODES
    }

    /// Counts a node; false if there are too many, which is told once.
    fn count(&mut self, path: &Path<'_>) -> bool {
        if self.is_over() {
            return false;
        }
        self.nodes += 1;
        if self.is_over() {
            let why = format!("the schemas of a definition may have at most {MAX_NODES} nodes");
            self.unreadable(|| FieldError::forbidden(path, why));
        }
        !self.is_over()
    }

    fn node(&mut self, schema: &Value, path: &Path<'_>, context: NodeContext) -> Structural {
        if !self.count(path) {
            return Structural::default();
        }
        let Some(schema) = schema.as_object().filter(|_| context.depth < MAX_DEPTH) else {
            self.unreadable(|| {
                FieldError::invalid(path, "", "must be a schema that is not nested too deeply")
            });
            return Structural::default();
        };
        let mut node = Structural {
            kind: Kind::parse(text(schema, "type")),
            nullable: flag(schema, "nullable"),
            default: schema.get("default").filter(|default| !default.is_null()).cloned(),
            preserve_unknown: flag(schema, "x-kubernetes-preserve-unknown-fields"),
            embedded: flag(schema, "x-kubernetes-embedded-resource"),
            int_or_string: flag(schema, "x-kubernetes-int-or-string"),
            list_type: list_type(schema),
            list_map_keys: texts(schema, "x-kubernetes-list-map-keys"),
            atomic_map: text(schema, "x-kubernetes-map-type") == "atomic",
            is_formatted: !matches!(text(schema, "format"), "" | "byte"),
            ..Structural::default()
        };
        self.invariants(schema, path, context);
        self.unsupported(schema, path, context);
        self.children(&mut node, schema, path, context);
        self.extensions(schema, path);
        node.rules = self.rules(schema, path, context);
        node
    }

    fn children(&mut self, node: &mut Structural, schema: &Object, path: &Path<'_>, context: NodeContext) {
        let nested = matches!(context.level, Level::Nested | Level::IntOrString);
        let below = |level: Level| NodeContext {
            level: if nested { Level::Nested } else { level },
            depth: context.depth + 1,
            ..context
        };
        let properties_path = path.child("properties");
        for (name, child) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let mut below = below(Level::Field);
            if (context.level == Level::Root || node.embedded) && is_own(name) {
                below.in_metadata = true;
                if context.level == Level::Root {
                    below.no_default = Some(match name.as_str() {
                        "metadata" => "in top-level metadata",
                        "kind" => "in top-level kind",
                        _ => "in top-level apiVersion",
                    });
                }
            }
            let child = self.node(child, &properties_path.key(name), below);
            if child.default.is_some() {
                node.defaulted.push(name.clone());
            }
            node.properties.insert(name.clone(), child);
        }
        match schema.get("additionalProperties") {
            Some(Value::Bool(true)) => node.additional = Additional::Any,
            Some(child @ Value::Object(_)) => {
                let mut below = below(Level::Field);
                if context.in_metadata {
                    below.no_default = Some("inside additionalProperties applying to object metadata");
                }
                let child = self.node(child, &path.child("additionalProperties"), below);
                node.additional = Additional::Schema(Box::new(child));
            }
            _ => {}
        }
        if let Some(child @ Value::Object(_)) = schema.get("items") {
            let child = self.node(child, &path.child("items"), below(Level::Item));
            node.items = Some(Box::new(child));
        }
    }

    fn rules(&mut self, schema: &Object, path: &Path<'_>, context: NodeContext) -> Option<Box<Rules>> {
        const NAMES: [&str; 17] = [
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
        if !NAMES.iter().any(|name| schema.contains_key(*name)) {
            return None;
        }
        let nested = NodeContext { level: Level::Nested, depth: context.depth + 1, ..context };
        // The two ways in which upstream lets integers and strings be spelt out.
        let spelt = is_int_or_string(schema);
        let spelt_below =
            list(schema, "allOf").first().and_then(Value::as_object).is_some_and(is_int_or_string);
        let mut many = |name: &str| -> Vec<Structural> {
            let (lists, level) = (path.child(name), nested);
            let one = |(at, one): (usize, &Value)| {
                let level = match name {
                    "anyOf" if spelt || context.level == Level::IntOrString => Level::IntOrString,
                    "allOf" if spelt_below && at == 0 => Level::IntOrString,
                    _ => level.level,
                };
                self.node(one, &lists.index(at), NodeContext { level, ..nested })
            };
            list(schema, name).iter().enumerate().map(one).collect()
        };
        let (all_of, any_of, one_of) = (many("allOf"), many("anyOf"), many("oneOf"));
        let not = schema.get("not").filter(|one| !one.is_null());
        let not = not.map(|one| Box::new(self.node(one, &path.child("not"), nested)));
        Some(Box::new(Rules {
            required: texts(schema, "required"),
            allowed: Allowed::new(list(schema, "enum").to_vec()),
            format: if text(schema, "format") == "int32" { Format::Int32 } else { Format::Other },
            pattern: self.pattern(text(schema, "pattern"), path),
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
        }))
    }

    fn pattern(&mut self, text: &str, path: &Path<'_>) -> Option<Arc<Pattern>> {
        if text.is_empty() {
            return None;
        }
        match self.patterns.get(text) {
            Ok(pattern) => return Some(pattern),
            Err(Refused::Invalid) => {
                let why = "must be a valid regular expression, but isn't";
                self.not_structural(|| FieldError::invalid(path.child("pattern"), text, why));
            }
            Err(Refused::TooLarge) => {
                let why = format!(
                    "the patterns of a definition may take at most {MAX_PATTERNS} bytes once they are compiled, and each an eighth of that"
                );
                self.not_structural(|| FieldError::forbidden(path.child("pattern"), why));
            }
        }
        None
    }

    /// A default that is no valid value would make every object invalid that leaves the field out.
    fn defaults(&mut self, root: &Structural, path: &Path<'_>) {
        let mut steps = self.steps.take().unwrap_or_else(|| Steps::new(MAX_STEPS));
        let spent = steps.is_spent();
        self.defaults_below(root, path, &mut steps);
        if let Some(fault) = steps.fault().filter(|_| !spent) {
            self.fault(|| fault);
        }
        self.steps = Some(steps);
    }

    fn defaults_below(&mut self, node: &Structural, path: &Path<'_>, steps: &mut Steps) {
        if let Some(default) = &node.default {
            let at = path.child("default");
            let mut pruned = default.clone();
            if !node.prune_value(&mut pruned).is_empty() {
                self.fault(|| FieldError::invalid(at, default, "must not have unknown fields"));
            }
            let found = node.faults_within(default, &at, steps);
            found.into_iter().for_each(|one| self.fault(|| one));
        }
        let properties_path = path.child("properties");
        for (name, child) in &node.properties {
            self.defaults_below(child, &properties_path.key(name), steps);
        }
        // Upstream does not look into `additionalProperties` either.
        if let Some(items) = &node.items {
            self.defaults_below(items, &path.child("items"), steps);
        }
    }
}

/// Members that every object has.
pub(super) fn is_own(name: &str) -> bool {
    matches!(name, "metadata" | "apiVersion" | "kind")
}

/// `anyOf: [{type: integer}, {type: string}]`.
fn is_int_or_string(schema: &Object) -> bool {
    let only = |value: &Value, kind: &str| {
        value.as_object().is_some_and(|schema| schema.len() == 1 && text(schema, "type") == kind)
    };
    matches!(list(schema, "anyOf"), [one, two] if only(one, "integer") && only(two, "string"))
}

fn list_type(schema: &Object) -> Option<ListType> {
    match text(schema, "x-kubernetes-list-type") {
        "atomic" => Some(ListType::Atomic),
        "set" => Some(ListType::Set),
        "map" => Some(ListType::Map),
        _ => None,
    }
}

pub(super) fn flag(schema: &Object, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or(false)
}

pub(super) fn text<'a>(schema: &'a Object, name: &str) -> &'a str {
    schema.get(name).and_then(Value::as_str).unwrap_or("")
}

pub(super) fn list<'a>(schema: &'a Object, name: &str) -> &'a [Value] {
    schema.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn texts(schema: &Object, name: &str) -> Vec<String> {
    list(schema, name).iter().filter_map(Value::as_str).map(str::to_string).collect()
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
