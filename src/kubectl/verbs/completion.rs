//! `kubectl completion SHELL`.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::env::print;
use crate::error::{Error, Result};

/// Output shell completion code for the specified shell (bash, zsh, fish, or powershell)
#[derive(Args)]
pub(crate) struct CompletionArgs {
    shell: Option<String>,
}

pub(crate) fn run(args: &CompletionArgs, command: &mut Command) -> Result<()> {
    let shell = match args.shell.as_deref() {
        None => return Err(Error::usage("kubectl completion", "Shell not specified.")),
        Some("bash") => Shell::Bash,
        Some("zsh") => Shell::Zsh,
        Some("fish") => Shell::Fish,
        Some("powershell") => Shell::PowerShell,
        Some(other) => {
            return Err(Error::usage("kubectl completion", format!("Unsupported shell type {other:?}.")));
        }
    };
    let mut out = Vec::new();
    clap_complete::generate(shell, command, "kubectl", &mut out);
    print(&String::from_utf8_lossy(&out))
}
