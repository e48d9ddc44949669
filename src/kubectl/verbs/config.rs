//! `kubectl config`: looking at and changing kubeconfig files. Needs no server.

mod entries;
mod property;

use clap::{Args, Subcommand};
use client::kubeconfig::{Entry, Kubeconfig, Loaded, NamedCluster, NamedContext, NamedUser, Places};
use serde_json::Value;

use crate::env::{Env, print, tell};
use crate::error::{Error, Result};
use crate::global::Global;
use crate::output::{Format, OutputArgs, json, text_table, yaml};

/// Modify kubeconfig files
#[derive(Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Display the current context
    #[command(name = "current-context")]
    Current,
    /// Delete the specified cluster from the kubeconfig
    #[command(name = "delete-cluster")]
    DeleteCluster { name: String },
    /// Delete the specified context from the kubeconfig
    #[command(name = "delete-context")]
    DeleteContext { name: String },
    /// Delete the specified user from the kubeconfig
    #[command(name = "delete-user")]
    DeleteUser { name: String },
    /// Display clusters
    #[command(name = "get-clusters")]
    Clusters,
    /// Describe one or many contexts
    #[command(name = "get-contexts")]
    Contexts(ContextsArgs),
    /// Display users
    #[command(name = "get-users")]
    Users,
    /// Rename a context from the kubeconfig file
    #[command(name = "rename-context")]
    RenameContext { context_name: String, new_name: String },
    /// Set an individual value in a kubeconfig file
    Set(property::SetArgs),
    /// Set a cluster entry in kubeconfig
    #[command(name = "set-cluster")]
    SetCluster(entries::ClusterArgs),
    /// Set a context entry in kubeconfig
    #[command(name = "set-context")]
    SetContext(SetContextArgs),
    /// Set a user entry in kubeconfig
    #[command(name = "set-credentials")]
    SetCredentials(entries::CredentialsArgs),
    /// Unset an individual value in a kubeconfig file
    Unset { property: String },
    /// Set the current context
    #[command(name = "use-context", alias = "use")]
    Use { name: String },
    /// Display merged settings
    View(ViewArgs),
}

#[derive(Args)]
struct ContextsArgs {
    names: Vec<String>,
    #[arg(long)]
    no_headers: bool,
    /// name: only names
    #[arg(short = 'o', long)]
    output: Option<String>,
}

#[derive(Args)]
struct SetContextArgs {
    name: Option<String>,
    /// Change the current context
    #[arg(long)]
    current: bool,
}

#[derive(Args)]
struct ViewArgs {
    #[command(flatten)]
    output: OutputArgs,
    /// Only what the current context uses
    #[arg(long)]
    minify: bool,
    /// Show certificates, keys and tokens
    #[arg(long)]
    raw: bool,
    /// Put the content of files in place of their paths
    #[arg(long)]
    flatten: bool,
    #[arg(long, default_value = "true", hide = true)]
    merge: String,
}

/// Runs without the configuration that other commands need: a change may be what makes the file.
pub(crate) fn run(global: Global, args: ConfigArgs) -> Result<()> {
    let places = Places::from_environment(global.kubeconfig.as_deref());
    let mut loaded = Loaded::load_for_change(&places)?;
    match args.command {
        ConfigCommand::View(args) => view(&Env::new(global)?, &args),
        ConfigCommand::Current => {
            if loaded.merged.current_context.is_empty() {
                return Err(Error::message("current-context is not set"));
            }
            print(&format!("{}\n", loaded.merged.current_context))
        }
        ConfigCommand::Use { name } => {
            loaded
                .use_context(&name)
                .map_err(|_| Error::message(format!("no context exists with the name: {name:?}")))?;
            print(&format!("Switched to context {name:?}.\n"))
        }
        ConfigCommand::Unset { property } => property::unset(&mut loaded, &property),
        ConfigCommand::Set(args) => property::set(&mut loaded, &args),
        ConfigCommand::SetCluster(args) => entries::set_cluster(&global, &mut loaded, &args),
        ConfigCommand::SetCredentials(args) => entries::set_credentials(&global, &mut loaded, &args),
        ConfigCommand::DeleteCluster { name } => {
            let file = delete::<NamedCluster>(&mut loaded, &name, "not in")?;
            print(&format!("deleted cluster {name} from {file}\n"))
        }
        ConfigCommand::DeleteUser { name } => {
            let file = delete::<NamedUser>(&mut loaded, &name, "not in")?;
            print(&format!("deleted user {name} from {file}\n"))
        }
        ConfigCommand::DeleteContext { name } => {
            let file = delete::<NamedContext>(&mut loaded, &name, "not in")?;
            if loaded.merged.current_context == name {
                tell(
                    "warning: this removed your active context, use \"kubectl config use-context\" to select a different one",
                );
            }
            print(&format!("deleted context {name} from {file}\n"))
        }
        ConfigCommand::RenameContext { context_name, new_name } => {
            rename(&mut loaded, &context_name, &new_name)
        }
        ConfigCommand::SetContext(args) => set_context(&global, &mut loaded, &args),
        ConfigCommand::Clusters => names("NAME", loaded.merged.clusters.iter().map(|one| &one.name)),
        ConfigCommand::Users => names("NAME", loaded.merged.users.iter().map(|one| &one.name)),
        ConfigCommand::Contexts(args) => contexts(&loaded.merged, &args),
    }
}

fn names<'a>(header: &str, names: impl Iterator<Item = &'a String>) -> Result<()> {
    let mut sorted: Vec<&String> = names.collect();
    sorted.sort();
    let lines: String = sorted.into_iter().map(|name| format!("{name}\n")).collect();
    print(&format!("{header}\n{lines}"))
}

/// Removes an entry; answers the file that upstream names: the one that new entries go to.
fn delete<E: Entry>(loaded: &mut Loaded, name: &str, missing: &str) -> Result<String> {
    let file = loaded.default_file().display().to_string();
    if !E::is_in(&loaded.merged, name) {
        return Err(Error::message(format!("cannot delete {} {name}, {missing} {file}", E::KIND)));
    }
    loaded.remove::<E>(name)?;
    Ok(file)
}

fn rename(loaded: &mut Loaded, name: &str, new_name: &str) -> Result<()> {
    let file = loaded.default_file().display().to_string();
    if new_name.is_empty() {
        return Err(Error::message("You must specify a new non-empty context name"));
    }
    if loaded.merged.context(name).is_none() {
        return Err(Error::message(format!("cannot rename the context {name:?}, it's not in {file}")));
    }
    if loaded.merged.context(new_name).is_some() {
        return Err(Error::message(format!(
            "cannot rename the context {name:?}, the context {new_name:?} already exists in {file}"
        )));
    }
    loaded.rename_context(name, new_name)?;
    print(&format!("Context {name:?} renamed to {new_name:?}.\n"))
}

fn set_context(global: &Global, loaded: &mut Loaded, args: &SetContextArgs) -> Result<()> {
    let name = match (&args.name, args.current) {
        (Some(name), false) => name.clone(),
        (None, true) if !loaded.merged.current_context.is_empty() => loaded.merged.current_context.clone(),
        (None, true) => return Err(Error::message("no current context is set")),
        (Some(_), true) => {
            return Err(Error::message("you cannot specify both a context name and --current"));
        }
        (None, false) => {
            return Err(Error::message("you must specify a non-empty context name or --current"));
        }
    };
    let is_new = loaded.set::<NamedContext>(&name, |context| {
        for (field, value) in [(&mut context.cluster, &global.cluster), (&mut context.user, &global.user)] {
            if let Some(value) = value {
                field.clone_from(value);
            }
        }
        if let Some(namespace) = &global.namespace {
            context.namespace = Some(namespace.clone());
        }
    })?;
    print(&format!("Context {name:?} {}.\n", if is_new { "created" } else { "modified" }))
}

fn contexts(config: &Kubeconfig, args: &ContextsArgs) -> Result<()> {
    let mut shown: Vec<_> = config.contexts.iter().collect();
    shown.sort_by(|a, b| a.name.cmp(&b.name));
    if !args.names.is_empty() {
        for name in &args.names {
            if config.context(name).is_none() {
                return Err(Error::message(format!("context {name} not found")));
            }
        }
        shown.retain(|one| args.names.contains(&one.name));
    }
    match args.output.as_deref() {
        None | Some("") => {}
        Some("name") => return print(&shown.iter().map(|one| format!("{}\n", one.name)).collect::<String>()),
        Some(other) => {
            return Err(Error::message(format!("output must be one of '' or 'name': {other}")));
        }
    }
    let mut lines: Vec<Vec<String>> = Vec::new();
    if !args.no_headers {
        lines.push(["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"].map(str::to_string).to_vec());
    }
    for one in shown {
        let mark = if one.name == config.current_context { "*" } else { "" };
        let namespace = one.context.namespace.clone().unwrap_or_default();
        lines.push(vec![
            mark.to_string(),
            one.name.clone(),
            one.context.cluster.clone(),
            one.context.user.clone(),
            namespace,
        ]);
    }
    print(&text_table::format(&lines))
}

fn view(env: &Env, args: &ViewArgs) -> Result<()> {
    let mut config = env.loaded.merged.clone();
    if let Some(context) = &env.overrides.context {
        config.current_context.clone_from(context);
    }
    if args.minify {
        minify(&mut config)?;
    }
    if args.flatten {
        flatten(&mut config)?;
    }
    if !args.raw {
        redact(&mut config);
    }
    let mut tree: Value = serde_json::to_value(&config)?;
    for list in ["clusters", "contexts", "users"] {
        // kubectl writes an empty list as null.
        if tree[list].as_array().is_some_and(Vec::is_empty) {
            tree[list] = Value::Null;
        }
    }
    match args.output.format()? {
        Format::Human { .. } | Format::Yaml => print(&yaml::to_yaml(&tree)),
        Format::Json => print(&json::pretty(&tree)),
        format => print(&format.text(&tree, true, false)?),
    }
}

fn minify(config: &mut Kubeconfig) -> Result<()> {
    let name = config.current_context.clone();
    if name.is_empty() {
        return Err(Error::message("current-context must exist in order to minify"));
    }
    let Some(context) = config.context(&name).cloned() else {
        return Err(Error::message(format!("cannot locate context {name}")));
    };
    config.contexts.retain(|one| one.name == name);
    config.clusters.retain(|one| one.name == context.cluster);
    config.users.retain(|one| one.name == context.user);
    Ok(())
}

fn flatten(config: &mut Kubeconfig) -> Result<()> {
    use base64::Engine;
    let inline = |path: &mut Option<std::path::PathBuf>, data: &mut Option<String>| -> Result<()> {
        if let Some(file) = path.take() {
            let bytes = std::fs::read(&file)
                .map_err(|error| Error::message(format!("open {}: {error}", file.display())))?;
            *data = Some(base64::engine::general_purpose::STANDARD.encode(bytes));
        }
        Ok(())
    };
    for one in &mut config.clusters {
        inline(&mut one.cluster.certificate_authority, &mut one.cluster.certificate_authority_data)?;
    }
    for one in &mut config.users {
        inline(&mut one.user.client_certificate, &mut one.user.client_certificate_data)?;
        inline(&mut one.user.client_key, &mut one.user.client_key_data)?;
    }
    Ok(())
}

fn redact(config: &mut Kubeconfig) {
    let hide = |data: &mut Option<String>, text: &str| {
        if let Some(data) = data.as_mut().filter(|data| !data.is_empty()) {
            *data = text.to_string();
        }
    };
    for one in &mut config.clusters {
        hide(&mut one.cluster.certificate_authority_data, "DATA+OMITTED");
    }
    for one in &mut config.users {
        hide(&mut one.user.client_certificate_data, "DATA+OMITTED");
        hide(&mut one.user.client_key_data, "DATA+OMITTED");
        hide(&mut one.user.token, "REDACTED");
        hide(&mut one.user.password, "REDACTED");
    }
}
