//! `authorizer`: questions to the server's authorizer, put together step by step.

use std::rc::Rc;

use super::call::{Answer, Call, text_of};
use crate::authorizer::Check;
use crate::error::EvalError;
use crate::opaque::Opaque;
use crate::value::Value;

pub(super) const NAMES: &[&str] = &[
    "path",
    "group",
    "serviceAccount",
    "resource",
    "subresource",
    "namespace",
    "name",
    "check",
    "allowed",
    "reason",
    "errored",
    "error",
    "fieldSelector",
    "labelSelector",
];

/// What a question to an authorizer costs.
const COST: u64 = 350_000;

impl Value<'_> {
    /// What the name `authorizer` stands for; with a resource, what `authorizer.requestResource` does.
    pub fn authorizer(check: Check) -> Self {
        Value::Opaque(Rc::new(Opaque::Check(check)))
    }
}

pub(super) fn call<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    let Some(Value::Opaque(target)) = &call.target else { return None };
    let check = match &**target {
        Opaque::Check(check) => check,
        Opaque::Decision(decision) => {
            return Some(Ok(match call.name {
                "allowed" => Value::Bool(decision.allowed),
                "reason" => Value::text(decision.reason.clone()),
                "errored" => Value::Bool(false),
                "error" => Value::text(""),
                _ => return None,
            }));
        }
        _ => return None,
    };
    let mut texts = call.arguments.iter().filter_map(text_of).map(str::to_string);
    let text = texts.next()?;
    let mut next = check.clone();
    match call.name {
        "path" => next.path = Some(text),
        "group" => next.group = text,
        "resource" => next.resource = text,
        "subresource" => next.subresource = text,
        "namespace" => next.namespace = text,
        "name" => next.name = text,
        "serviceAccount" => next.service_account = Some((text, texts.next()?)),
        // They narrow what may be listed; the rules of this server do not know them.
        "fieldSelector" | "labelSelector" => {}
        "check" => {
            next.verb = text;
            if let Err(error) = call.budget.spend(COST) {
                return Some(Err(error));
            }
            let Some(authorizer) = call.authorizer else {
                return Some(Err(EvalError::other("no authorizer")));
            };
            return Some(Ok(Value::Opaque(Rc::new(Opaque::Decision(authorizer.check(&next))))));
        }
        _ => return None,
    }
    Some(Ok(Value::authorizer(next)))
}
