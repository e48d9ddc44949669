//! `kubectl expose`: a service for a pod, deployment, replica set or service.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::change::{ChangeArgs, DryRun};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::manifest::FileArgs;
use crate::selection::SelectorArgs;
use crate::verbs::apply::last_applied;
use crate::verbs::create::int_or_text;
use crate::verbs::run_pod::put_over;

/// Take a replication controller, service, deployment or pod and expose it as a new service
#[derive(Args)]
pub(crate) struct ExposeArgs {
    resources: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    /// Name of the service
    #[arg(long)]
    name: Option<String>,
    /// Port of the service
    #[arg(long)]
    port: Option<String>,
    /// Port or port name of the pods
    #[arg(long)]
    target_port: Option<String>,
    /// TCP, UDP or SCTP
    #[arg(long)]
    protocol: Option<String>,
    /// ClusterIP, NodePort, LoadBalancer or ExternalName
    #[arg(long = "type")]
    kind: Option<String>,
    /// Labels of the pods, KEY=VALUE,…
    #[arg(long)]
    selector: Option<String>,
    /// Labels of the service, KEY=VALUE,…
    #[arg(short = 'l', long)]
    labels: Option<String>,
    #[arg(long)]
    cluster_ip: Option<String>,
    #[arg(long)]
    external_ip: Option<String>,
    #[arg(long)]
    load_balancer_ip: Option<String>,
    #[arg(long)]
    session_affinity: Option<String>,
    /// JSON to merge into the service
    #[arg(long)]
    overrides: Option<String>,
    /// merge, strategic or json: how to take --overrides
    #[arg(long, default_value = "merge")]
    override_type: String,
    /// Remember the configuration for kubectl apply
    #[arg(long)]
    save_config: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(crate) async fn run(env: &Env, args: ExposeArgs) -> Result<()> {
    let targets = env.targets(&args.resources, &args.files, &SelectorArgs::default(), false).await?;
    for target in targets {
        let object = env.rest().await?.get(&target.path()).await?;
        let mut service = service(&args, &object, &target.row.plural)?;
        if let Some(namespace) = target.namespace.as_ref().filter(|_| env.namespace_is_explicit()) {
            service["metadata"]["namespace"] = json!(namespace);
        }
        if let Some(overrides) = &args.overrides {
            put_over(&mut service, &api::kinds::SERVICE, overrides, &args.override_type)?;
        }
        if args.save_config {
            last_applied::annotate(&mut service)?;
        }
        if args.change.mode()? == DryRun::Client {
            args.change.report(&service, "exposed")?;
            continue;
        }
        let path = api::kinds::SERVICE.collection_path(target.namespace.as_deref());
        let query = args.change.query("kubectl-expose", &[])?;
        let created = env.rest().await?.post(&format!("{path}{query}"), &service).await?;
        args.change.report(&created, "exposed")?;
    }
    Ok(())
}

fn labels(text: &str) -> Result<Map<String, Value>> {
    let pair = |one: &str| {
        let (key, value) =
            one.split_once('=').ok_or_else(|| Error::message(format!("unexpected label spec: {one}")))?;
        Ok((key.to_string(), json!(value)))
    };
    text.split(',').map(pair).collect()
}

fn selector(args: &ExposeArgs, object: &Value, resource: &str) -> Result<Value> {
    if let Some(text) = &args.selector {
        return Ok(Value::Object(labels(text)?));
    }
    let cannot = || {
        Error::message(format!(
            "couldn't retrieve selectors via --selector flag or introspection: the {resource} has no labels and cannot be exposed"
        ))
    };
    let found = match object["kind"].as_str().unwrap_or_default() {
        "Pod" => &object["metadata"]["labels"],
        "Service" | "ReplicationController" => &object["spec"]["selector"],
        "Deployment" | "ReplicaSet" => {
            if object["spec"]["selector"]["matchExpressions"].as_array().is_some_and(|list| !list.is_empty())
            {
                return Err(Error::message(
                    "couldn't convert expressions to a map-based selector: use --selector",
                ));
            }
            &object["spec"]["selector"]["matchLabels"]
        }
        kind => return Err(Error::message(format!("cannot expose a {kind}"))),
    };
    if found.as_object().is_none_or(Map::is_empty) { Err(cannot()) } else { Ok(found.clone()) }
}

/// Port and protocol of every container port, or of every port of a service.
fn known_ports(object: &Value) -> Vec<(i64, String)> {
    let list = |ports: &Value, field: &str| -> Vec<(i64, String)> {
        let one = |port: &Value| {
            Some((port[field].as_i64()?, port["protocol"].as_str().unwrap_or("TCP").to_string()))
        };
        ports.as_array().into_iter().flatten().filter_map(one).collect()
    };
    let of_pod = |spec: &Value| {
        let containers = spec["containers"].as_array().into_iter().flatten();
        containers.flat_map(|container| list(&container["ports"], "containerPort")).collect()
    };
    match object["kind"].as_str().unwrap_or_default() {
        "Service" => list(&object["spec"]["ports"], "port"),
        "Pod" => of_pod(&object["spec"]),
        _ => of_pod(&object["spec"]["template"]["spec"]),
    }
}

fn service(args: &ExposeArgs, object: &Value, resource: &str) -> Result<Value> {
    let known = known_ports(object);
    let numbers: Vec<i64> = match &args.port {
        Some(text) => text
            .split(',')
            .map(|one| one.parse().map_err(|_| Error::message(format!("invalid port {one:?}"))))
            .collect::<Result<_>>()?,
        None if known.is_empty() => {
            return Err(Error::message("couldn't find port via --port flag or introspection"));
        }
        None => known.iter().map(|(port, _)| *port).collect(),
    };
    let port = |(index, number): (usize, &i64)| {
        let protocol = args
            .protocol
            .clone()
            .or_else(|| known.iter().find(|(own, _)| own == number).map(|(_, one)| one.clone()));
        let target = args.target_port.as_deref().map_or_else(|| json!(number), int_or_text);
        let mut one = json!({"port": number, "protocol": protocol.unwrap_or_else(|| "TCP".to_string()), "targetPort": target});
        if numbers.len() > 1 {
            one["name"] = json!(format!("port-{}", index + 1));
        }
        one
    };
    let ports: Vec<Value> = numbers.iter().enumerate().map(port).collect();
    let mut spec = json!({"ports": ports, "selector": selector(args, object, resource)?});
    for (key, value) in [
        ("type", &args.kind),
        ("clusterIP", &args.cluster_ip),
        ("loadBalancerIP", &args.load_balancer_ip),
        ("sessionAffinity", &args.session_affinity),
    ] {
        if let Some(value) = value {
            spec[key] = json!(value);
        }
    }
    if let Some(address) = &args.external_ip {
        spec["externalIPs"] = json!([address]);
    }
    let name = args.name.as_deref().or(object["metadata"]["name"].as_str()).unwrap_or_default();
    let own_labels = match &args.labels {
        Some(text) => Value::Object(labels(text)?),
        None => object["metadata"]["labels"].clone(),
    };
    let mut metadata = json!({"name": name});
    if own_labels.is_object() {
        metadata["labels"] = own_labels;
    }
    Ok(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, "status": {"loadBalancer": {}}}),
    )
}
