//! What a validating policy says about a request.

use cel::{Activation, Budget, EvalError, ParseError, Program, Value as CelValue};

use super::error::PolicyError;
use super::policy::{Policy, Read, Validation};
use crate::expressions::{CONDITIONS_BUDGET, Inputs, Met, POLICY_BUDGET, met};

/// A message may be so long.
const MESSAGE: usize = 5 * 1024;
/// And the value of an annotation of the audit log.
const ANNOTATION: usize = 10 * 1024;

/// Why a policy does not let a request pass.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// Empty where an expression failed: then it is the API's own default.
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// What an expression that could not be evaluated means: nothing, or a denial.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passes,
    /// The policy's conditions do not hold.
    Unconcerned,
    Denied(Vec<Denial>),
}

fn failed(message: String) -> Denial {
    Denial { reason: String::new(), message }
}

/// Puts a request to a policy, with one of its parameters if it has some.
pub(crate) fn judge(policy: &Policy, inputs: &Inputs<'_>) -> Outcome {
    let fails = |message: String| match policy.fails_open {
        true => Outcome::Passes,
        false => Outcome::Denied(vec![failed(message)]),
    };
    match met(&policy.conditions, inputs, &Budget::of(CONDITIONS_BUDGET)) {
        Met::Yes => {}
        Met::No => return Outcome::Unconcerned,
        Met::Unknown(why) => return fails(why),
    }
    let budget = Budget::of(POLICY_BUDGET);
    let activation = match with_variables(policy, inputs, &budget) {
        Ok(activation) => activation,
        Err(why) => return fails(why.to_string()),
    };
    let mut denials = Vec::new();
    for validation in &policy.validations {
        match check(validation, &activation) {
            Ok(true) => {}
            Ok(false) => {
                let message = message(validation, &activation);
                denials.push(Denial { reason: validation.reason.clone(), message });
            }
            Err(_) if policy.fails_open => {}
            Err(why) => denials.push(failed(why.to_string())),
        }
    }
    if denials.is_empty() { Outcome::Passes } else { Outcome::Denied(denials) }
}

/// What a policy tells the audit log of a request that it is about: a null tells nothing.
pub(crate) fn annotations(policy: &Policy, inputs: &Inputs<'_>) -> Vec<(String, String)> {
    let is_met = matches!(met(&policy.conditions, inputs, &Budget::of(CONDITIONS_BUDGET)), Met::Yes);
    let budget = Budget::of(POLICY_BUDGET);
    let activation = match with_variables(policy, inputs, &budget) {
        Ok(activation) if is_met => activation,
        _ => return Vec::new(),
    };
    let mut told = Vec::new();
    for (key, program) in &policy.annotations {
        if let Ok(program) = program
            && let Ok(CelValue::String(text)) = program.evaluate(&activation)
        {
            told.push((key.clone(), text.trim().chars().take(ANNOTATION).collect()));
        }
    }
    told
}

/// The names of a policy's expressions, its variables among them.
pub(super) fn with_variables<'a>(
    policy: &'a Policy,
    inputs: &Inputs<'a>,
    budget: &'a Budget,
) -> Result<Activation<'a>, PolicyError> {
    let variable = |(name, program): &'a (String, Read)| match program {
        Ok(program) => Ok((name.as_str(), program)),
        Err(why) => Err(why.clone()),
    };
    let variables: Result<Vec<(&str, &Program)>, ParseError> =
        policy.variables.iter().map(variable).collect();
    Ok(inputs.activation(budget).variables(variables?))
}

fn check<'a>(validation: &'a Validation, activation: &Activation<'a>) -> Result<bool, PolicyError> {
    let program = validation.expression.as_ref().map_err(Clone::clone)?;
    program.holds(activation).map_err(|error| match error {
        EvalError::Cost => PolicyError::Budget,
        error => PolicyError::evaluation(program, error),
    })
}

/// One line, of the expression for it if that comes to one.
fn message<'a>(validation: &'a Validation, activation: &Activation<'a>) -> String {
    let made = validation.message_expression.as_ref().and_then(|program| program.as_ref().ok());
    let made = made.and_then(|program| program.evaluate(activation).ok());
    if let Some(CelValue::String(text)) = made {
        let text = text.trim();
        if !text.is_empty() && text.len() <= MESSAGE && !text.contains('\n') {
            return text.to_string();
        }
    }
    match validation.message.as_str() {
        "" => format!("failed expression: {}", validation.source),
        message => message.to_string(),
    }
}
