//! `kubectl __complete WORDS…`: what the last word can be, with names from the server; the shells' scripts
//! call it at every press of the tabulator.
//!
//! The answer is cobra's, so that upstream's scripts work with it, too: a candidate a line, a tabulator and a
//! description behind it, and at the end a colon and how the shell is to take them.

mod found;
mod takes;

use std::ffi::OsString;
use std::time::Duration;

use clap::{Arg, Command};

use crate::command_line::{self, Named};
use crate::env::{print, tell};
use crate::error::Result;

use found::{config, containers, entries, env, names, ports};
use takes::{Takes, takes};

/// How a shell takes candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Directive {
    /// Without candidates, names of files.
    Default = 0,
    /// Only candidates.
    NoFiles = 4,
    /// Only candidates, and no space after them.
    NoSpace = 6,
    /// Candidates are extensions of files.
    Extensions = 8,
}

impl Directive {
    fn name(self) -> &'static str {
        match self {
            Directive::Default => "ShellCompDirectiveDefault",
            Directive::NoFiles => "ShellCompDirectiveNoFileComp",
            Directive::NoSpace => "ShellCompDirectiveNoSpace, ShellCompDirectiveNoFileComp",
            Directive::Extensions => "ShellCompDirectiveFilterFileExt",
        }
    }
}

/// Candidates, each perhaps with a description.
type Candidates = Vec<(String, String)>;
type Answer = (Candidates, Directive);

/// A line that is to be completed.
pub(crate) struct Line {
    words: Vec<String>,
    describes: bool,
}

/// The words of `__complete`, if a command line is one.
pub(crate) fn line_of(args: &[OsString]) -> Option<Line> {
    let describes = match args.get(1)?.to_str()? {
        "__complete" => true,
        "__completeNoDesc" => false,
        _ => return None,
    };
    let words = args[2..].iter().map(|word| word.to_string_lossy().into_owned()).collect();
    Some(Line { words, describes })
}

/// Longer than this nobody waits for candidates.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn run(root: &Command, line: &Line) -> i32 {
    let Some((last, before)) = line.words.split_last() else {
        tell("Error: __complete command requires at least one argument");
        return 1;
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return 1 };
    let wanted = wanted(root, before, last);
    let answer = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, candidates(root, before, &wanted)).await.unwrap_or_else(|_| nothing())
    });
    runtime.shutdown_background();
    let (mut found, directive) = answer;
    if directive != Directive::Extensions {
        found.retain(|(name, _)| name.starts_with(&wanted.prefix));
    }
    let mut text = String::new();
    for (name, description) in found {
        match line.describes && !description.is_empty() {
            true => text.push_str(&format!("{name}\t{description}\n")),
            false => text.push_str(&format!("{name}\n")),
        }
    }
    text.push_str(&format!(":{}\n", directive as i32));
    if print(&text).is_err() {
        return 1;
    }
    tell(&format!("Completion ended with directive: {}", directive.name()));
    0
}

fn nothing() -> Answer {
    (Vec::new(), Directive::NoFiles)
}

/// What a word stands for.
#[derive(Debug, PartialEq)]
enum What {
    /// A flag's name.
    Flag,
    /// The value of this flag.
    Value(String),
    /// A subcommand, or this argument of the command.
    Argument(Vec<String>),
    /// Behind `--`: another program's words.
    Foreign,
}

#[derive(Debug, PartialEq)]
struct Wanted {
    named: Named,
    what: What,
    /// What candidates begin with.
    prefix: String,
}

/// What the last word of a line is.
fn wanted(root: &Command, before: &[String], last: &str) -> Wanted {
    let named = command_line::find(root, before);
    let of = |what: What, prefix: &str| Wanted { named: named.clone(), what, prefix: prefix.to_string() };
    if before.iter().any(|word| word == "--") {
        return of(What::Foreign, last);
    }
    let flags = command_line::flags(root, &named.path);
    if let Some(flag) = before.last().and_then(|word| waiting(&flags, word)) {
        return of(What::Value(flag), last);
    }
    if last.starts_with('-') {
        return match last.strip_prefix("--").and_then(|rest| rest.split_once('=')) {
            Some((name, value)) => of(What::Value(name.to_string()), value),
            None => of(What::Flag, last),
        };
    }
    let mut arguments = Vec::new();
    let mut at = named.last.map_or(0, |last| last + 1);
    while let Some(word) = before.get(at) {
        if word.starts_with('-') && word.len() > 1 {
            at += usize::from(waiting(&flags, word).is_some());
        } else {
            arguments.push(word.clone());
        }
        at += 1;
    }
    of(What::Argument(arguments), last)
}

/// The flag that waits for its value after a word.
fn waiting(flags: &[&Arg], word: &str) -> Option<String> {
    let name = |arg: &&&Arg| arg.get_long().unwrap_or_default().to_string();
    if let Some(long) = word.strip_prefix("--") {
        let found = flags.iter().find(|arg| arg.get_long() == Some(long));
        return found.filter(|arg| command_line::has_value(arg)).as_ref().map(name);
    }
    let letters = word.strip_prefix('-')?;
    let mut letters = letters.chars().peekable();
    while let Some(letter) = letters.next() {
        let arg = flags.iter().find(|arg| arg.get_short() == Some(letter))?;
        if command_line::has_value(arg) {
            return letters.peek().is_none().then(|| name(&arg));
        }
    }
    None
}

async fn candidates(root: &Command, before: &[String], wanted: &Wanted) -> Answer {
    match &wanted.what {
        What::Foreign => (Vec::new(), Directive::Default),
        What::Flag => (flag_names(root, wanted), Directive::NoFiles),
        What::Value(flag) => value(root, before, wanted, flag).await,
        What::Argument(arguments) => argument(root, before, wanted, arguments).await,
    }
}

fn flag_names(root: &Command, wanted: &Wanted) -> Candidates {
    let long_only = wanted.prefix.starts_with("--");
    let mut found = Vec::new();
    for arg in command_line::flags(root, &wanted.named.path) {
        let help = arg.get_help().map(|help| first_line(&help.to_string())).unwrap_or_default();
        if let Some(letter) = arg.get_short().filter(|_| !long_only) {
            found.push((format!("-{letter}"), help.clone()));
        }
        if let Some(name) = arg.get_long() {
            found.push((format!("--{name}"), help));
        }
    }
    found
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_string()
}

fn plain(names: impl IntoIterator<Item = impl Into<String>>) -> Candidates {
    let mut names: Vec<String> = names.into_iter().map(Into::into).collect();
    names.sort();
    names.dedup();
    names.into_iter().map(|name| (name, String::new())).collect()
}

const FORMATS: [&str; 14] = [
    "json",
    "yaml",
    "kyaml",
    "name",
    "go-template",
    "go-template-file",
    "template",
    "templatefile",
    "jsonpath",
    "jsonpath-as-json",
    "jsonpath-file",
    "custom-columns",
    "custom-columns-file",
    "wide",
];

/// Candidates for the value of a flag.
async fn value(root: &Command, before: &[String], wanted: &Wanted, flag: &str) -> Answer {
    let only = |found: Candidates| (found, Directive::NoFiles);
    let command = wanted.named.path.join(" ");
    match flag {
        "namespace" => only(names(root, before, "namespaces").await),
        "context" => only(config(root, before, |loaded| entries(&loaded.merged.contexts, |one| &one.name))),
        "cluster" => only(config(root, before, |loaded| entries(&loaded.merged.clusters, |one| &one.name))),
        "user" if command != "set subject" && !command.starts_with("create ") => {
            only(config(root, before, |loaded| entries(&loaded.merged.users, |one| &one.name)))
        }
        "output" => {
            let formats = FORMATS.iter().map(|name| ((*name).to_string(), String::new()));
            (formats.collect(), Directive::NoFiles)
        }
        "filename" => (plain(["json", "yaml", "yml"]), Directive::Extensions),
        "dry-run" => only(plain(["none", "client", "server"])),
        "cascade" => only(plain(["background", "foreground", "orphan"])),
        "subresource" => only(plain(["status", "scale", "resize", "ephemeralcontainers"])),
        "container" => match first_argument(root, before, &wanted.named) {
            Some(pod) => only(containers(root, before, &pod).await),
            None => nothing(),
        },
        "clusterrole" => only(names(root, before, "clusterroles").await),
        "role" => only(names(root, before, "roles").await),
        "serviceaccount" => only(names(root, before, "serviceaccounts").await),
        _ => (Vec::new(), Directive::Default),
    }
}

/// The first word that is neither a command nor a flag nor a flag's value.
fn first_argument(root: &Command, before: &[String], named: &Named) -> Option<String> {
    let flags = command_line::flags(root, &named.path);
    let mut at = named.last.map_or(0, |last| last + 1);
    while let Some(word) = before.get(at) {
        if !word.starts_with('-') {
            return Some(word.clone());
        }
        at += 1 + usize::from(waiting(&flags, word).is_some());
    }
    None
}

/// Candidates for an argument: subcommands of a group of commands, else what the command takes.
async fn argument(root: &Command, before: &[String], wanted: &Wanted, arguments: &[String]) -> Answer {
    let Some(command) = command_line::at(root, &wanted.named.path) else { return nothing() };
    if command.has_subcommands() && arguments.is_empty() {
        let shown = |one: &&Command| !one.is_hide_set() && one.get_name() != "help";
        let describe = |one: &Command| one.get_about().map(|about| first_line(&about.to_string()));
        let mut found: Candidates = command
            .get_subcommands()
            .filter(shown)
            .map(|one| (one.get_name().to_string(), describe(one).unwrap_or_default()))
            .collect();
        found.sort();
        return (found, Directive::NoFiles);
    }
    let only = |found: Candidates| (found, Directive::NoFiles);
    let first = arguments.is_empty();
    match takes(&wanted.named.path.join(" ")) {
        Takes::Objects(kinds) => objects(root, before, arguments, &wanted.prefix, kinds, true).await,
        Takes::Object(kinds) => objects(root, before, arguments, &wanted.prefix, kinds, false).await,
        Takes::Kind if first => only(kinds(root, before, &[], &wanted.prefix).await),
        Takes::Name(kind) if first => only(names(root, before, kind).await),
        Takes::Names(kind) => {
            let mut found = names(root, before, kind).await;
            found.retain(|(name, _)| !arguments.contains(name));
            only(found)
        }
        Takes::Pod | Takes::PodAndContainer | Takes::PodAndPorts if first => {
            pod_or_owner(root, before, &wanted.prefix).await
        }
        Takes::PodAndContainer if arguments.len() == 1 => only(containers(root, before, &arguments[0]).await),
        Takes::PodAndPorts if arguments.len() == 1 => {
            only(ports(root, before, &arguments[0], &wanted.prefix).await)
        }
        Takes::PodPath if !wanted.prefix.contains([':', '/', '.']) => {
            let pods = names(root, before, "pods").await;
            (
                pods.into_iter().map(|(name, _)| (format!("{name}:"), String::new())).collect(),
                Directive::NoSpace,
            )
        }
        Takes::Contexts if first => {
            only(config(root, before, |loaded| entries(&loaded.merged.contexts, |one| &one.name)))
        }
        Takes::Clusters if first => {
            only(config(root, before, |loaded| entries(&loaded.merged.clusters, |one| &one.name)))
        }
        Takes::Users if first => {
            only(config(root, before, |loaded| entries(&loaded.merged.users, |one| &one.name)))
        }
        Takes::Words(words) if first => {
            only(words.iter().map(|word| ((*word).to_string(), String::new())).collect())
        }
        Takes::Files | Takes::PodPath => (Vec::new(), Directive::Default),
        _ => nothing(),
    }
}

/// `TYPE NAME…` or `TYPE/NAME…`.
async fn objects(
    root: &Command,
    before: &[String],
    arguments: &[String],
    prefix: &str,
    of: &[&str],
    repeats: bool,
) -> Answer {
    if let Some(kind) = arguments.first().filter(|first| !first.contains('/')) {
        if !repeats && arguments.len() > 1 {
            return nothing();
        }
        let mut found = names(root, before, kind).await;
        found.retain(|(name, _)| !arguments[1..].contains(name));
        return (found, Directive::NoFiles);
    }
    if !repeats && !arguments.is_empty() {
        return nothing();
    }
    if let Some((kind, _)) = prefix.split_once('/') {
        let found = names(root, before, kind).await;
        let mut found: Candidates =
            found.into_iter().map(|(name, _)| (format!("{kind}/{name}"), String::new())).collect();
        found.retain(|(name, _)| !arguments.contains(name));
        return (found, Directive::NoFiles);
    }
    let found = kinds(root, before, of, prefix).await;
    if arguments.is_empty() {
        return (found, Directive::NoFiles);
    }
    (found.into_iter().map(|(kind, _)| (format!("{kind}/"), String::new())).collect(), Directive::NoSpace)
}

/// Kinds: those that a command takes, else all that can be read. The last one of a list is completed.
async fn kinds(root: &Command, before: &[String], of: &[&str], prefix: &str) -> Candidates {
    if !of.is_empty() {
        return of.iter().map(|kind| ((*kind).to_string(), String::new())).collect();
    }
    let found = async {
        let env = env(root, before)?;
        let discovery = env.discovery().await?;
        let readable = discovery.rows.iter().filter(|row| row.allows("get"));
        let name = |row: &crate::discovery::Row| match row.group.is_empty() {
            true => row.plural.to_string(),
            false => format!("{}.{}", row.plural, row.group),
        };
        Result::Ok(readable.map(name).collect::<Vec<_>>())
    };
    let listed = prefix.rfind(',').map_or("", |at| &prefix[..=at]);
    let found = found.await.unwrap_or_default();
    plain(found.into_iter().map(|name| format!("{listed}{name}")))
}

/// A pod, or a kind that has pods with a slash behind it, or an object of such a kind.
async fn pod_or_owner(root: &Command, before: &[String], prefix: &str) -> Answer {
    const OWNERS: [&str; 8] = [
        "daemonsets",
        "deployments",
        "jobs",
        "pods",
        "replicasets",
        "replicationcontrollers",
        "services",
        "statefulsets",
    ];
    if let Some((kind, _)) = prefix.split_once('/') {
        let found = names(root, before, kind).await;
        let found = found.into_iter().map(|(name, _)| (format!("{kind}/{name}"), String::new())).collect();
        return (found, Directive::NoFiles);
    }
    let mut found = names(root, before, "pods").await;
    let owners: Vec<&str> = OWNERS.into_iter().filter(|kind| kind.starts_with(prefix)).collect();
    let directive = if owners.is_empty() { Directive::NoFiles } else { Directive::NoSpace };
    found.extend(owners.into_iter().map(|kind| (format!("{kind}/"), String::new())));
    (found, directive)
}

#[cfg(test)]
mod tests;
