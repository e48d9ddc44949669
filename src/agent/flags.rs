//! Command lines, configuration files and environment, in that order of precedence: flag, `MINIK8S_*`, file,
//! default.
//!
//! A configuration file has the flags' names as keys. What it says is turned into flags and parsed by the
//! same parser, so that a value means the same wherever it stands. Mistakes are one line that names the
//! nearest thing that exists.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_yaml::Value;

use crate::Problem;

/// Why parsing did not give settings.
#[derive(Debug)]
pub enum Stop {
    /// Text that was asked for (help); exit with success.
    Text(String),
    Problem(Problem),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Stop::Problem(problem)
    }
}

/// As [`parse`], for a command that shares the configuration file of another: settings that only that one has
/// are passed over.
pub fn parse_part(
    command: Command,
    whole: &Command,
    arguments: &[OsString],
    default_config: &Path,
) -> Result<ArgMatches, Stop> {
    parse_with(command, Some(whole), arguments, default_config)
}

/// Parses what follows the subcommand's name. The command's name is the whole of it, such as `minik8s
/// server`; if it has a `config` flag, that file (or `default_config`, if it exists) is read too.
pub fn parse(command: Command, arguments: &[OsString], default_config: &Path) -> Result<ArgMatches, Stop> {
    parse_with(command, None, arguments, default_config)
}

fn parse_with(
    command: Command,
    whole: Option<&Command>,
    arguments: &[OsString],
    default_config: &Path,
) -> Result<ArgMatches, Stop> {
    let with_name = |more: Vec<OsString>| {
        let mut all = vec![OsString::from(command.get_name())];
        all.extend(more);
        all.extend(arguments.iter().cloned());
        all
    };
    let attempt = |all: Vec<OsString>| {
        command.clone().try_get_matches_from(all).map_err(|error| explain(&command, error))
    };
    let matches = attempt(with_name(Vec::new()))?;
    if !command.get_arguments().any(|argument| argument.get_id() == "config") {
        return Ok(matches);
    }
    let named: Option<&PathBuf> = matches.get_one("config");
    let path = match named {
        Some(path) => path.as_path(),
        None if default_config.exists() => default_config,
        None => return Ok(matches),
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        Problem::new(
            format!("read the configuration {}", path.display()),
            error,
            "correct --config or the file",
        )
    })?;
    let more = from_file(&command, whole, &matches, path, &text)?;
    if more.is_empty() { Ok(matches) } else { attempt(with_name(more)) }
}

/// The flags that a configuration file stands for, without those that the command line or the environment
/// has.
fn from_file(
    command: &Command,
    whole: Option<&Command>,
    given: &ArgMatches,
    path: &Path,
    text: &str,
) -> Result<Vec<OsString>, Problem> {
    let what = format!("use the configuration {}", path.display());
    let tree: Value = serde_yaml::from_str(text)
        .map_err(|error| Problem::new(&what, error, "it must be YAML with flags' names as keys"))?;
    let entries = match tree {
        Value::Null => return Ok(Vec::new()),
        Value::Mapping(entries) => entries,
        _ => {
            return Err(Problem::new(
                &what,
                "it is not a mapping",
                "it must be YAML with flags' names as keys",
            ));
        }
    };
    let mut flags = Vec::new();
    for (key, value) in entries {
        let key = key.as_str().unwrap_or_default().to_string();
        let known: Vec<_> =
            command.get_arguments().filter(|argument| argument.get_id() != "config").collect();
        let Some(argument) = known.iter().find(|argument| is_called(argument, &key)) else {
            if whole.is_some_and(|whole| whole.get_arguments().any(|argument| is_called(argument, &key))) {
                continue;
            }
            let near = nearest(&key, known.iter().filter_map(|argument| argument.get_long()));
            let advice = near.map_or("remove it".to_string(), |near| format!("did you mean {near}?"));
            return Err(Problem::new(&what, format!("there is no setting {key:?}"), advice));
        };
        let source = given.value_source(argument.get_id().as_str());
        if matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            continue;
        }
        let values = match value {
            Value::Sequence(values) => values,
            single => vec![single],
        };
        for value in values {
            let is_switch = matches!(argument.get_action(), ArgAction::SetTrue);
            match (is_switch, scalar(&value)) {
                (true, Some(text)) if text == "true" => flags.push(format!("--{key}").into()),
                (true, Some(text)) if text == "false" => {}
                (false, Some(text)) => flags.push(format!("--{key}={text}").into()),
                _ => {
                    let kind = if is_switch { "true or false" } else { "a text, a number or a list of them" };
                    return Err(Problem::new(
                        &what,
                        format!("{key} has a value of a wrong kind"),
                        format!("give {kind}"),
                    ));
                }
            }
        }
    }
    Ok(flags)
}

/// By its name, or by one that it has for the sake of other distributions' users.
fn is_called(argument: &Arg, name: &str) -> bool {
    argument.get_long() == Some(name)
        || argument.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// clap's paragraph as one line.
fn explain(command: &Command, error: clap::Error) -> Stop {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return Stop::Text(error.render().to_string()),
        _ => {}
    }
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let help = format!("see '{} --help'", command.get_name());
    let invalid = context(ContextKind::InvalidArg);
    if let (ErrorKind::UnknownArgument, Some(flag)) = (error.kind(), &invalid) {
        let known = command.get_arguments().filter_map(|argument| argument.get_long());
        let near = nearest(flag.trim_start_matches('-'), known);
        let advice = near.map_or(help.clone(), |near| format!("did you mean --{near}? {help}"));
        return Stop::Problem(Problem::plain(format!("unknown flag {flag}; {advice}")));
    }
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_string();
    Stop::Problem(Problem::plain(format!("{first}; {help}")))
}

/// The candidate that differs least from `wanted`, if it is close enough to be meant.
pub fn nearest<'a>(wanted: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.map(|candidate| (distance(wanted, candidate), candidate));
    scored.min().filter(|(distance, _)| *distance <= wanted.len().max(3) / 2).map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
