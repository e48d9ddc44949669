//! Faults of admission policies: what they match, and their expressions.
//!
//! Absent: types of what expressions come to, which show only when they are evaluated.

use std::collections::BTreeSet;

use api::FieldError;
use api::json::{items, text};
use api::validation::{Faults, Path, invalid_each, qualified_name};
use cel::{Library, Program};
use serde_json::Value;

use super::{MATCHES, POLICIES, one_of, required, selector, validate_rule};
use crate::expressions;
use crate::policies;

const REASONS: [&str; 4] = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
/// Conditions of a webhook or a policy.
const MAX_CONDITIONS: usize = 64;
/// Audit annotations of a policy, as upstream has it.
const MAX_ANNOTATIONS: usize = 20;
/// Variables, validations and mutations of a policy, each. Upstream has no such bounds; policies in use have
/// a dozen or two.
const MAX_EXPRESSIONS: usize = 256;
/// Bytes that the variables, conditions, validations, mutations and annotations of a policy take together.
const MAX_TEXT: usize = 256 << 10;

/// Names that an expression may use, and the patterns of those around it.
type Scope<'a> = (&'a [&'a str], &'a Library);

/// Conditions under which a webhook or a policy is asked.
pub(super) fn match_conditions(list: &[Value], at: &Path<'_>, scope: Scope<'_>, faults: &mut Faults) {
    if list.len() > MAX_CONDITIONS {
        faults.push(FieldError::too_many(at, list.len(), 64));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, condition) in list.iter().enumerate() {
        let at = at.index(index);
        let name = text(condition, "name");
        expression(condition, "expression", &at, scope, faults);
        let field = at.child("name");
        if name.is_empty() {
            faults.push(FieldError::required(field, ""));
        } else {
            invalid_each(faults, &field, name, qualified_name(name));
            if !seen.insert(name) {
                faults.push(FieldError::duplicate(at.child("name"), name));
            }
        }
    }
}

/// The same of a webhook.
pub(super) fn webhook_conditions(webhook: &Value, at: &Path<'_>, faults: &mut Faults) {
    let at = at.child("matchConditions");
    match_conditions(
        items(webhook, "matchConditions"),
        &at,
        (&expressions::NAMES, &Library::default()),
        faults,
    );
}

/// An expression that must be there and must be one.
fn expression(of: &Value, field: &str, at: &Path<'_>, scope: Scope<'_>, faults: &mut Faults) {
    let (source, at) = (text(of, field).trim(), at.child(field));
    if source.is_empty() {
        return faults.push(FieldError::required(at, ""));
    }
    if let Err(error) = Program::compile_with(source, scope.0, scope.1) {
        faults.push(FieldError::invalid(at, source, format!("compilation failed: {error}")));
    }
}

pub(super) fn validate(tree: &Value, kind: &str) -> Faults {
    let mut faults = Faults::new();
    let (spec, at) = (&tree["spec"], Path::new("spec"));
    if !is_bounded(spec, &at, &mut faults) {
        return faults;
    }
    let (names, library) = (names_of(spec), Library::default());
    let scope = (&names[..], &library);
    if let Some(policy) = spec["failurePolicy"].as_str() {
        one_of(&mut faults, &at.child("failurePolicy"), policy, &POLICIES);
    }
    param_kind(&spec["paramKind"], &at.child("paramKind"), &mut faults);
    let constraints = at.child("matchConstraints");
    if spec["matchConstraints"].is_object() {
        match_resources(&spec["matchConstraints"], &constraints, &mut faults);
        if items(spec, "matchConstraints.resourceRules").is_empty() {
            faults.push(FieldError::required(constraints.child("resourceRules"), ""));
        }
    } else {
        faults.push(FieldError::required(constraints, ""));
    }
    let conditions = at.child("matchConditions");
    match_conditions(items(spec, "matchConditions"), &conditions, scope, &mut faults);
    let list = at.child("variables");
    for (index, variable) in items(spec, "variables").iter().enumerate() {
        let at = list.index(index);
        let name = text(variable, "name");
        if name.is_empty() {
            faults.push(FieldError::required(at.child("name"), "name is not specified"));
        } else if !is_identifier(name) {
            faults.push(FieldError::invalid(at.child("name"), name, "must be a valid CEL identifier"));
        }
        expression(variable, "expression", &at, scope, &mut faults);
    }
    match kind {
        "mutations" => mutations(spec, &at, scope, &mut faults),
        _ => validations(spec, &at, scope, &mut faults),
    }
    faults
}

/// Whether a policy is small enough to be read: all of it is kept, and read again after each restart.
fn is_bounded(spec: &Value, at: &Path<'_>, faults: &mut Faults) -> bool {
    let mut size = 0;
    for (list, most) in [
        ("variables", MAX_EXPRESSIONS),
        ("validations", MAX_EXPRESSIONS),
        ("mutations", MAX_EXPRESSIONS),
        ("auditAnnotations", MAX_ANNOTATIONS),
        ("matchConditions", MAX_CONDITIONS),
    ] {
        let given = items(spec, list);
        if given.len() <= most {
            size += given.iter().map(bytes).sum::<usize>();
        } else if list == "auditAnnotations" {
            let why = format!("must not have more than {most} auditAnnotations");
            faults.push(FieldError::invalid(at.child(list), given.len(), why));
        } else {
            faults.push(FieldError::too_many(at.child(list), given.len(), i64::try_from(most).unwrap_or(64)));
        }
    }
    if size > MAX_TEXT {
        faults.push(FieldError::too_long(at, MAX_TEXT));
    }
    faults.is_empty()
}

/// The texts of a tree.
fn bytes(tree: &Value) -> usize {
    match tree {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(bytes).sum(),
        Value::Object(members) => members.values().map(bytes).sum(),
        _ => 0,
    }
}

/// Parameters have a name only where there are some.
fn names_of(spec: &Value) -> Vec<&'static str> {
    let has_params = spec["paramKind"].is_object();
    policies::NAMES.into_iter().filter(|name| has_params || *name != "params").collect()
}

fn is_identifier(name: &str) -> bool {
    let word = |one: char| one.is_ascii_alphanumeric() || one == '_';
    name.chars().all(word) && !name.starts_with(|one: char| one.is_ascii_digit())
}

fn param_kind(kind: &Value, at: &Path<'_>, faults: &mut Faults) {
    if kind.is_object() {
        for field in ["apiVersion", "kind"] {
            required(faults, &at.child(field), text(kind, field));
        }
    }
}

pub(super) fn match_resources(given: &Value, at: &Path<'_>, faults: &mut Faults) {
    if let Some(policy) = given["matchPolicy"].as_str() {
        one_of(faults, &at.child("matchPolicy"), policy, &MATCHES);
    }
    for field in ["namespaceSelector", "objectSelector"] {
        selector(&given[field], &at.child(field), faults);
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        let list = at.child(field);
        for (index, rule) in items(given, field).iter().enumerate() {
            validate_rule(rule, &list.index(index), faults);
        }
    }
}

fn validations(spec: &Value, at: &Path<'_>, scope: Scope<'_>, faults: &mut Faults) {
    let (list, annotations) = (items(spec, "validations"), items(spec, "auditAnnotations"));
    if list.is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        faults.push(FieldError::required(at.child("validations"), why));
        faults.push(FieldError::required(at.child("auditAnnotations"), why));
    }
    let path = at.child("validations");
    for (index, validation) in list.iter().enumerate() {
        let at = path.index(index);
        expression(validation, "expression", &at, scope, faults);
        if !text(validation, "messageExpression").is_empty() {
            let names: Vec<&str> = scope.0.iter().copied().filter(|name| *name != "authorizer").collect();
            expression(validation, "messageExpression", &at, (&names, scope.1), faults);
        }
        if text(validation, "message").trim().contains('\n') {
            let message = text(validation, "message");
            faults.push(FieldError::invalid(
                at.child("message"),
                message,
                "message must not contain line breaks",
            ));
        }
        if let Some(reason) = validation["reason"].as_str() {
            one_of(faults, &at.child("reason"), reason, &REASONS);
        }
    }
    let path = at.child("auditAnnotations");
    for (index, annotation) in annotations.iter().enumerate() {
        let at = path.index(index);
        required(faults, &at.child("key"), text(annotation, "key"));
        expression(annotation, "valueExpression", &at, scope, faults);
    }
}

fn mutations(spec: &Value, at: &Path<'_>, scope: Scope<'_>, faults: &mut Faults) {
    let list = items(spec, "mutations");
    if list.is_empty() {
        faults.push(FieldError::required(at.child("mutations"), "mutations must contain at least one item"));
    }
    let path = at.child("mutations");
    for (index, mutation) in list.iter().enumerate() {
        let at = path.index(index);
        let (field, kind) = match text(mutation, "patchType") {
            "" => {
                faults.push(FieldError::required(at.child("patchType"), ""));
                continue;
            }
            "ApplyConfiguration" => ("applyConfiguration", "ApplyConfiguration"),
            "JSONPatch" => ("jsonPatch", "JSONPatch"),
            other => {
                let supported = ["ApplyConfiguration", "JSONPatch"];
                faults.push(FieldError::not_supported(at.child("patchType"), other, &supported));
                continue;
            }
        };
        if mutation[field].is_object() {
            expression(&mutation[field], "expression", &at.child(field), scope, faults);
        } else {
            let why = format!("must be specified when patchType is {kind}");
            faults.push(FieldError::required(at.child(field), why));
        }
    }
}
