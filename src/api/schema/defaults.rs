//! Defaults that follow from the object alone, as upstream's `SetDefaults_*` functions set them.
//!
//! Most are one literal for one field of one type and stand in a table; the others are functions on a type's
//! object. One walk applies them wherever a type occurs, parents first as upstream does, and enters only
//! branches below which something can be defaulted. What depends on other objects, on the old object or on
//! the clock is the API server's.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::table::{Base, Shape, TypeRef, all, by_name, for_gvk};
use crate::KindRow;
use crate::quantity::Quantity;

mod autoscaling;
mod cluster;
mod literals;
mod pod;
mod workload;

use literals::{LITERALS, RBAC};

type Object = Map<String, Value>;

/// A default that is the same for all objects of a type.
#[derive(Clone, Copy)]
enum Literal {
    Text(&'static str),
    Int(i64),
    Bool(bool),
    /// `{}`.
    Empty,
}

use Literal::{Bool, Empty, Int, Text};

impl Literal {
    fn value(self) -> Value {
        match self {
            Text(text) => Value::String(text.to_string()),
            Int(number) => Value::from(number),
            Bool(value) => Value::Bool(value),
            Empty => Value::Object(Map::new()),
        }
    }
}

type Rule = fn(&mut Object);

/// Defaults that look at other fields.
const RULES: &[(&str, Rule)] = &[
    ("api.apps.v1.DaemonSetSpec", workload::daemon_set),
    ("api.apps.v1.DeploymentStrategy", workload::deployment_strategy),
    ("api.apps.v1.StatefulSetSpec", workload::stateful_set),
    ("api.autoscaling.v2.HorizontalPodAutoscalerBehavior", autoscaling::behavior),
    ("api.autoscaling.v2.HorizontalPodAutoscalerSpec", autoscaling::spec),
    ("api.batch.v1.Job", workload::job),
    ("api.core.v1.Container", pod::image_pull_policy),
    ("api.core.v1.EphemeralContainer", pod::image_pull_policy),
    ("api.core.v1.LimitRangeItem", cluster::limit_range_item),
    ("api.core.v1.Namespace", namespace),
    ("api.core.v1.NodeStatus", node_status),
    ("api.core.v1.PersistentVolume", pending),
    ("api.core.v1.PersistentVolumeClaim", pending),
    ("api.core.v1.Pod", pod::pod),
    ("api.core.v1.PodSpec", pod::spec),
    ("api.core.v1.ReplicationController", workload::replication_controller),
    ("api.core.v1.ResourceRequirements", whole_milli),
    ("api.core.v1.Service", service),
    ("api.core.v1.Volume", pod::volume),
    ("api.flowcontrol.v1.FlowSchemaSpec", cluster::flow_schema),
    ("api.flowcontrol.v1.QueuingConfiguration", cluster::queuing),
    ("api.networking.v1.NetworkPolicySpec", cluster::network_policy),
    ("api.rbac.v1.Subject", subject),
    ("api.resource.v1.DeviceSubRequest", cluster::device_request),
    ("api.resource.v1.ExactDeviceRequest", cluster::device_request),
    ("api.storage.v1.CSIDriverSpec", cluster::csi_driver),
];

/// Per type: what to do there, and whether there is anything to do there or below.
#[derive(Default, Clone)]
struct TypeDefaults {
    literals: Vec<&'static [(&'static str, Literal)]>,
    rules: Vec<Rule>,
    enter: bool,
}

fn plans() -> &'static [TypeDefaults] {
    static PLANS: OnceLock<Vec<TypeDefaults>> = OnceLock::new();
    PLANS.get_or_init(|| {
        let mut plans = vec![TypeDefaults::default(); all().count()];
        for (name, literals) in LITERALS {
            if let Some(ty) = by_name(name) {
                plans[ty.index()].literals.push(literals);
                plans[ty.index()].enter = true;
            }
        }
        for (name, rule) in RULES {
            if let Some(ty) = by_name(name) {
                plans[ty.index()].rules.push(*rule);
                plans[ty.index()].enter = true;
            }
        }
        // Types refer to each other in any order: repeat until nothing changes.
        let mut changed = true;
        while changed {
            changed = false;
            for ty in all().collect::<Vec<_>>() {
                let below =
                    |field: &super::Field| field.object().is_some_and(|child| plans[child.index()].enter);
                if !plans[ty.index()].enter && ty.fields().iter().any(below) {
                    plans[ty.index()].enter = true;
                    changed = true;
                }
            }
        }
        plans
    })
}

/// How many fields defaulting may add to an object of a type.
pub(super) fn added(ty: TypeRef) -> u32 {
    let plan = &plans()[ty.index()];
    let count = plan.literals.iter().map(|list| list.len()).sum::<usize>() + plan.rules.len();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What a key of a list's element has that is left out: its default, else the zero value of what may not be
/// left out.
pub(super) fn key(ty: TypeRef, name: &str) -> Option<Value> {
    let field = ty.field(name)?;
    let literals = plans()[ty.index()].literals.iter().copied().flatten();
    if let Some((_, literal)) = literals.into_iter().find(|(own, _)| *own == name) {
        return Some(literal.value());
    }
    if !field.required && ty.short_name() != "LocalObjectReference" {
        return None;
    }
    match field.ty.base {
        Base::String => Some(json!("")),
        Base::Int32 | Base::Int64 => Some(json!(0)),
        Base::Bool => Some(json!(false)),
        _ => None,
    }
}

/// Sets what upstream's defaulting sets from the object alone. The tree has been through
/// [`check`](super::check).
pub fn apply_defaults(row: &KindRow, tree: &mut Value) {
    if let Some(ty) = for_gvk(&row.group, &row.version, &row.kind) {
        apply_type_defaults(ty, tree);
    }
}

/// [`apply_defaults`] for a type.
pub(crate) fn apply_type_defaults(ty: TypeRef, tree: &mut Value) {
    walk(plans(), ty, tree);
}

fn walk(plans: &[TypeDefaults], ty: TypeRef, tree: &mut Value) {
    let (plan, Value::Object(map)) = (&plans[ty.index()], tree) else { return };
    if !plan.enter {
        return;
    }
    for (name, literal) in plan.literals.iter().copied().flatten() {
        set(map, name, || literal.value());
    }
    for rule in &plan.rules {
        rule(map);
    }
    for (name, value) in map.iter_mut() {
        let Some((field, child)) = ty.field(name).and_then(|field| Some((field, field.object()?))) else {
            continue;
        };
        match (field.ty.shape, value) {
            (Shape::One, value) => walk(plans, child, value),
            (_, Value::Array(list)) => list.iter_mut().for_each(|one| walk(plans, child, one)),
            (_, Value::Object(entries)) => entries.values_mut().for_each(|one| walk(plans, child, one)),
            _ => {}
        }
    }
}

/// Sets a field that is absent or null.
fn set(map: &mut Object, name: &str, value: impl FnOnce() -> Value) {
    match map.get_mut(name) {
        Some(Value::Null) => {
            map.insert(name.to_string(), value());
        }
        Some(_) => {}
        None => {
            map.insert(name.to_string(), value());
        }
    }
}

/// The object in a field, made if it is absent.
fn object<'a>(map: &'a mut Object, name: &str) -> Option<&'a mut Object> {
    set(map, name, || Value::Object(Map::new()));
    map.get_mut(name).and_then(Value::as_object_mut)
}

fn text<'a>(map: &'a Object, name: &str) -> &'a str {
    map.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The label by which selectors find a namespace by name. A generated name is not known yet: the API server
/// calls defaulting again once it is.
fn namespace(map: &mut Object) {
    let Some(metadata) = object(map, "metadata") else { return };
    let name = text(metadata, "name").to_string();
    if let (false, Some(labels)) = (name.is_empty(), object(metadata, "labels")) {
        labels.insert("kubernetes.io/metadata.name".to_string(), Value::String(name));
    }
}

/// Amounts of resources are in whole thousandths.
fn whole_milli(map: &mut Object) {
    for name in ["limits", "requests", "capacity", "allocatable"] {
        for amount in map.get_mut(name).and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
            // Canonical text has no fraction: only these can be finer.
            if let Value::String(text) = amount
                && (text.ends_with(['n', 'u']) || text.contains("e-"))
                && let Ok(quantity) = text.parse::<Quantity>()
            {
                *text = quantity.rounded_to_milli().to_string();
            }
        }
    }
}

fn node_status(map: &mut Object) {
    whole_milli(map);
    if let Some(capacity) = map.get("capacity").cloned() {
        set(map, "allocatable", || capacity);
    }
}

fn pending(map: &mut Object) {
    if let Some(status) = object(map, "status") {
        set(status, "phase", || json!("Pending"));
    }
}

fn service(map: &mut Object) {
    let mut kind = String::new();
    if let Some(spec) = map.get_mut("spec").and_then(Value::as_object_mut) {
        kind = match text(spec, "type") {
            "" => "ClusterIP",
            kind => kind,
        }
        .to_string();
        service_spec(spec, &kind);
    }
    let ingress = map.get_mut("status").and_then(|status| status.pointer_mut("/loadBalancer/ingress"));
    if let (Some(Value::Array(ingress)), "LoadBalancer") = (ingress, kind.as_str()) {
        for one in
            ingress.iter_mut().filter_map(Value::as_object_mut).filter(|one| !text(one, "ip").is_empty())
        {
            set(one, "ipMode", || json!("VIP"));
        }
    }
}

fn service_spec(spec: &mut Object, kind: &str) {
    if text(spec, "sessionAffinity") == "ClientIP" {
        let config = object(spec, "sessionAffinityConfig").and_then(|config| object(config, "clientIP"));
        if let Some(client) = config {
            set(client, "timeoutSeconds", || json!(10800));
        }
    } else if matches!(text(spec, "sessionAffinity"), "" | "None") {
        spec.remove("sessionAffinityConfig");
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(port) = port.as_object_mut() else { continue };
        let zero = port.get("targetPort").is_none_or(|target| *target == json!(0) || *target == json!(""));
        if let (true, Some(number)) = (zero, port.get("port").cloned()) {
            port.insert("targetPort".to_string(), number);
        }
    }
    let balanced = kind == "LoadBalancer";
    let external = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if balanced || kind == "NodePort" || (kind == "ClusterIP" && external) {
        set(spec, "externalTrafficPolicy", || json!("Cluster"));
    }
    if matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer") {
        set(spec, "internalTrafficPolicy", || json!("Cluster"));
    }
    if balanced {
        set(spec, "allocateLoadBalancerNodePorts", || json!(true));
    }
}

fn subject(map: &mut Object) {
    if matches!(text(map, "kind"), "User" | "Group") {
        set(map, "apiGroup", || json!(RBAC));
    }
}

/// Names of types in the tables that the schema does not have: none.
#[cfg(test)]
pub(super) fn unknown_names() -> Vec<String> {
    let names = LITERALS.iter().map(|(name, _)| *name).chain(RULES.iter().map(|(name, _)| *name));
    let unknown = names.filter(|name| by_name(name).is_none()).map(str::to_string);
    let fields =
        LITERALS.iter().flat_map(|(name, fields)| fields.iter().map(move |(field, _)| (name, field)));
    let strangers = fields
        .filter(|(name, field)| by_name(name).is_some_and(|ty| ty.field(field).is_none()))
        .map(|(name, field)| format!("{name}.{field}"));
    unknown.chain(strangers).collect()
}
