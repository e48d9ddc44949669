//! `kubectl create`: from files, or made from flags by a generator.

mod access;
mod config;
mod ingress;
mod simple;
pub(crate) use simple::int_or_text;
mod token;
mod workload;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::change::{ChangeArgs, DryRun, ValidateArgs};
use crate::env::Env;
use crate::error::{Error, Result, collect};
use crate::manifest::{FileArgs, Manifest};
use crate::selection::Target;
use crate::verbs::apply::{keep_selected, last_applied};
use crate::verbs::edit::before_create;
use crate::verbs::edit::editor::Style;

/// Create a resource from a file or from flags
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct CreateArgs {
    #[command(subcommand)]
    command: Option<CreateCommand>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    validate: ValidateArgs,
    /// Remember the configuration for kubectl apply
    #[arg(long)]
    save_config: bool,
    /// Edit the objects before they are created
    #[arg(long)]
    edit: bool,
    /// Only objects with these labels
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Lines end as on Windows, with --edit
    #[arg(long)]
    windows_line_endings: bool,
    /// Path to post to as it is
    #[arg(long)]
    raw: Option<String>,
}

/// Flags of every generator.
#[derive(Args)]
pub(crate) struct GeneratorArgs {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    validate: ValidateArgs,
    /// Remember the configuration for kubectl apply
    #[arg(long)]
    save_config: bool,
}

#[derive(Subcommand)]
enum CreateCommand {
    #[command(alias = "deploy")]
    Deployment(workload::DeploymentArgs),
    Job(workload::JobArgs),
    #[command(alias = "cj", name = "cronjob")]
    CronJob(workload::CronJobArgs),
    #[command(alias = "ns")]
    Namespace(simple::NamespaceArgs),
    #[command(alias = "cm", name = "configmap")]
    ConfigMap(config::ConfigMapArgs),
    Secret(config::SecretArgs),
    #[command(alias = "sa", name = "serviceaccount")]
    ServiceAccount(simple::ServiceAccountArgs),
    #[command(alias = "svc")]
    Service(simple::ServiceArgs),
    #[command(alias = "resourcequota", name = "quota")]
    Quota(simple::QuotaArgs),
    #[command(alias = "pc", name = "priorityclass")]
    PriorityClass(simple::PriorityClassArgs),
    #[command(alias = "pdb", name = "poddisruptionbudget")]
    PodDisruptionBudget(simple::BudgetArgs),
    Role(access::RoleArgs),
    #[command(name = "clusterrole")]
    ClusterRole(access::ClusterRoleArgs),
    #[command(name = "rolebinding")]
    RoleBinding(access::RoleBindingArgs),
    #[command(name = "clusterrolebinding")]
    ClusterRoleBinding(access::ClusterRoleBindingArgs),
    #[command(alias = "ing")]
    Ingress(ingress::IngressArgs),
    Token(token::TokenArgs),
}

impl CreateArgs {
    /// Makes a binding, whose flags name users.
    pub(crate) fn has_subjects(&self) -> bool {
        matches!(self.command, Some(CreateCommand::RoleBinding(_) | CreateCommand::ClusterRoleBinding(_)))
    }
}

pub(crate) async fn run(env: &Env, args: CreateArgs) -> Result<()> {
    let (object, generator) = match args.command {
        None => {
            if let Some(path) = &args.raw {
                if args.edit {
                    return Err(Error::message("--raw and --edit are mutually exclusive"));
                }
                return raw(env, path, &args.files).await;
            }
            if !args.files.given() {
                return Err(Error::message("must specify one of -f and -k"));
            }
            let mut targets = env.objects_of(&args.files).await?;
            keep_selected(&mut targets, args.selector.as_deref())?;
            if args.edit {
                targets = edited(env, &args, targets).await?;
            }
            return create_all(env, targets, &args.change, &args.validate, args.save_config).await;
        }
        Some(CreateCommand::Token(args)) => return token::run(env, args).await,
        Some(CreateCommand::Deployment(args)) => workload::deployment(args)?,
        Some(CreateCommand::Job(args)) => workload::job(env, args).await?,
        Some(CreateCommand::CronJob(args)) => workload::cron_job(args)?,
        Some(CreateCommand::Namespace(args)) => simple::namespace(args),
        Some(CreateCommand::ConfigMap(args)) => config::config_map(args)?,
        Some(CreateCommand::Secret(args)) => config::secret(args)?,
        Some(CreateCommand::ServiceAccount(args)) => simple::service_account(args),
        Some(CreateCommand::Service(args)) => simple::service(args)?,
        Some(CreateCommand::Quota(args)) => simple::quota(args)?,
        Some(CreateCommand::PriorityClass(args)) => simple::priority_class(args),
        Some(CreateCommand::PodDisruptionBudget(args)) => simple::budget(args)?,
        Some(CreateCommand::Ingress(args)) => ingress::ingress(args)?,
        Some(CreateCommand::Role(args)) => access::role(env, args).await?,
        Some(CreateCommand::ClusterRole(args)) => access::cluster_role(env, args).await?,
        Some(CreateCommand::RoleBinding(args)) => access::role_binding(args)?,
        Some(CreateCommand::ClusterRoleBinding(args)) => access::cluster_role_binding(args)?,
    };
    create_made(env, object, generator).await
}

/// `--edit`: the objects as the user leaves them.
async fn edited(env: &Env, args: &CreateArgs, targets: Vec<Target>) -> Result<Vec<Target>> {
    let is_json = args.change.output.output.as_deref() == Some("json");
    let style = Style { json: is_json, windows: args.windows_line_endings };
    let mut kept = Vec::new();
    for target in targets {
        let Some(Manifest { source, object }) = target.manifest else { continue };
        if let Some(object) = before_create(&object, style)? {
            kept.push(env.place(Manifest { source, object }).await?);
        }
    }
    Ok(kept)
}

/// Creates an object made from flags. The namespace is written into it only where kubectl does.
async fn create_made(env: &Env, mut object: Value, args: GeneratorArgs) -> Result<()> {
    let kind = object["kind"].as_str().unwrap_or_default().to_string();
    let is_cluster_wide =
        matches!(kind.as_str(), "Namespace" | "ClusterRole" | "ClusterRoleBinding" | "PriorityClass");
    if env.namespace_is_explicit() && !is_cluster_wide {
        object["metadata"]["namespace"] = Value::String(env.namespace.clone());
    }
    if args.change.mode()? == DryRun::Client {
        if args.save_config {
            last_applied::annotate(&mut object)?;
        }
        return args.change.report(&object, "created");
    }
    let target = env.place(Manifest { source: String::new(), object }).await?;
    let created = create_one(env, &target, &args.change, &args.validate, args.save_config).await;
    created.map_err(|error| failed_to_create(&kind, error))
}

/// Some generators put a sentence before the server's; they always have.
fn failed_to_create(kind: &str, error: Error) -> Error {
    let what = match kind {
        "Deployment" | "ConfigMap" | "Secret" | "ServiceAccount" | "Job" | "CronJob" | "RoleBinding"
        | "ClusterRoleBinding" => kind.to_lowercase(),
        "ResourceQuota" => "quota".to_string(),
        "PodDisruptionBudget" => "poddisruptionbudgets".to_string(),
        "PriorityClass" => "priorityclass".to_string(),
        _ => return error,
    };
    match error.api() {
        Some(api) => Error::message(format!("failed to create {what}: {api}")),
        None => error,
    }
}

/// Creates objects of files; one that fails does not keep the others from being created.
async fn create_all(
    env: &Env,
    targets: Vec<Target>,
    change: &ChangeArgs,
    validate: &ValidateArgs,
    save_config: bool,
) -> Result<()> {
    let mut errors = Vec::new();
    for target in targets {
        if let Err(error) = create_one(env, &target, change, validate, save_config).await {
            let source = target.manifest.as_ref().map(|manifest| manifest.source.clone()).unwrap_or_default();
            errors.push(error.doing(format!("error when creating {source:?}")));
        }
    }
    collect(errors)
}

async fn create_one(
    env: &Env,
    target: &Target,
    change: &ChangeArgs,
    validate: &ValidateArgs,
    save_config: bool,
) -> Result<()> {
    let mut object = target.manifest.as_ref().map(|manifest| manifest.object.clone()).unwrap_or_default();
    if save_config {
        last_applied::annotate(&mut object)?;
    }
    if change.mode()? == DryRun::Client {
        return change.report(&object, "created");
    }
    let query = change.query("kubectl-create", &[validate.parameter()?])?;
    let created = env.rest().await?.post(&format!("{}{query}", target.collection()), &object).await?;
    change.report(&created, "created")
}

async fn raw(env: &Env, path: &str, files: &FileArgs) -> Result<()> {
    let [manifest] = &files.read()?[..] else {
        return Err(Error::message("--raw can only use a single local file or stdin"));
    };
    let answer = env.rest().await?.post(path, &manifest.object).await?;
    crate::env::print_line(&answer.to_string())
}
