//! Functions, by the names that expressions have for them. Each family has a file; the first that knows a
//! name for these values answers.

mod authorizer;
mod call;
mod convert;
mod lists;
mod math;
mod net;
mod optional;
mod quantity;
mod strings;
mod time;

use crate::error::EvalError;
use crate::value::{Evaluated, Value};
pub(crate) use call::Call;

const NAMESPACES: [&str; 7] = ["math", "sets", "lists", "optional", "base64", "format", "jsonpatch"];

pub(crate) fn is_namespace(name: &str) -> bool {
    NAMESPACES.contains(&name) || name == "strings" || name == "ip"
}

const NAMES: &[&[&str]] = &[
    convert::NAMES,
    strings::NAMES,
    lists::NAMES,
    math::NAMES,
    time::NAMES,
    optional::NAMES,
    quantity::NAMES,
    net::NAMES,
    authorizer::NAMES,
];

/// Whether there is a function of this name.
pub(crate) fn is_known(name: &str) -> bool {
    NAMES.iter().any(|family| family.contains(&name))
}

/// Calls a function, after a look at all that is given is paid. Families pay for what is more than that.
pub(crate) fn call<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let size = call.target.iter().chain(&call.arguments).map(Value::size).fold(0, u64::saturating_add);
    call.budget.tenths(size.saturating_add(10))?;
    let answer = convert::call(call)
        .or_else(|| strings::call(call))
        .or_else(|| lists::call(call))
        .or_else(|| math::call(call))
        .or_else(|| time::call(call))
        .or_else(|| optional::call(call))
        .or_else(|| quantity::call(call))
        .or_else(|| net::call(call))
        .or_else(|| authorizer::call(call));
    answer.unwrap_or(Err(EvalError::NoOverload))
}
