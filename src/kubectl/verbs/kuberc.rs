//! `kubectl kuberc view | set`: the file of the user's preferences.

use std::path::Path;

use clap::{Args, Subcommand};

use crate::env::{print, print_line};
use crate::error::{Error, Result};
use crate::global::Global;
use crate::output::{OutputArgs, yaml};
use crate::preferences::{self, Alias, AllowlistEntry, Defaults, FlagDefault, Preferences};

/// Manage kuberc configuration files
#[derive(Args)]
pub(crate) struct KubercArgs {
    #[command(subcommand)]
    command: KubercCommand,
}

#[derive(Subcommand)]
enum KubercCommand {
    /// Display the current kuberc configuration
    View(ViewArgs),
    /// Set values in the kuberc configuration
    Set(Box<SetArgs>),
}

#[derive(Args)]
struct ViewArgs {
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args)]
struct SetArgs {
    /// defaults, aliases or credentialplugin
    #[arg(long)]
    section: String,
    /// The command to configure, such as get or "set env"
    #[arg(long)]
    command: Option<String>,
    /// Name of the alias
    #[arg(long)]
    name: Option<String>,
    /// AllowAll, DenyAll or Allowlist
    #[arg(long)]
    policy: Option<String>,
    /// FLAG=VALUE, may be repeated
    #[arg(long)]
    option: Vec<String>,
    /// Argument before the others, may be repeated (aliases)
    #[arg(long)]
    prependarg: Vec<String>,
    /// Argument after the others, may be repeated (aliases)
    #[arg(long)]
    appendarg: Vec<String>,
    /// command=PATH, may be repeated
    #[arg(long)]
    allowlist_entry: Vec<String>,
    /// Allow entries to be replaced
    #[arg(long)]
    overwrite: bool,
}

pub(crate) fn run(global: &Global, args: KubercArgs) -> Result<()> {
    let Some(place) = preferences::place(global.kuberc.as_deref())? else {
        return Err(Error::message("KUBERC is disabled via KUBERC=off environment variable"));
    };
    match args.command {
        KubercCommand::View(args) => view(&place, &args),
        KubercCommand::Set(args) => {
            args.check()?;
            let mut preferences = match read(&place.file)? {
                Some(text) if !text.trim().is_empty() => parsed(&text)?,
                _ => preferences::empty(),
            };
            args.apply(&mut preferences)?;
            save(&preferences, &place.file)
        }
    }
}

/// The file's text; none if there is no file.
fn read(file: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(Error::message(format!("error reading kuberc file: open {}: {error}", file.display())))
        }
    }
}

fn parsed(text: &str) -> Result<Preferences> {
    let wrong = |error: &dyn std::fmt::Display| Error::message(format!("error parsing kuberc file: {error}"));
    let value = crate::manifest::parse_yaml(text).map_err(|error| wrong(&error))?;
    serde_json::from_value(value).map_err(|error| wrong(&error))
}

fn save(preferences: &Preferences, file: &Path) -> Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(|error| {
            Error::message(format!("failed to create directory {}: {error}", folder.display()))
        })?;
    }
    let text = yaml::to_yaml(&preferences::tree(preferences)?);
    std::fs::write(file, text)
        .map_err(|error| Error::message(format!("failed to write kuberc file: {error}")))?;
    print(&format!("Updated {}\n", file.display()))
}

fn view(place: &preferences::Place, args: &ViewArgs) -> Result<()> {
    let text = match read(&place.file)? {
        Some(text) => text,
        None if place.is_explicit => {
            return Err(Error::message(format!("kuberc file not found at {}", place.file.display())));
        }
        None => return offer(&place.file),
    };
    let preferences = parsed(&text)?;
    let tree = preferences::tree(&preferences)?;
    let format = args.output.format()?;
    if format.is_human() {
        return print(&yaml::to_yaml(&tree));
    }
    print(&format.text(&tree, true, false)?)
}

/// Offers to make a file with what is recommended.
fn offer(file: &Path) -> Result<()> {
    print_line(&format!("kuberc file not found at {}", file.display()))?;
    print("Would you like to generate a default kuberc file with recommended options? (y/N): ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if !answer.trim().eq_ignore_ascii_case("y") {
        return Ok(());
    }
    let always = |command: &str, flag: &str| Defaults {
        command: command.to_string(),
        options: vec![FlagDefault { name: flag.to_string(), default: "true".to_string() }],
    };
    let mut preferences = preferences::empty();
    preferences.defaults = vec![always("apply", "server-side"), always("delete", "interactive")];
    save(&preferences, file)
}

impl SetArgs {
    fn check(&self) -> Result<()> {
        let wrong = |text: String| Err(Error::message(text));
        let is_set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        let is_credentials = self.section == "credentialplugin";
        if !matches!(self.section.as_str(), "defaults" | "aliases" | "credentialplugin") {
            return wrong(format!(
                "--section must be \"defaults\", \"aliases\", or \"credentialplugin\", got: {}",
                self.section
            ));
        }
        if self.section == "aliases" && !is_set(&self.name) {
            return wrong("--name is required when --section=aliases".to_string());
        }
        if self.section == "defaults" && is_set(&self.name) {
            return wrong("--name should not be specified when --section=defaults".to_string());
        }
        if self.section == "defaults" && !(self.prependarg.is_empty() && self.appendarg.is_empty()) {
            return wrong("--prependarg and --appendarg are only valid for --section=aliases".to_string());
        }
        if !is_credentials && !is_set(&self.command) {
            return wrong("--command is required when --section=aliases or --section=defaults".to_string());
        }
        if !is_credentials {
            return Ok(());
        }
        match self.policy.as_deref().unwrap_or_default() {
            "" => wrong("--policy is required when --section=credentialplugin".to_string()),
            "AllowAll" | "DenyAll" if !self.allowlist_entry.is_empty() => wrong(
                "--allowlist-entry may only be used when --section=credentialplugin and --policy=Allowlist"
                    .to_string(),
            ),
            "Allowlist" if self.allowlist_entry.is_empty() => wrong(
                "--allowlist-entry is required when --section=credentialplugin and --policy=Allowlist"
                    .to_string(),
            ),
            "AllowAll" | "DenyAll" | "Allowlist" => Ok(()),
            other => {
                wrong(format!(" --policy must be  \"AllowAll\", \"DenyAll\", or \"Allowlist\", got: {other}"))
            }
        }
    }

    fn apply(&self, preferences: &mut Preferences) -> Result<()> {
        match self.section.as_str() {
            "defaults" => self.set_defaults(preferences),
            "aliases" => self.set_alias(preferences),
            _ => self.set_policy(preferences),
        }
    }

    fn options(&self) -> Result<Vec<FlagDefault>> {
        let one = |text: &String| {
            let (name, default) = text.split_once('=').ok_or_else(|| {
                Error::message(format!("invalid option format {text:?}, expected flag=value"))
            })?;
            let name = name.trim_start_matches('-').to_string();
            Ok(FlagDefault { name, default: default.to_string() })
        };
        self.option.iter().map(one).collect()
    }

    fn set_defaults(&self, preferences: &mut Preferences) -> Result<()> {
        let command = self.command.clone().unwrap_or_default();
        let options = self.options()?;
        let Some(present) = preferences.defaults.iter_mut().find(|one| one.command == command) else {
            preferences.defaults.push(Defaults { command, options });
            return Ok(());
        };
        if !self.overwrite {
            return Err(Error::message(format!(
                "defaults for command {command:?} already exist, use --overwrite to replace"
            )));
        }
        // What is not given stays.
        if !options.is_empty() {
            present.options = options;
        }
        Ok(())
    }

    fn set_alias(&self, preferences: &mut Preferences) -> Result<()> {
        let mut alias = Alias {
            name: self.name.clone().unwrap_or_default(),
            command: self.command.clone().unwrap_or_default(),
            prepend_args: self.prependarg.clone(),
            append_args: self.appendarg.clone(),
            options: self.options()?,
        };
        let Some(present) = preferences.aliases.iter_mut().find(|one| one.name == alias.name) else {
            preferences.aliases.push(alias);
            return Ok(());
        };
        if !self.overwrite {
            return Err(Error::message(format!(
                "alias {:?} already exists, use --overwrite to replace",
                alias.name
            )));
        }
        // What is not given stays.
        if alias.options.is_empty() {
            alias.options = std::mem::take(&mut present.options);
        }
        if alias.prepend_args.is_empty() {
            alias.prepend_args = std::mem::take(&mut present.prepend_args);
        }
        if alias.append_args.is_empty() {
            alias.append_args = std::mem::take(&mut present.append_args);
        }
        *present = alias;
        Ok(())
    }

    fn set_policy(&self, preferences: &mut Preferences) -> Result<()> {
        let policy = self.policy.clone().unwrap_or_default();
        if policy == "Allowlist" {
            let mut entries = Vec::new();
            let mut wrong = Vec::new();
            for pair in self.allowlist_entry.iter().flat_map(|text| text.split(',')) {
                match pair.split_once('=') {
                    None => wrong.push(format!("improperly formatted allowlist entry: {pair:?}")),
                    Some(("name", _)) => wrong.push(
                        "allowlist entry field \"name\" is deprecated, use \"command\" instead".to_string(),
                    ),
                    Some(("command", value)) if value.trim().is_empty() => {
                        wrong.push("empty value in allowlist entry for field \"command\"".to_string());
                    }
                    Some(("command", value)) => {
                        entries
                            .push(AllowlistEntry { command: value.to_string(), ..AllowlistEntry::default() });
                    }
                    Some((field, _)) => {
                        wrong.push(format!("unrecognized allowlist entry field: {field:?}"));
                    }
                }
            }
            match &wrong[..] {
                [] => {}
                [one] => return Err(Error::message(one.clone())),
                many => return Err(Error::message(format!("[{}]", many.join(", ")))),
            }
            preferences.credential_plugin_allowlist = Some(entries);
        }
        preferences.credential_plugin_policy = policy;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
