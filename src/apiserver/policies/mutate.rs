//! What a mutating policy makes of an object.

use api::apply;
use api::patch;
use api::schema::Place;
use cel::{Activation, Budget, EvalError, ParseError, Program, Value as CelValue};
use serde_json::Value;

use super::error::PolicyError;
use super::policy::{Mutation, Policy, Read};
use super::verdict::with_variables;
use crate::expressions::{CONDITIONS_BUDGET, Inputs, Met, POLICY_BUDGET, met};

/// The object as the policy wants it; none if the policy leaves it as it is, an error if it fails.
pub(crate) fn mutate(
    policy: &Policy,
    inputs: &Inputs<'_>,
    root: Place<'_>,
) -> Result<Option<Value>, PolicyError> {
    match met(&policy.conditions, inputs, &Budget::of(CONDITIONS_BUDGET)) {
        Met::Yes => {}
        Met::No => return Ok(None),
        Met::Unknown(why) => return Err(PolicyError::Conditions(why)),
    }
    let budget = Budget::of(POLICY_BUDGET);
    let mut object = inputs.object.clone();
    for mutation in &policy.mutations {
        // Each sees what the one before has made.
        let present = object.clone();
        let inputs = Inputs { object: &present, ..*inputs };
        let activation = with_variables(policy, &inputs, &budget)?;
        match mutation {
            Mutation::Apply(read) => {
                let applied = applied(program(read)?, &activation, &budget)?;
                apply::merge(root, &mut object, &applied);
            }
            Mutation::Patch(read) => {
                let steps = steps(program(read)?, &activation, &budget)?;
                patch::json_patch(&mut object, &steps)
                    .map_err(|error| PolicyError::Patch(error.to_string()))?;
            }
        }
    }
    Ok((object != *inputs.object).then_some(object))
}

fn program(read: &Read) -> Result<&Program, ParseError> {
    read.as_ref().map_err(Clone::clone)
}

/// What is applied: an object, but for what says which object it is.
fn applied<'a>(
    program: &'a Program,
    activation: &Activation<'a>,
    budget: &Budget,
) -> Result<Value, PolicyError> {
    let told = |error: EvalError| PolicyError::evaluation(program, error);
    let other = |found: &str| PolicyError::Type { wanted: "Object", found: found.to_string() };
    let value = program.evaluate(activation).map_err(told)?;
    let CelValue::Struct(of) = &value else { return Err(other(value.type_name())) };
    if of.0 != "Object" {
        return Err(other(&of.0));
    }
    let applied = value.to_json(budget).map_err(told)?.ok_or(PolicyError::NotJson)?;
    for path in ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace", "/metadata/uid"] {
        if applied.pointer(path).is_some() {
            return Err(PolicyError::Identity(path[1..].replace('/', ".")));
        }
    }
    Ok(applied)
}

/// A list of `JSONPatch{…}` as a patch.
fn steps<'a>(
    program: &'a Program,
    activation: &Activation<'a>,
    budget: &Budget,
) -> Result<Value, PolicyError> {
    let told = |error: EvalError| PolicyError::evaluation(program, error);
    let other = |value: &CelValue<'_>| PolicyError::Type {
        wanted: "a list of JSONPatch",
        found: value.type_name().to_string(),
    };
    let value = program.evaluate(activation).map_err(told)?;
    let mut steps = Vec::new();
    for element in value.elements().ok_or_else(|| other(&value))? {
        match &element {
            CelValue::Struct(of) if of.0 == "JSONPatch" => {
                steps.push(element.to_json(budget).map_err(told)?.ok_or(PolicyError::NotJson)?);
            }
            _ => return Err(other(&element)),
        }
    }
    Ok(Value::Array(steps))
}
