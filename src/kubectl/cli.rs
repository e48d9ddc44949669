//! The command line: how it is parsed, and parse errors in kubectl's words.
//!
//! Flags behave as in pflag: switches take `=true` and `=false`, a value may begin with a dash, flags and
//! arguments mix.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Command, CommandFactory, FromArgMatches, Parser};

use crate::global::Global;
use crate::verbs::Verb;

/// kubectl controls the Kubernetes cluster manager.
#[derive(Parser)]
#[command(
    name = "kubectl",
    disable_version_flag = true,
    disable_help_subcommand = false,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// How parsing ended without a command to run.
pub(crate) struct Stop {
    pub(crate) text: String,
    pub(crate) code: i32,
}

/// The definition with pflag's habits.
pub(crate) fn command() -> Command {
    pflag_habits(Cli::command())
}

fn pflag_habits(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue => {
            let default =
                if arg.get_default_values().iter().any(|value| value == "true") { "true" } else { "false" };
            arg.action(ArgAction::Set)
                .value_parser(clap::builder::BoolishValueParser::new())
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .default_value(default)
                .hide_default_value(default == "false")
                .hide_possible_values(true)
        }
        ArgAction::Set | ArgAction::Append if !arg.is_positional() && arg.get_num_args().is_none() => {
            arg.allow_hyphen_values(true)
        }
        _ => arg,
    });
    command.mut_subcommands(pflag_habits)
}

pub(crate) fn parse(args: Vec<OsString>) -> Result<Cli, Stop> {
    parse_with(args, command())
}

/// As [`parse`], with the definition at hand: making it takes longer than parsing.
pub(crate) fn parse_with(args: Vec<OsString>, mut command: Command) -> Result<Cli, Stop> {
    let matches = command.try_get_matches_from_mut(args.clone());
    let parsed = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    let mut cli = parsed.map_err(|error| stop(&mut command, &args, &error))?;
    let has_subjects = match &cli.verb {
        Verb::Create(create) => create.has_subjects(),
        Verb::Set(set) => set.has_subjects(),
        _ => false,
    };
    if has_subjects {
        // There --user names whom to bind, not the kubeconfig's user.
        cli.global.user = None;
    }
    Ok(cli)
}

/// `kubectl rollout status`: the subcommands among the arguments.
fn path_of(command: &Command, args: &[OsString]) -> String {
    let mut path = "kubectl".to_string();
    let mut current = command;
    for arg in args.iter().skip(1) {
        if let Some(next) = arg.to_str().and_then(|name| current.find_subcommand(name)) {
            path.push(' ');
            path.push_str(next.get_name());
            current = next;
        }
    }
    path
}

fn stop(command: &mut Command, args: &[OsString], error: &clap::Error) -> Stop {
    let value = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    let path = path_of(command, args);
    let help = match &*path {
        "kubectl diff" => format!("See '{path} -h' for help and examples"),
        _ => format!("See '{path} --help' for usage."),
    };
    let flag_name =
        || value(ContextKind::InvalidArg).split([' ', '=']).next().unwrap_or_default().to_string();
    let text = match error.kind() {
        ErrorKind::DisplayHelp => return Stop { text: error.render().to_string(), code: 0 },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A group of commands without one of them is a mistake; kubectl alone is not.
            return Stop { text: error.render().to_string(), code: i32::from(path != "kubectl") };
        }
        ErrorKind::UnknownArgument => unknown_argument(&flag_name(), &help),
        ErrorKind::InvalidSubcommand => {
            let name = value(ContextKind::InvalidSubcommand);
            if path == "kubectl create" {
                let words = args.iter().skip(2).map(|word| word.to_string_lossy());
                let words: Vec<_> = words.take_while(|word| !word.starts_with('-')).collect();
                let text = format!(
                    "error: Unexpected args: [{}]\nSee '{path} -h' for help and examples",
                    words.join(" ")
                );
                return Stop { text, code: 1 };
            }
            if path != "kubectl" {
                return Stop {
                    text: format!("error: unknown command {name:?}\nSee '{path} -h' for help and examples"),
                    code: 1,
                };
            }
            let mut text = format!("error: unknown command {name:?} for {path:?}");
            let near = value(ContextKind::SuggestedSubcommand);
            if !near.is_empty() {
                let lines: Vec<String> = near.split(", ").map(|one| format!("\t{one}")).collect();
                text.push_str(&format!("\n\nDid you mean this?\n{}", lines.join("\n")));
            }
            text
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation
            if value(ContextKind::InvalidValue).is_empty() =>
        {
            no_value(args, &flag_name(), &help)
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let (bad, flag) = (value(ContextKind::InvalidValue), flag_name());
            format!("error: invalid argument {bad:?} for {flag:?} flag\n{help}")
        }
        ErrorKind::MissingRequiredArgument => missing(&value(ContextKind::InvalidArg), &path),
        _ => {
            let text = error.render().to_string();
            let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_string();
            format!("error: {first}\n{help}")
        }
    };
    // The exit code of a comparison says what it found.
    Stop { text, code: if path == "kubectl diff" { 2 } else { 1 } }
}

fn unknown_argument(flag: &str, help: &str) -> String {
    if let Some(letter) = flag.strip_prefix('-').filter(|rest| !rest.starts_with('-')) {
        let first = letter.chars().next().unwrap_or_default();
        format!("error: unknown shorthand flag: '{first}' in {flag}\n{help}")
    } else if flag.starts_with("--") {
        format!("error: unknown flag: {flag}\n{help}")
    } else {
        format!("error: unexpected argument {flag:?}\n{help}")
    }
}

/// A flag without its value, as it was typed.
fn no_value(args: &[OsString], flag: &str, help: &str) -> String {
    let typed = args.iter().filter_map(|arg| arg.to_str()).rfind(|arg| arg.starts_with('-')).unwrap_or(flag);
    match typed.strip_prefix('-').filter(|rest| !rest.starts_with('-')) {
        Some(short) => {
            let last = short.chars().last().unwrap_or_default();
            format!("error: flag needs an argument: '{last}' in {typed}\n{help}")
        }
        None => format!("error: flag needs an argument: {typed}\n{help}"),
    }
}

/// What is required and was not given: flags, or else a name.
fn missing(arguments: &str, path: &str) -> String {
    let flags: Vec<String> = arguments
        .split(", ")
        .filter_map(|one| one.strip_prefix("--"))
        .filter_map(|one| one.split(' ').next())
        .map(|flag| format!("{flag:?}"))
        .collect();
    match &flags[..] {
        [] => format!("error: exactly one NAME is required, got 0\nSee '{path} -h' for help and examples"),
        flags => format!("error: required flag(s) {} not set", flags.join(", ")),
    }
}

#[cfg(test)]
mod tests;
