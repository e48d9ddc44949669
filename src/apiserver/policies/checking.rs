//! What is wrong with the types of a policy's expressions, told in its status.
//!
//! A policy is for kinds that its rules name one by one; its expressions are checked against each of them.
//! What is found stops nothing: objects are judged all the same, as upstream has it.
//!
//! Absent: types of parameters, of `request`, and of custom resources, whose objects may be anything here.

use std::rc::Rc;
use std::sync::Arc;

use api::json::{items, text};
use api::kinds::VALIDATING_ADMISSION_POLICY as ROW;
use api::schema::{Base, FieldType, Shape, TypeRef, for_gvk};
use api::{ApiError, KindRow, UpdateOptions};
use cel::{Fields, Program, Type};
use client::{ApiFor, ObjectApi, ObjectRef};
use serde_json::{Value, json};

use super::policy::NAMES;
use crate::bootstrap::identity;
use crate::cache::{Filter, Start};
use crate::registry::Resources;
use crate::server::ApiServer;

/// Kinds that a policy is checked against.
const MOST_KINDS: usize = 10;

/// Goes on until the server stops.
pub(crate) async fn follow(server: Arc<ApiServer>) {
    let api = server.as_user(identity());
    let Some(cache) = server.registry.caches.kind(&ROW) else { return };
    loop {
        // Before the look: what changes meanwhile is not missed.
        let Ok(changes) = cache.watch(Filter::everything(cache.selectable().clone()), Start::Now) else {
            return;
        };
        let policies = cache.list(&cache.prefix(None));
        for policy in policies.iter().filter_map(|entry| entry.object.tree().ok()) {
            let generation = &policy["metadata"]["generation"];
            if policy["status"]["observedGeneration"] != *generation
                && let Err(error) = tell(&server, &api, policy).await
            {
                tracing::debug!(%error, "the types of a policy are not told yet");
            }
        }
        changes.changed().await;
    }
}

async fn tell(server: &ApiServer, api: &Arc<dyn ObjectApi>, mut policy: Value) -> Result<(), ApiError> {
    let name = text(&policy, "metadata.name").to_string();
    let warnings = warnings(&policy, &server.registry.resources.load());
    policy["status"]["observedGeneration"] = policy["metadata"]["generation"].clone();
    policy["status"]["typeChecking"] = match warnings.is_empty() {
        true => json!({}),
        false => json!({ "expressionWarnings": warnings }),
    };
    let at = ObjectRef::new(None, &name).sub("status");
    api.update(&ROW, at, policy, &UpdateOptions::default()).await.map(drop)
}

/// The `expressionWarnings` of a policy.
pub(super) fn warnings(policy: &Value, resources: &Resources) -> Vec<Value> {
    let spec = &policy["spec"];
    let variables: Vec<(&str, Option<Program>)> = items(spec, "variables")
        .iter()
        .map(|one| (text(one, "name"), Program::compile(text(one, "expression").trim(), &NAMES).ok()))
        .collect();
    let rows = kinds(spec, resources);
    let rows: Vec<_> = rows.iter().map(|row| (row, known(row, &variables))).collect();
    let mut found = Vec::new();
    for (at, validation) in items(spec, "validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let Ok(program) = Program::compile(text(validation, field).trim(), &NAMES) else { continue };
            let faults: Vec<String> =
                rows.iter().filter_map(|(row, names)| check(row, names, &program)).collect();
            if !faults.is_empty() {
                let at = format!("spec.validations[{at}].{field}");
                found.push(json!({ "fieldRef": at, "warning": faults.join("\n") }));
            }
        }
    }
    found
}

/// The kinds that the rules name, without patterns and parts.
fn kinds(spec: &Value, resources: &Resources) -> Vec<Arc<KindRow>> {
    let mut rows: Vec<Arc<KindRow>> = Vec::new();
    for rule in items(spec, "matchConstraints.resourceRules") {
        let names = |list: &str, name: &str| items(rule, list).iter().any(|one| one == name);
        let named = |row: &KindRow| {
            names("apiGroups", &row.group)
                && names("apiVersions", &row.version)
                && names("resources", &row.plural)
        };
        for resource in resources.all().filter(|one| named(&one.row)) {
            if !rows.iter().any(|row| Arc::ptr_eq(row, &resource.row)) {
                rows.push(resource.row.clone());
            }
        }
    }
    rows.truncate(MOST_KINDS);
    rows
}

/// The types of what names stand for on objects of a kind.
fn known(row: &KindRow, programs: &[(&str, Option<Program>)]) -> Vec<(&'static str, Type<'static>)> {
    let object = match for_gvk(&row.group, &row.version, &row.kind) {
        Some(of) => Type::Object(Rc::new(BuiltIn(of))),
        None => Type::Dyn,
    };
    let mut names = vec![("object", object.clone()), ("oldObject", object)];
    let mut variables = Variables::default();
    for (name, program) in programs {
        let of = program.as_ref().map(|program| {
            let known = Type::Object(Rc::new(variables.clone()));
            let names: Vec<_> = names.iter().cloned().chain([("variables", known)]).collect();
            program.check_types(&names).of
        });
        variables.0.push((name.to_string(), of.unwrap_or(Type::Dyn)));
    }
    names.push(("variables", Type::Object(Rc::new(variables))));
    names
}

/// What is wrong with an expression on objects of a kind.
fn check(row: &KindRow, names: &[(&str, Type<'static>)], program: &Program) -> Option<String> {
    let faults: Vec<String> = program.check_types(names).faults.iter().map(ToString::to_string).collect();
    if faults.is_empty() {
        return None;
    }
    let version = match &*row.group {
        "" => row.version.to_string(),
        group => format!("{group}/{}", row.version),
    };
    Some(format!("{version}, Kind={}: {}\n", row.kind, faults.join("\n")))
}

/// `variables`, as far as they have been read.
#[derive(Clone, Default)]
struct Variables(Vec<(String, Type<'static>)>);

impl Fields<'static> for Variables {
    fn name(&self) -> String {
        "kubernetes.variables".into()
    }

    fn field(&self, name: &str) -> Option<Type<'static>> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, of)| of.clone())
    }
}

/// An object of the table of types.
struct BuiltIn(TypeRef);

impl Fields<'static> for BuiltIn {
    fn name(&self) -> String {
        self.0.name()
    }

    fn field(&self, name: &str) -> Option<Type<'static>> {
        self.0.field(name).map(|field| of_field(field.ty))
    }
}

fn of_field(field: FieldType) -> Type<'static> {
    let one = match field.base {
        Base::String | Base::Quantity => Type::String,
        Base::Int32 | Base::Int64 => Type::Int,
        Base::Number => Type::Double,
        Base::Bool => Type::Bool,
        Base::Object(of) => Type::Object(Rc::new(BuiltIn(of))),
        _ => Type::Dyn,
    };
    match field.shape {
        Shape::One => one,
        Shape::List => Type::list(one),
        Shape::Map => Type::map(one),
        Shape::MapOfLists => Type::map(Type::list(one)),
    }
}
