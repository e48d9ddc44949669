//! `x-kubernetes-validations`: rules of a definition's schema that are written in CEL.
//!
//! Rules are read once, into a tree that has only those parts of the schema below which there are some. What
//! an object looked like before is followed by names, by keys of maps and of lists that have keys; where it
//! cannot be followed, rules that speak of it (`oldSelf`) are silent. A rule that an unchanged value has
//! failed before stays out of the way of other changes (ratcheting), with a warning.
//!
//! Absent: costs that are estimated when the definition is written; what a rule may cost when it is evaluated
//! is bounded.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::FieldError;
use api::json::{items, text};
use api::validation::{Faults, Path};
use cel::{Activation, Budget, EvalError, Library, Program, Type, Value as CelValue};
use serde_json::Value;

use super::types;

/// Steps of all rules of an object together.
const BUDGET: u64 = 10_000_000;
/// Steps within which rules are tried on the thread that serves the request: a few milliseconds.
pub(crate) const SHORT: u64 = 50_000;
/// A message may be so long.
const MESSAGE: usize = 5 * 1024;

const NAMES: [&str; 2] = ["self", "oldSelf"];
const MEMBER: &str = "x-kubernetes-validations";

/// A part of a schema with the rules that are there and below.
#[derive(Default)]
struct Node {
    kind: String,
    rules: Vec<Rule>,
    properties: BTreeMap<String, Node>,
    additional: Option<Box<Node>>,
    items: Option<Box<Node>>,
    /// Keys by which elements of a list are told apart.
    keys: Vec<String>,
    format: Format,
    /// Whether a value is something else for a rule than for JSON, here or below.
    is_typed: bool,
    /// Whether there is a rule here or below.
    has_rules: bool,
}

/// What a value is for a rule.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Format {
    #[default]
    Json,
    Double,
    Time,
    Duration,
}

struct Rule {
    program: Program,
    source: String,
    message: String,
    message_expression: Option<Program>,
    reason: String,
    /// Where the fault is, if not where the rule is.
    field_path: String,
    /// `oldSelf` is an optional value.
    optional_old: bool,
    uses_old: bool,
}

/// The rules of one version of a kind.
pub(crate) struct RuleTree(Node);

/// What rules say about an object.
#[derive(Default)]
pub(crate) struct Judged {
    pub(crate) faults: Faults,
    pub(crate) warnings: Vec<String>,
}

impl RuleTree {
    /// None if there are no rules. Those that cannot be read are left out: what is stored may be older than
    /// their check.
    pub(crate) fn of(schema: &Value, library: &Library) -> Option<Arc<RuleTree>> {
        let mut faults = Faults::new();
        let root = node(schema, &Path::new(""), library, &mut faults);
        root.has_rules.then(|| Arc::new(RuleTree(root)))
    }

    /// What is wrong with the rules of a schema.
    pub(crate) fn check(schema: &Value, path: &Path<'_>, library: &Library) -> Faults {
        let mut faults = Faults::new();
        let root = node(schema, path, library, &mut faults);
        check_types(&root, schema, path, true, &mut faults);
        faults
    }

    /// Holds an object against the rules.
    pub(crate) fn judge(&self, object: &Value, old: Option<&Value>) -> Judged {
        self.walk(object, old, BUDGET).judged
    }

    /// The same, if it can be told within [`SHORT`] steps.
    pub(crate) fn judge_shortly(&self, object: &Value, old: Option<&Value>) -> Option<Judged> {
        let judge = self.walk(object, old, SHORT);
        (judge.budget.left() > 0).then_some(judge.judged)
    }

    fn walk(&self, object: &Value, old: Option<&Value>, steps: u64) -> Judge {
        let mut judge = Judge { judged: Judged::default(), budget: Budget::of(steps), is_over: false };
        judge.value(&self.0, object, old, &Path::new(""));
        judge
    }
}

fn node(schema: &Value, path: &Path<'_>, library: &Library, faults: &mut Faults) -> Node {
    let mut node = Node {
        kind: text(schema, "type").to_string(),
        format: match (text(schema, "type"), text(schema, "format")) {
            ("number", _) => Format::Double,
            ("string", "date-time" | "datetime" | "date") => Format::Time,
            ("string", "duration") => Format::Duration,
            _ => Format::Json,
        },
        keys: items(schema, "x-kubernetes-list-map-keys")
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_string)
            .collect(),
        ..Node::default()
    };
    let list = path.child(MEMBER);
    for (at, given) in schema[MEMBER].as_array().into_iter().flatten().enumerate() {
        node.rules.extend(rule(given, &list.index(at), library, faults));
    }
    let below = path.child("properties");
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        node.properties.insert(name.clone(), self::node(child, &below.key(name), library, faults));
    }
    for (member, slot) in [("items", &mut node.items), ("additionalProperties", &mut node.additional)] {
        if schema[member].is_object() {
            *slot = Some(Box::new(self::node(&schema[member], &path.child(member), library, faults)));
        }
    }
    let below = [node.items.as_deref(), node.additional.as_deref()];
    node.is_typed = node.format != Format::Json
        || below.into_iter().flatten().chain(node.properties.values()).any(|child| child.is_typed);
    node.has_rules = !node.rules.is_empty()
        || node.properties.values().any(|child| child.has_rules)
        || below.into_iter().flatten().any(|child| child.has_rules);
    // Only what a rule may ask for, or what lies on the way to one, is kept.
    if !node.is_typed {
        node.properties.retain(|_, child| child.has_rules);
    }
    node
}

fn rule(given: &Value, path: &Path<'_>, library: &Library, faults: &mut Faults) -> Option<Rule> {
    let source = text(given, "rule");
    // That there is one is the schema's to check.
    if source.trim().is_empty() {
        return None;
    }
    let mut read = |source: &str, field: &str| match Program::compile_with(source, &NAMES, library) {
        Ok(program) => Some(program),
        Err(error) => {
            let why = match field {
                "rule" => format!("compilation failed: {error}"),
                _ => format!("messageExpression compilation failed: {error}"),
            };
            faults.push(FieldError::invalid(path.child(field), source, why));
            None
        }
    };
    let program = read(source, "rule")?;
    let message = text(given, "messageExpression");
    let message_expression =
        if message.trim().is_empty() { None } else { read(message, "messageExpression") };
    let uses_old = program.uses("oldSelf");
    let optional_old = given["optionalOldSelf"] == true;
    if optional_old && !uses_old {
        let why = "may not be set if oldSelf is not used in rule";
        faults.push(FieldError::invalid(path.child("optionalOldSelf"), true, why));
    }
    Some(Rule {
        uses_old,
        program,
        source: source.trim().to_string(),
        message: text(given, "message").trim().to_string(),
        message_expression,
        reason: text(given, "reason").to_string(),
        field_path: text(given, "fieldPath").to_string(),
        optional_old,
    })
}

/// Finds rules that no value of their schema can satisfy: they ask for fields that it has not.
fn check_types(node: &Node, schema: &Value, path: &Path<'_>, is_whole: bool, faults: &mut Faults) {
    let list = path.child(MEMBER);
    for (at, rule) in node.rules.iter().enumerate() {
        let of = || types::of_schema(schema, is_whole);
        let old = if rule.optional_old { Type::optional(of()) } else { of() };
        let names = [("self", of()), ("oldSelf", old)];
        let path = list.index(at);
        let message = rule.message_expression.iter().map(|program| (program, "messageExpression"));
        for (program, field) in [(&rule.program, "rule")].into_iter().chain(message) {
            let checked = program.check_types(&names);
            let found: Vec<String> = checked.faults.iter().map(ToString::to_string).collect();
            let why = match (&found[..], &checked.of, field) {
                ([], Type::Bool | Type::Dyn, "rule") => continue,
                ([], Type::String | Type::Dyn, "messageExpression") => continue,
                ([], _, "rule") => "compilation failed: cel expression must evaluate to a bool".to_string(),
                ([], ..) => "messageExpression must evaluate to a string".to_string(),
                (found, _, "rule") => format!("compilation failed: {}", found.join("\n")),
                (found, ..) => format!("messageExpression compilation failed: {}", found.join("\n")),
            };
            faults.push(FieldError::invalid(path.child(field), program.source(), why));
        }
    }
    let below = path.child("properties");
    for (name, child) in &node.properties {
        check_types(child, &schema["properties"][name], &below.key(name), false, faults);
    }
    for (member, child) in [("items", &node.items), ("additionalProperties", &node.additional)] {
        if let Some(child) = child {
            check_types(child, &schema[member], &path.child(member), false, faults);
        }
    }
}

impl Node {
    /// A value as rules see it.
    fn typed<'a>(&'a self, value: &'a Value) -> CelValue<'a> {
        if !self.is_typed {
            return CelValue::from(value);
        }
        match (value, self.format) {
            (Value::Number(number), Format::Double) => CelValue::Double(number.as_f64().unwrap_or(f64::NAN)),
            (Value::String(text), Format::Time) => CelValue::timestamp(text).unwrap_or(value.into()),
            (Value::String(text), Format::Duration) => CelValue::duration(text).unwrap_or(value.into()),
            (Value::Array(list), _) => match &self.items {
                Some(items) => CelValue::list(list.iter().map(|one| items.typed(one)).collect()),
                None => value.into(),
            },
            (Value::Object(members), _) => {
                let member = |(name, value): (&'a String, &'a Value)| {
                    let child = self.properties.get(name).or(self.additional.as_deref());
                    (name.as_str(), child.map_or(value.into(), |child| child.typed(value)))
                };
                CelValue::map(members.iter().map(member))
            }
            _ => value.into(),
        }
    }
}

/// One walk over an object.
struct Judge {
    judged: Judged,
    budget: Budget,
    /// Nothing more is looked at.
    is_over: bool,
}

impl Judge {
    fn value(&mut self, node: &Node, value: &Value, old: Option<&Value>, path: &Path<'_>) {
        if self.is_over || value.is_null() || !node.has_rules {
            return;
        }
        self.rules(node, (value, old), path);
        if self.is_over {
            return;
        }
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let is_property = node.properties.contains_key(name);
                    let child = node.properties.get(name).or(node.additional.as_deref());
                    let path = if is_property { path.child(name) } else { path.key(name) };
                    if let Some(child) = child {
                        let old = old.and_then(|old| old.get(name));
                        self.value(child, member, old, &path);
                    }
                }
            }
            Value::Array(list) => {
                let Some(child) = &node.items else { return };
                let before = counterparts(node, old);
                for (at, element) in list.iter().enumerate() {
                    let old = before.get(&keys(node, element)).copied();
                    self.value(child, element, old, &path.index(at));
                }
            }
            _ => {}
        }
    }

    /// The rules of one value, which is read for them once.
    fn rules(&mut self, node: &Node, (value, old): (&Value, Option<&Value>), path: &Path<'_>) {
        if node.rules.is_empty() {
            return;
        }
        let (seen, before) = (node.typed(value), old.map(|old| node.typed(old)));
        for rule in &node.rules {
            if rule.uses_old && old.is_none() && !rule.optional_old {
                continue;
            }
            let rule_outcome = {
                let mut activation = Activation::new(&self.budget).set("self", seen.clone());
                activation = match (rule.optional_old, before.clone()) {
                    (true, before) => activation.set("oldSelf", CelValue::optional(before)),
                    (false, Some(before)) => activation.set("oldSelf", before),
                    (false, None) => activation,
                };
                rule_outcome(rule, &activation, &self.budget)
            };
            match rule_outcome {
                RuleOutcome::Holds => {}
                RuleOutcome::Fails(message) => self.fail(node, rule, (value, old), path, message),
                RuleOutcome::Error(why) => {
                    self.judged.faults.push(FieldError::invalid(path, &node.kind, why))
                }
                RuleOutcome::Over(why) => {
                    self.judged.faults.push(FieldError::invalid(path, &node.kind, why));
                    self.is_over = true;
                    return;
                }
            }
        }
    }

    fn fail(
        &mut self,
        node: &Node,
        rule: &Rule,
        (value, old): (&Value, Option<&Value>),
        path: &Path<'_>,
        message: String,
    ) {
        let at = format!("{}{}", String::from(path), rule.field_path);
        let at = at.trim_start_matches('.').to_string();
        let has_parts = matches!(node.kind.as_str(), "object" | "array");
        let fault = match rule.reason.as_str() {
            "FieldValueForbidden" => FieldError::forbidden(at, message),
            "FieldValueRequired" => FieldError::required(at, message),
            "FieldValueDuplicate" => FieldError::duplicate(at, value),
            _ if has_parts => FieldError::invalid_without_value(at, message),
            _ => FieldError::invalid(at, value, message),
        };
        // What was so before may stay so.
        if !rule.uses_old && old == Some(value) {
            self.judged.warnings.push(fault.to_string());
        } else {
            self.judged.faults.push(fault);
        }
    }
}

/// What tells an element of a list apart from others.
fn keys(node: &Node, element: &Value) -> Vec<String> {
    node.keys.iter().map(|key| element.get(key).map(Value::to_string).unwrap_or_default()).collect()
}

/// The elements of a list before, by their keys; the first of those that have the same.
fn counterparts<'o>(node: &Node, old: Option<&'o Value>) -> HashMap<Vec<String>, &'o Value> {
    let mut found = HashMap::new();
    if node.keys.is_empty() {
        return found;
    }
    for element in old.and_then(Value::as_array).into_iter().flatten() {
        found.entry(keys(node, element)).or_insert(element);
    }
    found
}

/// What a rule says.
enum RuleOutcome {
    Holds,
    Fails(String),
    Error(String),
    /// No more steps are left, for this expression or for all.
    Over(String),
}

fn rule_outcome<'a>(rule: &'a Rule, activation: &Activation<'a>, budget: &Budget) -> RuleOutcome {
    let source = &rule.source;
    match rule.program.holds(activation) {
        Ok(true) => RuleOutcome::Holds,
        Ok(false) => message(rule, activation, budget),
        Err(EvalError::Cost) if budget.left() == 0 => RuleOutcome::Over(
            "validation failed due to running out of cost budget, no further validation rules will be run"
                .into(),
        ),
        Err(error @ EvalError::Cost) => RuleOutcome::Over(format!(
            "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {source}"
        )),
        Err(error @ EvalError::NoOverload) => RuleOutcome::Error(format!(
            "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {source}"
        )),
        Err(error) => RuleOutcome::Error(format!("{error} evaluating rule: {source}")),
    }
}

fn message<'a>(rule: &'a Rule, activation: &Activation<'a>, budget: &Budget) -> RuleOutcome {
    match rule.message_expression.as_ref().map(|program| (program.evaluate(activation), program.source())) {
        Some((Ok(CelValue::String(text)), _)) => {
            let text = text.trim();
            if !text.is_empty() && text.len() <= MESSAGE && !text.contains('\n') {
                return RuleOutcome::Fails(text.to_string());
            }
        }
        Some((Err(EvalError::Cost), _)) if budget.left() == 0 => {
            let why = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";
            return RuleOutcome::Over(why.into());
        }
        Some((Err(EvalError::Cost), source)) => {
            let why = "no further validation rules will be run due to call cost exceeds limit for messageExpression";
            return RuleOutcome::Over(format!("{why}: {source:?}"));
        }
        _ => {}
    }
    RuleOutcome::Fails(match rule.message.as_str() {
        "" => format!("failed rule: {}", rule.source),
        message => message.to_string(),
    })
}
