//! What the API is told about pods: made ([`generate`], pure) and sent ([`sender`]).

pub(crate) mod conditions;
pub(crate) mod containers;
pub(crate) mod generate;
pub(crate) mod input;
pub(crate) mod sender;

#[cfg(test)]
mod tests;
