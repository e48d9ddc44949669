//! `kubectl certificate approve | deny`.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::env::{Env, print};
use crate::error::{Error, Result, collect};
use crate::manifest::FileArgs;
use crate::output::OutputArgs;
use crate::selection::{SelectorArgs, Target};

/// Modify certificate resources
#[derive(Args)]
pub(crate) struct CertificateArgs {
    #[command(subcommand)]
    command: CertificateCommand,
}

#[derive(Subcommand)]
enum CertificateCommand {
    /// Approve a certificate signing request
    Approve(OnArgs),
    /// Deny a certificate signing request
    Deny(OnArgs),
}

#[derive(Args)]
struct OnArgs {
    names: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    /// Decide again what was decided
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(env: &Env, args: CertificateArgs) -> Result<()> {
    let (args, kind, other, done) = match args.command {
        CertificateCommand::Approve(args) => (args, "Approved", "Denied", "approved"),
        CertificateCommand::Deny(args) => (args, "Denied", "Approved", "denied"),
    };
    let targets = if args.files.given() {
        env.objects_of(&args.files).await?
    } else {
        let row = env.resource("certificatesigningrequests").await?;
        match (&args.names[..], args.selector.given()) {
            ([], false) => {
                return Err(Error::message("one or more CSRs must be specified as <name> or -f <filename>"));
            }
            ([], true) => env.members(&row, &args.selector).await?,
            (names, _) => names.iter().map(|name| Target::new(env, row.clone(), name)).collect(),
        }
    };
    let mut errors = Vec::new();
    for target in &targets {
        let outcome = decide(env, target, args.force, kind, other).await;
        match outcome {
            Ok(object) => show(&args.output, &object, &format!("{} {done}\n", target.title()))?,
            Err(error) => errors.push(error),
        }
    }
    collect(errors)
}

async fn decide(env: &Env, target: &Target, force: bool, kind: &str, other: &str) -> Result<Value> {
    let rest = env.rest().await?;
    let mut object = rest.get(&target.path()).await?;
    let mut conditions: Vec<Value> = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    if conditions.iter().any(|one| one["type"] == other) {
        return Err(Error::message(format!(
            "certificate signing request {:?} is already {other}",
            target.name
        )));
    }
    if conditions.iter().any(|one| one["type"] == kind) && !force {
        return Ok(object);
    }
    conditions.retain(|one| one["type"] != kind);
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    conditions.push(json!({
        "type": kind, "status": "True", "reason": format!("Kubectl{}", if kind == "Approved" { "Approve" } else { "Deny" }),
        "message": format!("This CSR was {} by kubectl certificate {}.", kind.to_lowercase(), if kind == "Approved" { "approve" } else { "deny" }),
        "lastUpdateTime": now,
    }));
    object["status"]["conditions"] = Value::Array(conditions);
    rest.put(&target.sub_path("approval"), &object).await
}

/// The object in the format that is asked for, else a line.
fn show(output: &OutputArgs, object: &Value, line: &str) -> Result<()> {
    let format = output.format()?;
    if format.is_human() {
        return print(line);
    }
    print(&format.text(object, output.show_managed_fields, false)?)
}
