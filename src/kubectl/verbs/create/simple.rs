//! Generators of small objects: namespace, service account, service, quota, priority class, disruption
//! budget.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::GeneratorArgs;
use crate::error::{Error, Result};

/// Create a namespace with the specified name
#[derive(Args)]
pub(crate) struct NamespaceArgs {
    name: String,
    #[command(flatten)]
    generator: GeneratorArgs,
}

/// Create a service account with the specified name
#[derive(Args)]
pub(crate) struct ServiceAccountArgs {
    name: String,
    #[command(flatten)]
    generator: GeneratorArgs,
}

/// Create a service using a specified subcommand
#[derive(Args)]
pub(crate) struct ServiceArgs {
    #[command(subcommand)]
    kind: ServiceKind,
}

#[derive(Subcommand)]
enum ServiceKind {
    /// Create a ClusterIP service
    #[command(name = "clusterip")]
    ClusterIp(PortsArgs),
    /// Create a NodePort service
    #[command(name = "nodeport")]
    NodePort(PortsArgs),
    /// Create a LoadBalancer service
    #[command(name = "loadbalancer")]
    LoadBalancer(PortsArgs),
    /// Create an ExternalName service
    #[command(name = "externalname")]
    ExternalName(PortsArgs),
}

#[derive(Args)]
struct PortsArgs {
    name: String,
    /// PORT:TARGETPORT, may be repeated
    #[arg(long, value_delimiter = ',')]
    tcp: Vec<String>,
    /// Cluster IP to ask for, or None for a headless service
    #[arg(long)]
    clusterip: Option<String>,
    /// Port on every node
    #[arg(long)]
    node_port: Option<i32>,
    /// Name that an ExternalName service points to
    #[arg(long)]
    external_name: Option<String>,
    #[command(flatten)]
    generator: GeneratorArgs,
}

/// Create a quota with the specified name, hard limits, and optional scopes
#[derive(Args)]
pub(crate) struct QuotaArgs {
    name: String,
    /// RESOURCE=QUANTITY,…
    #[arg(long, value_delimiter = ',')]
    hard: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    scopes: Vec<String>,
    #[command(flatten)]
    generator: GeneratorArgs,
}

/// Create a priority class with the specified name
#[derive(Args)]
pub(crate) struct PriorityClassArgs {
    name: String,
    #[arg(long, default_value_t = 0)]
    value: i32,
    #[arg(long)]
    global_default: bool,
    #[arg(long, default_value = "")]
    description: String,
    #[arg(long, default_value = "PreemptLowerPriority")]
    preemption_policy: String,
    #[command(flatten)]
    generator: GeneratorArgs,
}

/// Create a pod disruption budget with the specified name
#[derive(Args)]
pub(crate) struct BudgetArgs {
    name: String,
    #[arg(long)]
    selector: String,
    #[arg(long)]
    min_available: Option<String>,
    #[arg(long)]
    max_unavailable: Option<String>,
    #[command(flatten)]
    generator: GeneratorArgs,
}

pub(super) fn namespace(args: NamespaceArgs) -> (Value, GeneratorArgs) {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": args.name}, "spec": {}, "status": {}});
    (object, args.generator)
}

pub(super) fn service_account(args: ServiceAccountArgs) -> (Value, GeneratorArgs) {
    (json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": args.name}}), args.generator)
}

/// An integer, or text for a named port.
pub(crate) fn int_or_text(text: &str) -> Value {
    text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number))
}

pub(super) fn service(args: ServiceArgs) -> Result<(Value, GeneratorArgs)> {
    let (kind, args) = match args.kind {
        ServiceKind::ClusterIp(args) => ("ClusterIP", args),
        ServiceKind::NodePort(args) => ("NodePort", args),
        ServiceKind::LoadBalancer(args) => ("LoadBalancer", args),
        ServiceKind::ExternalName(args) => ("ExternalName", args),
    };
    let headless = args.clusterip.as_deref() == Some("None");
    if args.tcp.is_empty() && kind != "ExternalName" && !headless {
        return Err(Error::message("at least one tcp port specifier must be provided"));
    }
    let mut ports = Vec::new();
    for spec in &args.tcp {
        let (port, target) = spec.split_once(':').unwrap_or((spec, spec));
        let number: i32 =
            port.parse().map_err(|_| Error::message(format!("invalid port {port:?} in --tcp={spec}")))?;
        let mut one = json!({"name": spec.replace(':', "-"), "port": number, "protocol": "TCP", "targetPort": int_or_text(target)});
        if let Some(node_port) = args.node_port.filter(|_| kind == "NodePort") {
            one["nodePort"] = json!(node_port);
        }
        ports.push(one);
    }
    let mut spec = json!({"type": kind, "selector": {"app": args.name}});
    if !ports.is_empty() {
        spec["ports"] = Value::Array(ports);
    }
    if let Some(address) = &args.clusterip {
        spec["clusterIP"] = json!(address);
    }
    if kind == "ExternalName" {
        let name = args.external_name.as_ref();
        spec["externalName"] = json!(name.ok_or_else(|| Error::message("external name must be specified"))?);
    }
    let object = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": args.name, "labels": {"app": args.name}},
        "spec": spec, "status": {"loadBalancer": {}},
    });
    Ok((object, args.generator))
}

pub(super) fn quota(args: QuotaArgs) -> Result<(Value, GeneratorArgs)> {
    let mut hard = Map::new();
    for pair in &args.hard {
        let (resource, quantity) = pair.split_once('=').ok_or_else(|| {
            Error::message(format!("Invalid argument syntax {pair}, expected <resource>=<value>"))
        })?;
        hard.insert(resource.to_string(), json!(quantity));
    }
    let mut spec = json!({"hard": hard});
    if !args.scopes.is_empty() {
        spec["scopes"] = json!(args.scopes);
    }
    let object = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": args.name}, "spec": spec, "status": {}});
    Ok((object, args.generator))
}

pub(super) fn priority_class(args: PriorityClassArgs) -> (Value, GeneratorArgs) {
    let mut object = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": args.name},
        "value": args.value, "preemptionPolicy": args.preemption_policy,
    });
    if args.global_default {
        object["globalDefault"] = json!(true);
    }
    if !args.description.is_empty() {
        object["description"] = json!(args.description);
    }
    (object, args.generator)
}

pub(super) fn budget(args: BudgetArgs) -> Result<(Value, GeneratorArgs)> {
    let mut labels = Map::new();
    for pair in args.selector.split(',') {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Error::message(format!("couldn't parse the selector string {:?}", args.selector))
        })?;
        labels.insert(key.trim_end_matches('=').to_string(), json!(value.trim_start_matches('=')));
    }
    let mut spec = json!({"selector": {"matchLabels": labels}});
    match (&args.min_available, &args.max_unavailable) {
        (Some(least), None) => spec["minAvailable"] = int_or_text(least),
        (None, Some(most)) => spec["maxUnavailable"] = int_or_text(most),
        (None, None) => {
            return Err(Error::message("one of min-available or max-unavailable must be specified"));
        }
        _ => return Err(Error::message("min-available and max-unavailable cannot be both specified")),
    }
    let status =
        json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
    let object = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": args.name}, "spec": spec, "status": status});
    Ok((object, args.generator))
}
