//! Generators of workloads: deployment, job, cronjob.

use clap::Args;
use serde_json::{Value, json};

use super::GeneratorArgs;
use crate::env::Env;
use crate::error::{Error, Result};

/// Create a deployment with the specified name
#[derive(Args)]
pub(crate) struct DeploymentArgs {
    name: String,
    /// Image to run, may be repeated
    #[arg(long, value_delimiter = ',')]
    image: Vec<String>,
    /// Number of replicas
    #[arg(short = 'r', long, default_value_t = 1)]
    replicas: i32,
    /// Port that the container exposes
    #[arg(long)]
    port: Option<i32>,
    /// Command of the container
    #[arg(last = true)]
    command: Vec<String>,
    #[command(flatten)]
    generator: GeneratorArgs,
}

/// Create a job with the specified name
#[derive(Args)]
pub(crate) struct JobArgs {
    name: String,
    /// Image to run
    #[arg(long)]
    image: Option<String>,
    /// Resource to take the job from (cronjob/NAME)
    #[arg(long)]
    from: Option<String>,
    #[arg(last = true)]
    command: Vec<String>,
    #[command(flatten)]
    generator: GeneratorArgs,
}

/// Create a cron job with the specified name
#[derive(Args)]
pub(crate) struct CronJobArgs {
    name: String,
    #[arg(long)]
    image: String,
    /// Schedule in cron format
    #[arg(long)]
    schedule: String,
    /// OnFailure or Never
    #[arg(long, default_value = "OnFailure")]
    restart: String,
    #[arg(last = true)]
    command: Vec<String>,
    #[command(flatten)]
    generator: GeneratorArgs,
}

/// The last part of an image without tag and digest, as a container's name.
fn container_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    let bare = last.split([':', '@']).next().unwrap_or_default();
    bare.to_lowercase().replace('_', "-").chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}

pub(super) fn deployment(args: DeploymentArgs) -> Result<(Value, GeneratorArgs)> {
    let DeploymentArgs { name, image, replicas, port, command, generator } = args;
    if image.is_empty() {
        return Err(Error::message("required flag(s) \"image\" not set"));
    }
    if image.len() > 1 && !command.is_empty() {
        return Err(Error::message("cannot specify multiple --image options and command"));
    }
    if replicas < 0 {
        return Err(Error::message("replicas must be greater than or equal to 0"));
    }
    let container = |image: &String| {
        let mut container = json!({"name": container_name(image), "image": image, "resources": {}});
        if !command.is_empty() {
            container["command"] = json!(command);
        }
        if let Some(port) = port {
            container["ports"] = json!([{"containerPort": port}]);
        }
        container
    };
    let containers: Vec<Value> = image.iter().map(container).collect();
    let labels = json!({"app": name});
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
        "status": {},
    });
    Ok((object, generator))
}

fn job_template(name: &str, image: &str, command: &[String], restart: &str) -> Value {
    let mut container = json!({"name": name, "image": image, "resources": {}});
    if !command.is_empty() {
        container["command"] = json!(command);
    }
    json!({"template": {"metadata": {}, "spec": {"containers": [container], "restartPolicy": restart}}})
}

pub(super) async fn job(env: &Env, args: JobArgs) -> Result<(Value, GeneratorArgs)> {
    let spec = match (&args.image, &args.from) {
        (Some(image), None) => job_template(&args.name, image, &args.command, "Never"),
        (None, Some(from)) => {
            let targets = env
                .targets(std::slice::from_ref(from), &Default::default(), &Default::default(), false)
                .await?;
            let [target] = &targets[..] else {
                return Err(Error::message("from must be an existing cronjob"));
            };
            if target.row.kind != "CronJob" {
                return Err(Error::message("from must be an existing cronjob"));
            }
            env.rest().await?.get(&target.path()).await?["spec"]["jobTemplate"]["spec"].take()
        }
        _ => return Err(Error::message("either --image or --from must be specified")),
    };
    let object = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": args.name}, "spec": spec, "status": {}});
    Ok((object, args.generator))
}

pub(super) fn cron_job(args: CronJobArgs) -> Result<(Value, GeneratorArgs)> {
    let spec = job_template(&args.name, &args.image, &args.command, &args.restart);
    let object = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": args.name},
        "spec": {
            "schedule": args.schedule,
            "jobTemplate": {"metadata": {"name": args.name}, "spec": spec},
        },
        "status": {},
    });
    Ok((object, args.generator))
}
