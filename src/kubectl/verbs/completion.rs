//! `kubectl completion SHELL`: scripts that ask `kubectl __complete` what a word can be.

use clap::Args;

use crate::env::print;
use crate::error::{Error, Result};

/// Output shell completion code for the specified shell (bash, zsh, fish, or powershell)
#[derive(Args)]
pub(crate) struct CompletionArgs {
    shell: Vec<String>,
}

pub(crate) fn run(args: &CompletionArgs) -> Result<()> {
    let script = match &args.shell[..] {
        [] => return Err(Error::usage("kubectl completion", "Shell not specified.")),
        [shell] => match shell.as_str() {
            "bash" => include_str!("completion/kubectl.bash"),
            "zsh" => include_str!("completion/kubectl.zsh"),
            "fish" => include_str!("completion/kubectl.fish"),
            "powershell" => include_str!("completion/kubectl.ps1"),
            other => {
                return Err(Error::usage("kubectl completion", format!("Unsupported shell type {other:?}.")));
            }
        },
        _ => {
            return Err(Error::usage(
                "kubectl completion",
                "Too many arguments. Expected only the shell type.",
            ));
        }
    };
    print(script)
}
