//! The user's preferences (`~/.kube/kuberc`, KEP-3104): aliases of commands, defaults of flags, and which
//! credential plugins may run. A line is rewritten before it is parsed, so that nothing else has to know of
//! them.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use clap::Command;
use client::kubeconfig::PluginPolicy;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::command_line::{self, Named};
use crate::env::tell;
use crate::error::{Error, Result};
use crate::manifest::{parse_yaml, split_yaml};
use crate::terminal::warn;

const GROUP: &str = "kubectl.config.k8s.io";

/// The file's content, in its newest version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Preferences {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    #[serde(deserialize_with = "null_is_empty", alias = "overrides")]
    pub(crate) defaults: Vec<Defaults>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) aliases: Vec<Alias>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) credential_plugin_policy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) credential_plugin_allowlist: Option<Vec<AllowlistEntry>>,
}

/// Values that the flags of a command have unless they are given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Defaults {
    pub(crate) command: String,
    #[serde(deserialize_with = "null_is_empty", alias = "flags")]
    pub(crate) options: Vec<FlagDefault>,
}

/// Another name for a command, with flags and arguments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Alias {
    pub(crate) name: String,
    pub(crate) command: String,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub(crate) prepend_args: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub(crate) append_args: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty", alias = "flags")]
    pub(crate) options: Vec<FlagDefault>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct FlagDefault {
    pub(crate) name: String,
    pub(crate) default: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AllowlistEntry {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) command: String,
}

fn null_is_empty<'de, D, T>(decoder: D) -> std::result::Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(decoder)?.unwrap_or_default())
}

/// Why a file cannot be used.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
struct Unusable(String);

/// Where the preferences are.
#[derive(Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    /// The user named the file: then it must be there.
    pub(crate) is_explicit: bool,
}

/// The file of `--kuberc`, of `KUBERC`, else the one in the home directory; none if they are turned off.
pub(crate) fn place(flag: Option<&str>) -> Result<Option<Place>> {
    let variable = std::env::var("KUBERC").unwrap_or_default();
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    place_of(flag, &variable, home)
}

fn place_of(flag: Option<&str>, variable: &str, home: Option<PathBuf>) -> Result<Option<Place>> {
    let flag = flag.filter(|file| !file.is_empty());
    if variable == "off" {
        return match flag {
            None => Ok(None),
            Some(_) => Err(Error::message(
                "disabling kuberc via KUBERC=off and passing kuberc flag are mutually exclusive",
            )),
        };
    }
    let named = flag.or(Some(variable).filter(|file| !file.is_empty()));
    let own = || home.map(|home| Place { file: home.join(".kube/kuberc"), is_explicit: false });
    Ok(named.map(|file| Place { file: file.into(), is_explicit: true }).or_else(own))
}

/// `--kuberc` of a line that is not parsed yet.
fn flag_of(words: &[String]) -> Result<Option<String>> {
    let missing = || Error::message("kuberc file is not found");
    for (at, word) in words.iter().take_while(|word| *word != "--").enumerate() {
        if word == "--kuberc" {
            return words.get(at + 1).cloned().map(Some).ok_or_else(missing);
        }
        if let Some(file) = word.strip_prefix("--kuberc=") {
            return Some(file.to_string()).filter(|file| !file.is_empty()).map(Some).ok_or_else(missing);
        }
    }
    Ok(None)
}

/// What the file of a place says; none if there is nothing.
fn load(place: &Place) -> Result<Option<Preferences>> {
    let shown = place.file.display();
    let outcome = match std::fs::read_to_string(&place.file) {
        Ok(text) => read(&text, &shown.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !place.is_explicit => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Unusable(format!("open {shown}: no such file or directory")))
        }
        Err(error) => Err(Unusable(format!("open {shown}: {error}"))),
    };
    match outcome {
        Ok(preferences) => Ok(preferences),
        Err(why) if place.is_explicit => Err(Error::message(format!("kuberc error kuberc: {why}"))),
        Err(why) => {
            tell(&format!("kuberc: no preferences loaded from {shown}: {why}"));
            Ok(None)
        }
    }
}

/// The first document that holds preferences.
fn read(text: &str, file: &str) -> std::result::Result<Option<Preferences>, Unusable> {
    let mut tried = false;
    for document in split_yaml(text) {
        tried = true;
        let Ok(value) = parse_yaml(&document) else { continue };
        let known = ["v1alpha1", "v1beta1"].iter().any(|one| value["apiVersion"] == format!("{GROUP}/{one}"));
        if !known || value["kind"] != "Preference" {
            continue;
        }
        if let Ok(preferences) = serde_json::from_value::<Preferences>(value) {
            return Ok(Some(preferences));
        }
    }
    match tried {
        true => Err(Unusable(format!("no valid preferences found in {file}, use --v=5 to see details"))),
        false => Ok(None),
    }
}

impl Preferences {
    fn validate(&self) -> Result<()> {
        let flags = |options: &[FlagDefault]| match options.iter().find(|one| one.name.starts_with('-')) {
            Some(one) => {
                Err(Error::message(format!("flag name {} should be in long form without dashes", one.name)))
            }
            None => Ok(()),
        };
        for (at, alias) in self.aliases.iter().enumerate() {
            if alias.name.is_empty() || !alias.name.chars().all(|c| c.is_ascii_alphabetic()) {
                return Err(Error::message("invalid alias name, can only include alphabetical characters"));
            }
            flags(&alias.options)?;
            if self.aliases[..at].iter().any(|other| other.name == alias.name) {
                return Err(Error::message(format!("duplicate alias name {}", alias.name)));
            }
        }
        self.defaults.iter().try_for_each(|one| flags(&one.options))
    }

    /// Which credential plugins may run.
    pub(crate) fn plugin_policy(&self) -> Result<PluginPolicy> {
        let list = self.credential_plugin_allowlist.as_deref();
        let wrong = |text: String| Err(Error::message(text));
        match (self.credential_plugin_policy.as_str(), list) {
            (policy @ ("" | "AllowAll" | "DenyAll"), Some(_)) => wrong(format!(
                "misconfigured credential plugin allowlist: plugin policy is {policy:?} but allowlist is non-nil"
            )),
            ("" | "AllowAll", None) => Ok(PluginPolicy::AllowAll),
            ("DenyAll", None) => Ok(PluginPolicy::DenyAll),
            ("Allowlist", None) => wrong(
                "credential plugin policy set to \"Allowlist\", but allowlist is unspecified".to_string(),
            ),
            ("Allowlist", Some([])) => wrong(
                "credential plugin policy set to \"Allowlist\", but allowlist is empty; use \"DenyAll\" policy instead"
                    .to_string(),
            ),
            ("Allowlist", Some(list)) => {
                for (at, entry) in list.iter().enumerate() {
                    if entry.command.is_empty() && entry.name.is_empty() {
                        return wrong(format!(
                            "misconfigured credential plugin allowlist: empty allowlist entry #{}",
                            at + 1
                        ));
                    }
                    let cleaned = crate::paths::clean(&entry.command);
                    if entry.command.is_empty() {
                        return wrong(format!("empty file path: {:?}", entry.command));
                    }
                    if cleaned != entry.command {
                        return wrong(format!("non-normalized file path: {:?} vs {cleaned:?}", entry.command));
                    }
                }
                Ok(PluginPolicy::Allowlist(list.iter().map(|entry| entry.command.clone()).collect()))
            }
            (other, _) => wrong(format!("unknown plugin policy: {other:?}")),
        }
    }

    /// The line with aliases replaced and defaults put in. The first word is the program's name.
    fn rewritten(&self, root: &Command, mut words: Vec<String>) -> Result<Vec<String>> {
        // What is completed is a line of its own.
        let start = 1 + usize::from(words.get(1).is_some_and(|word| word.starts_with("__complete")));
        if words.len() <= start {
            return Ok(words);
        }
        let line = words.split_off(start);
        let named = command_line::find(root, &line);
        let line = match named.last {
            Some(_) => self.with_defaults(root, &named, line)?,
            None => self.with_alias(root, &named, line)?,
        };
        words.extend(line);
        Ok(words)
    }

    fn with_alias(&self, root: &Command, named: &Named, mut line: Vec<String>) -> Result<Vec<String>> {
        let Some(at) = named.other else { return Ok(line) };
        let Some(alias) = self.aliases.iter().find(|alias| alias.name == line[at]) else { return Ok(line) };
        let path: Vec<String> = alias.command.split_whitespace().map(str::to_string).collect();
        let found = command_line::find(root, &path);
        if found.last.is_none() || found.other.is_some() {
            return Err(Error::message(format!(
                "command {:?} not found to set alias {:?}: [{}]",
                alias.command,
                alias.name,
                path.join(" ")
            )));
        }
        if self.defaults.iter().any(|one| one.command == alias.name) {
            return Err(Error::message(format!("alias {} can not be overridden", alias.name)));
        }
        let flags = put_in(root, &found.path, &line, &alias.options, |name| {
            format!("invalid alias flag {name} in alias {}", alias.name)
        })?;
        let replaced = path.into_iter().chain(flags).chain(alias.prepend_args.iter().cloned());
        line.splice(at..=at, replaced);
        line.extend(alias.append_args.iter().cloned());
        Ok(line)
    }

    fn with_defaults(&self, root: &Command, named: &Named, mut line: Vec<String>) -> Result<Vec<String>> {
        let Some(last) = named.last else { return Ok(line) };
        let mut flags = Vec::new();
        for one in &self.defaults {
            let path: Vec<String> = one.command.split_whitespace().map(str::to_string).collect();
            let found = command_line::find(root, &path);
            if found.last.is_none() || found.other.is_some() {
                warn(&format!("command {:?} not found to set kuberc override", one.command));
                continue;
            }
            if found.path == named.path {
                flags.extend(put_in(root, &named.path, &line, &one.options, |name| {
                    format!("invalid flag {name} for command {}", one.command)
                })?);
            }
        }
        let after = last + 1;
        line.splice(after..after, flags);
        Ok(line)
    }
}

/// Flags with the values that they have unless the line gives them.
fn put_in(
    root: &Command,
    path: &[String],
    line: &[String],
    options: &[FlagDefault],
    unknown: impl Fn(&str) -> String,
) -> Result<Vec<String>> {
    let all = command_line::flags(root, path);
    let mut flags = Vec::new();
    for option in options {
        let Some(arg) = all.iter().find(|arg| arg.get_long() == Some(option.name.as_str())) else {
            return Err(Error::message(unknown(&option.name)));
        };
        if !command_line::gives(line, arg, &all) {
            flags.push(format!("--{}={}", option.name, option.default));
        }
    }
    Ok(flags)
}

/// The line to parse, and which credential plugins may run.
pub(crate) fn apply(args: Vec<OsString>, root: &Command) -> Result<(Vec<OsString>, PluginPolicy)> {
    let words: Option<Vec<String>> = args.iter().map(|word| word.to_str().map(str::to_string)).collect();
    // A word that is no text can be neither an alias nor a flag; the line stays as it is.
    let Some(words) = words.filter(|words| words.len() > 1) else {
        return Ok((args, PluginPolicy::default()));
    };
    let Some(place) = place(flag_of(&words)?.as_deref())? else { return Ok((args, PluginPolicy::default())) };
    let Some(preferences) = load(&place)? else { return Ok((args, PluginPolicy::default())) };
    let policy = preferences.plugin_policy()?;
    preferences.validate()?;
    let words = preferences.rewritten(root, words)?;
    Ok((words.into_iter().map(OsString::from).collect(), policy))
}

/// As JSON, for printing and writing.
pub(crate) fn tree(preferences: &Preferences) -> Result<Value> {
    Ok(serde_json::to_value(preferences)?)
}

/// Preferences that say nothing.
pub(crate) fn empty() -> Preferences {
    Preferences {
        api_version: format!("{GROUP}/v1beta1"),
        kind: "Preference".to_string(),
        ..Preferences::default()
    }
}

#[cfg(test)]
mod tests;
