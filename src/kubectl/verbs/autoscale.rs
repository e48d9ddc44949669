//! `kubectl autoscale`: a HorizontalPodAutoscaler for objects that can be scaled.
//!
//! The object is of autoscaling/v2, which every server from 1.23 on has; there is no way back to v1.

use api::quantity::Quantity;
use clap::Args;
use serde_json::{Value, json};

use super::apply::last_applied;
use crate::change::{ChangeArgs, DryRun};
use crate::env::{Env, tell};
use crate::error::{Error, Result};
use crate::manifest::FileArgs;
use crate::selection::{SelectorArgs, Target};

/// Auto-scale a deployment, replica set, stateful set, or replication controller
#[derive(Args)]
pub(crate) struct AutoscaleArgs {
    resources: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    /// The lower limit for the number of pods; the server's default if it is not given or negative
    #[arg(long, default_value_t = -1)]
    min: i32,
    /// The upper limit for the number of pods
    #[arg(long, required = true)]
    max: i32,
    #[arg(long, default_value_t = -1, hide = true)]
    cpu_percent: i32,
    /// Target of the pods' processor time: 70% of what they request, or 500m each
    #[arg(long)]
    cpu: Option<String>,
    /// Target of the pods' memory: 60% of what they request, or 200Mi each
    #[arg(long)]
    memory: Option<String>,
    /// The name of the new object, if not that of what is scaled
    #[arg(long)]
    name: Option<String>,
    /// Keep the configuration in the object for later applies
    #[arg(long)]
    save_config: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(crate) async fn run(env: &Env, args: AutoscaleArgs) -> Result<()> {
    if args.cpu_percent >= 0 {
        tell(
            "Flag --cpu-percent has been deprecated, Use --cpu with percentage or resource quantity format (e.g., '70%' for utilization or '500m' for milliCPU).",
        );
    }
    let metrics = metrics(&args)?;
    let targets = env.targets(&args.resources, &args.files, &SelectorArgs::default(), false).await?;
    if targets.is_empty() {
        return Err(Error::message("no objects passed to autoscale"));
    }
    for target in &targets {
        autoscale(env, target, &args, &metrics).await?;
    }
    Ok(())
}

/// What is measured and aimed at, after a look at the limits.
fn metrics(args: &AutoscaleArgs) -> Result<Vec<Value>> {
    let (min, max) = (args.min, args.max);
    if max < 1 {
        return Err(Error::message(format!("--max=MAXPODS is required and must be at least 1, max: {max}")));
    }
    if max < min {
        return Err(Error::message(format!(
            "--max=MAXPODS must be larger or equal to --min=MINPODS, max: {max}, min: {min}"
        )));
    }
    if args.cpu_percent > 0 && args.cpu.is_some() {
        return Err(Error::message("--cpu-percent and --cpu are mutually exclusive"));
    }
    let mut metrics = Vec::new();
    if args.cpu_percent > 0 {
        metrics.push(metric("cpu", json!({"type": "Utilization", "averageUtilization": args.cpu_percent})));
    }
    for (name, unit, given) in [("cpu", "m", &args.cpu), ("memory", "Mi", &args.memory)] {
        if let Some(given) = given.as_deref().filter(|given| !given.is_empty()) {
            metrics.push(metric(name, aim(name, unit, given.trim())?));
        }
    }
    Ok(metrics)
}

fn metric(name: &str, target: Value) -> Value {
    json!({"type": "Resource", "resource": {"name": name, "target": target}})
}

/// A share of what is requested, or a quantity; a bare number has the resource's usual unit.
fn aim(resource: &str, unit: &str, given: &str) -> Result<Value> {
    if let Some(number) = given.strip_suffix('%') {
        let share = number.parse::<i32>().ok().filter(|share| *share >= 0);
        let share = share.ok_or_else(|| Error::message(format!("invalid percentage value: {number}")))?;
        return Ok(json!({"type": "Utilization", "averageUtilization": share}));
    }
    let with_unit = match given.parse::<f64>() {
        Ok(number) => format!("{number}{unit}"),
        Err(_) => given.to_string(),
    };
    let quantity = with_unit
        .parse::<Quantity>()
        .map_err(|_| Error::message(format!("invalid resource {resource} value: {given}")))?;
    Ok(json!({"type": "AverageValue", "averageValue": quantity.to_string()}))
}

async fn autoscale(env: &Env, target: &Target, args: &AutoscaleArgs, metrics: &[Value]) -> Result<()> {
    let row = &target.row;
    if row.subresource("scale").is_none() {
        return Err(Error::message(format!(
            "cannot autoscale a {}: could not find scale subresource for {}/{}, Resource={} in discovery information",
            row.kind, row.group, row.version, row.plural
        )));
    }
    let mut scaler = json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": args.name.as_deref().unwrap_or(&target.name)},
        "spec": {
            "scaleTargetRef": {"apiVersion": row.api_version(), "kind": row.kind, "name": target.name},
            "maxReplicas": args.max,
        },
        // As Go writes the type.
        "status": {"currentMetrics": null, "desiredReplicas": 0},
    });
    if args.min > 0 {
        scaler["spec"]["minReplicas"] = json!(args.min);
    }
    if !metrics.is_empty() {
        scaler["spec"]["metrics"] = json!(metrics);
    }
    if env.namespace_is_explicit() {
        scaler["metadata"]["namespace"] = json!(env.namespace);
    }
    if args.change.mode()? == DryRun::Client {
        return args.change.report(&scaler, "created");
    }
    if args.save_config {
        last_applied::annotate(&mut scaler)?;
    }
    let path = api::kinds::HORIZONTAL_POD_AUTOSCALER.collection_path(Some(&env.namespace));
    let query = args.change.query("kubectl-autoscale", &[])?;
    let created = env.rest().await?.post(&format!("{path}{query}"), &scaler).await?;
    args.change.report(&created, "autoscaled")
}

#[cfg(test)]
mod tests;
