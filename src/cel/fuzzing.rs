//! A way in for the fuzz target: what a user could write as a rule, on what another could write as an object.
//! Kept here so that what the target has found is tried by ordinary tests, too.

use serde_json::{Value as Json, json};

use crate::{Activation, Authorizer, Budget, Check, Decision, Program, Value};

/// So many steps an evaluation has: a tenth of what a rule has, for the sake of speed.
const STEPS: u64 = 100_000;

struct Nobody;

impl Authorizer for Nobody {
    fn check(&self, _: &Check) -> Decision {
        Decision::default()
    }
}

/// Any text is an expression or is refused, at a place that is in it. An expression on any object comes to a
/// value or an error, and to the same again; its JSON and its text are paid like everything else.
///
/// Input: the expression; after a zero the object as JSON.
///
/// # Panics
///
/// If that does not hold.
pub fn cel(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let (source, object) = input.split_once('\0').unwrap_or((input, ""));
    let example =
        json!({ "a": 1, "b": "two", "c": [1.5, null, true], "d": { "e": ["x", "y"], "f": "10Mi" } });
    let object: Json = serde_json::from_str(object).unwrap_or(example);
    let names = ["self", "oldSelf", "authorizer", "variables"];
    let program = match Program::compile(source, &names) {
        Ok(program) => program,
        Err(error) => {
            let lines = source.split('\n').count();
            assert!((1..=lines).contains(&error.line), "{error:?}");
            return;
        }
    };
    let first = evaluate(&program, &object);
    assert_eq!(first, evaluate(&program, &object), "{source}");
}

fn evaluate(program: &Program, object: &Json) -> (String, u64) {
    let budget = Budget::of(STEPS);
    let activation = Activation::new(&budget)
        .set("self", object)
        .set("oldSelf", Value::optional(Some(Value::from(object))))
        .set("authorizer", Value::authorizer(Check::default()))
        .variables(vec![("own", program)])
        .authorizer(&Nobody);
    let value = program.evaluate(&activation);
    let json = value.as_ref().ok().map(|value| value.to_json(&budget));
    let told = match (&value, json) {
        (Err(error), _) => error.to_string(),
        (Ok(value), Some(Ok(Some(json)))) => format!("{} {json}", value.type_name()),
        (Ok(value), _) => value.type_name().to_string(),
    };
    (told, budget.left())
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_fuzz_target_has_found_breaks_nothing() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/seeds/cel");
        let mut count = 0;
        for entry in std::fs::read_dir(seeds).expect("seeds").flatten() {
            super::cel(&std::fs::read(entry.path()).expect("a seed"));
            count += 1;
        }
        assert!(count > 0);
    }
}
