//! `kubectl plugin list`, and commands that are programs of their own: `kubectl foo bar` runs
//! `kubectl-foo-bar`, or `kubectl-foo` with the argument `bar`, from PATH.
//!
//! Only a command that kubectl does not have itself can be a plugin; below `create` a kind that it does not
//! have can be one, too. Absent: completion of a plugin's arguments (`kubectl_complete-NAME`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use clap::{Args, Command, Subcommand};

use crate::env::{print, tell};
use crate::error::{Error, Result};

/// Provides utilities for interacting with plugins
#[derive(Args)]
pub(crate) struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Subcommand)]
enum PluginCommand {
    /// List all visible plugin executables on a user's PATH
    List(ListArgs),
}

#[derive(Args)]
struct ListArgs {
    /// Only the names of the programs
    #[arg(long)]
    name_only: bool,
}

const PREFIX: &str = "kubectl-";

fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// The words of a command line that can name a plugin; none if the command is kubectl's own.
fn words<'a>(args: &'a [OsString], command: &Command) -> Option<&'a [OsString]> {
    let arguments = args.get(1..)?;
    let first = arguments.first()?.to_str()?;
    if first.starts_with('-') || matches!(first, "help" | "__complete" | "__completeNoDesc") {
        return None;
    }
    let flags_at = |words: &[OsString]| {
        words.iter().position(|word| word.as_bytes().starts_with(b"-")).unwrap_or(words.len())
    };
    match command.find_subcommand(first) {
        None => Some(&arguments[..flags_at(arguments)]),
        Some(create) if create.get_name() == "create" => {
            let kind = arguments.get(1)?.to_str().filter(|kind| !kind.starts_with('-'))?;
            let words = &arguments[..flags_at(arguments)];
            create.find_subcommand(kind).is_none().then_some(words)
        }
        Some(_) => None,
    }
}

/// The program with the longest name that the words make, and how many of them are in it.
fn find(words: &[OsString], least: usize, path: &OsStr) -> Option<(PathBuf, usize)> {
    for count in (least..=words.len()).rev() {
        let parts: Vec<String> =
            words[..count].iter().map(|word| word.to_string_lossy().replace('-', "_")).collect();
        let name = format!("{PREFIX}{}", parts.join("-"));
        if name.contains('/') {
            continue;
        }
        let found =
            std::env::split_paths(path).map(|folder| folder.join(&name)).find(|file| is_program(file));
        if let Some(found) = found {
            return Some((found, count));
        }
    }
    None
}

fn is_program(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Becomes the plugin that a command line names; comes back only if there is none, or with what failed.
pub(crate) fn become_named(args: &[OsString], command: &Command) -> Option<Error> {
    let words = words(args, command)?;
    let is_own = command.find_subcommand(&words[0]).is_some();
    let (program, count) = find(words, if is_own { 2 } else { 1 }, &path())?;
    let error = Process::new(&program).args(&args[1 + count..]).exec();
    Some(Error::message(format!("failed to run {:?}: {error}", program.display().to_string())))
}

pub(crate) fn run(args: &PluginArgs, command: &Command) -> Result<()> {
    let PluginCommand::List(list) = &args.command;
    let mut told = Vec::new();
    let found = listed(&path(), &mut told);
    told.iter().for_each(|line| tell(line));
    let mut failures = Vec::new();
    match found.is_empty() {
        true => failures.push("error: unable to find any kubectl plugins in your PATH".to_string()),
        false => print("The following compatible plugins are available:\n\n")?,
    }
    let mut seen = BTreeMap::new();
    let mut warnings = 0;
    for file in &found {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match list.name_only {
            true => print(&format!("{name}\n"))?,
            false => print(&format!("{}\n", file.display()))?,
        }
        for warning in verify(file, &name, &mut seen, command) {
            tell(&format!("  - {warning}"));
            warnings += 1;
        }
    }
    match warnings {
        0 => {}
        1 => failures.push("error: one plugin warning was found".to_string()),
        many => failures.push(format!("error: {many} plugin warnings were found")),
    }
    if failures.is_empty() { Ok(()) } else { Err(Error::Raw(failures.join("\n"))) }
}

/// Every file on the path that is named like a plugin.
fn listed(path: &OsStr, told: &mut Vec<String>) -> Vec<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut found = Vec::new();
    for folder in std::env::split_paths(path) {
        if folder.as_os_str().is_empty() || !folders.insert(folder.clone()) {
            continue;
        }
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                let shown = folder.display().to_string();
                told.push(format!("Unable to read directory {shown:?} from your PATH: {error}. Skipping..."));
                continue;
            }
        };
        let is_named = |file: &PathBuf| {
            let name = file.file_name().unwrap_or_default();
            name.as_bytes().starts_with(PREFIX.as_bytes()) && !file.is_dir()
        };
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_named).collect();
        files.sort();
        found.append(&mut files);
    }
    found
}

/// What keeps a plugin from being run.
fn verify(file: &Path, name: &str, seen: &mut BTreeMap<String, PathBuf>, command: &Command) -> Vec<String> {
    let mut warnings = Vec::new();
    let shown = file.display();
    match std::fs::metadata(file) {
        Ok(_) if is_program(file) => {}
        Ok(_) => warnings
            .push(format!("warning: {shown} identified as a kubectl plugin, but it is not executable")),
        Err(error) => {
            warnings.push(format!("error: unable to identify {shown} as an executable file: {error}"));
        }
    }
    match seen.get(name) {
        Some(first) => warnings.push(format!(
            "warning: {shown} is overshadowed by a similarly named plugin: {}",
            first.display()
        )),
        None => drop(seen.insert(name.to_string(), file.to_path_buf())),
    }
    let first = name.trim_start_matches(PREFIX).split('-').next().unwrap_or_default();
    if let Some(own) = command.find_subcommand(first)
        && (first != "create" || name == "kubectl-create")
    {
        let path = format!("kubectl {}", own.get_name());
        warnings.push(format!("warning: {name} overwrites existing command: {path:?}"));
    }
    warnings
}

#[cfg(test)]
mod tests;
