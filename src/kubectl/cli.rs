//! The command line: global flags, the verbs, and parse errors in kubectl's words.
//!
//! Flags behave as in pflag: switches take `=true` and `=false`, a value may begin with a dash, flags and arguments mix.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{
    annotate, api_resources, apply, auth, certificate, cluster_info, completion, config, cordon, create,
    delete, describe, drain, edit, events, explain, expose, get, label, logs, patch, proxy, replace, rollout,
    run_pod, scale, set, taint, unsupported, version, wait,
};

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

/// Flags that every command takes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Path to the kubeconfig file
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The kubeconfig context to use
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) context: Option<String>,
    /// The kubeconfig cluster to use
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) cluster: Option<String>,
    /// The kubeconfig user to use
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) user: Option<String>,
    /// The namespace of this request
    #[arg(short = 'n', long, global = true)]
    pub(crate) namespace: Option<String>,
    /// Address and port of the API server
    #[arg(short = 's', long, global = true, hide_short_help = true)]
    pub(crate) server: Option<String>,
    /// Bearer token
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) token: Option<String>,
    /// File of the certificate authority
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) certificate_authority: Option<String>,
    /// File of the client certificate
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) client_certificate: Option<String>,
    /// File of the client key
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) client_key: Option<String>,
    /// Name to verify the server's certificate for
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) tls_server_name: Option<String>,
    /// Do not verify the server's certificate
    #[arg(
        long,
        global = true,
        hide_short_help = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(crate) insecure_skip_tls_verify: Option<bool>,
    /// How long to wait for one answer (0: no limit)
    #[arg(long, global = true, hide_short_help = true, default_value = "0")]
    pub(crate) request_timeout: String,
    /// User to impersonate
    #[arg(long = "as", global = true, hide_short_help = true)]
    pub(crate) impersonate: Option<String>,
    /// Group to impersonate, may be repeated
    #[arg(long = "as-group", global = true, hide_short_help = true)]
    pub(crate) impersonate_groups: Vec<String>,
    /// Treat warnings of the server as errors
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) warnings_as_errors: bool,
    /// Log level; 6 and more tell each request
    #[arg(short = 'v', long = "v", global = true, hide_short_help = true, default_value_t = 0)]
    pub(crate) verbosity: i32,
    /// Accepted for compatibility; nothing is cached
    #[arg(long, global = true, hide = true)]
    pub(crate) cache_dir: Option<String>,
    /// Accepted for compatibility
    #[arg(long, global = true, hide = true)]
    pub(crate) match_server_version: bool,
    /// Accepted for compatibility; answers are never compressed
    #[arg(long, global = true, hide = true)]
    pub(crate) disable_compression: bool,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    Create(Box<create::CreateArgs>),
    Expose(expose::ExposeArgs),
    Run(run_pod::RunArgs),
    Set(set::SetArgs),
    Explain(explain::ExplainArgs),
    Get(get::GetArgs),
    Edit(edit::EditArgs),
    Delete(delete::DeleteArgs),
    Rollout(Box<rollout::RolloutArgs>),
    Scale(scale::ScaleArgs),
    Certificate(certificate::CertificateArgs),
    #[command(name = "cluster-info")]
    ClusterInfo(cluster_info::ClusterInfoArgs),
    Cordon(cordon::CordonArgs),
    Uncordon(cordon::CordonArgs),
    Drain(drain::DrainArgs),
    Taint(taint::TaintArgs),
    Describe(describe::DescribeArgs),
    Logs(logs::LogsArgs),
    Proxy(proxy::ProxyArgs),
    Auth(auth::AuthArgs),
    Events(events::EventsArgs),
    Apply(apply::ApplyArgs),
    Patch(patch::PatchArgs),
    Replace(replace::ReplaceArgs),
    Wait(wait::WaitArgs),
    Label(label::LabelArgs),
    Annotate(annotate::AnnotateArgs),
    Completion(completion::CompletionArgs),
    #[command(name = "api-resources")]
    ApiResources(api_resources::ApiResourcesArgs),
    #[command(name = "api-versions")]
    ApiVersions(api_resources::ApiVersionsArgs),
    Config(config::ConfigArgs),
    Version(version::VersionArgs),
    /// Execute a command in a container (not offered yet)
    Exec(unsupported::AnyArgs),
    /// Attach to a running container (not offered yet)
    Attach(unsupported::AnyArgs),
    /// Forward local ports to a pod (not offered yet)
    #[command(name = "port-forward")]
    PortForward(unsupported::AnyArgs),
    /// Copy files to and from containers (not offered yet)
    Cp(unsupported::AnyArgs),
    /// Display resource usage (not offered yet)
    Top(unsupported::AnyArgs),
    /// Debug workloads and nodes (not offered yet)
    Debug(unsupported::AnyArgs),
    /// Diff the live version against a would-be applied version (not offered yet)
    Diff(unsupported::AnyArgs),
    /// Auto-scale a deployment (not offered yet)
    Autoscale(unsupported::AnyArgs),
    /// Build a kustomization target (not offered yet)
    Kustomize(unsupported::AnyArgs),
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
    let mut command = command();
    let matches = command.try_get_matches_from_mut(args.clone());
    let parsed = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    let mut cli = parsed.map_err(|error| stop(&mut command, &args, &error))?;
    if let Verb::Create(create) = &cli.verb
        && create.has_subjects()
    {
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
    let help = format!("See '{path} --help' for usage.");
    let flag_name =
        || value(ContextKind::InvalidArg).split([' ', '=']).next().unwrap_or_default().to_string();
    let text = match error.kind() {
        ErrorKind::DisplayHelp => return Stop { text: error.render().to_string(), code: 0 },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A group of commands without one of them is a mistake; kubectl alone is not.
            return Stop { text: error.render().to_string(), code: i32::from(path != "kubectl") };
        }
        ErrorKind::UnknownArgument => {
            let flag = flag_name();
            if let Some(letter) = flag.strip_prefix('-').filter(|rest| !rest.starts_with('-')) {
                let first = letter.chars().next().unwrap_or_default();
                format!("error: unknown shorthand flag: '{first}' in {flag}\n{help}")
            } else if flag.starts_with("--") {
                format!("error: unknown flag: {flag}\n{help}")
            } else {
                format!("error: unexpected argument {flag:?}\n{help}")
            }
        }
        ErrorKind::InvalidSubcommand => {
            let name = value(ContextKind::InvalidSubcommand);
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
            let flag = flag_name();
            let typed =
                args.iter().filter_map(|arg| arg.to_str()).rfind(|arg| arg.starts_with('-')).unwrap_or(&flag);
            match typed.strip_prefix('-').filter(|rest| !rest.starts_with('-')) {
                Some(short) => format!(
                    "error: flag needs an argument: '{}' in {typed}\n{help}",
                    short.chars().last().unwrap_or_default()
                ),
                None => format!("error: flag needs an argument: {typed}\n{help}"),
            }
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let (bad, flag) = (value(ContextKind::InvalidValue), flag_name());
            format!("error: invalid argument {bad:?} for {flag:?} flag\n{help}")
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = value(ContextKind::InvalidArg);
            let flags: Vec<&str> = missing
                .split(", ")
                .filter_map(|one| one.strip_prefix("--"))
                .filter_map(|one| one.split(' ').next())
                .collect();
            match &flags[..] {
                [] => format!(
                    "error: exactly one NAME is required, got 0\nSee '{path} -h' for help and examples"
                ),
                flags => {
                    let quoted: Vec<String> = flags.iter().map(|flag| format!("{flag:?}")).collect();
                    format!("error: required flag(s) {} not set", quoted.join(", "))
                }
            }
        }
        _ => {
            let text = error.render().to_string();
            let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_string();
            format!("error: {first}\n{help}")
        }
    };
    Stop { text, code: 1 }
}

#[cfg(test)]
mod tests;
