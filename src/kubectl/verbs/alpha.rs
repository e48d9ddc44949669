//! `kubectl alpha`, which has no commands in this version, and `kubectl options`.

use clap::{Args, Command};

use crate::env::{print, tell};
use crate::error::Result;

/// Commands for features in alpha
#[derive(Args)]
pub(crate) struct AlphaArgs {
    #[arg(hide = true)]
    words: Vec<String>,
}

/// Print the list of flags inherited by all commands
#[derive(Args)]
pub(crate) struct OptionsArgs {
    #[arg(hide = true)]
    words: Vec<String>,
}

pub(crate) fn run() -> Result<()> {
    tell("No alpha commands are available in this version of kubectl");
    Ok(())
}

/// The flags that every command takes, as `FLAG=DEFAULT:` and what they are for.
pub(crate) fn options(root: &Command) -> Result<()> {
    let mut flags: Vec<_> = root.get_arguments().filter(|arg| !arg.is_positional()).collect();
    flags.retain(|arg| arg.get_long().is_some_and(|name| name != "help"));
    flags.sort_by_key(|arg| arg.get_long());
    let mut text = "The following options can be passed to any command:\n".to_string();
    for arg in flags {
        let name = arg.get_long().unwrap_or_default();
        let letter = arg.get_short().map(|letter| format!("-{letter}, ")).unwrap_or_default();
        let is_list = matches!(arg.get_action(), clap::ArgAction::Append);
        let default = match arg.get_default_values().first().and_then(|value| value.to_str()) {
            Some("0") if name == "request-timeout" => "'0'".to_string(),
            Some(value) => value.to_string(),
            None if is_list => "[]".to_string(),
            None if !crate::command_line::has_value(arg) => "false".to_string(),
            None => "''".to_string(),
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("\n    {letter}--{name}={default}:\n\t{help}\n"));
    }
    text.push_str("\nUsage:\n  kubectl [flags] [options]\n");
    print(&text)
}
