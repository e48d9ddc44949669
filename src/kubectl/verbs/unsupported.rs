//! Commands that kubectl has and this server cannot serve yet: one clear line each, and a failure.

use clap::Args;

use crate::error::{Error, Result};

#[derive(Args)]
pub(crate) struct AnyArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _any: Vec<String>,
}

pub(crate) fn run(verb: &str) -> Result<()> {
    Err(Error::message(format!("{verb} is not offered by this kubectl yet")))
}
