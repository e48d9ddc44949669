//! LimitRanger: containers that say nothing get their namespace's defaults, and what pods and claims ask for
//! lies between its bounds.

use std::collections::BTreeMap;

use api::ApiError;
use api::json::{items, text};
use api::kinds::LIMIT_RANGE;
use api::quantity::{Format, Quantity};
use api::resources::{self, Amounts};
use serde_json::{Map, Value, json};

use super::request::{Operation, Request};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

type Quantities = BTreeMap<String, Quantity>;

/// The limit ranges of the request's namespace, if they are about what it writes.
fn ranges(request: &Request<'_>) -> Vec<Value> {
    let creates = request.operation == Operation::Create;
    let about = match (request.is("", "pods", None), request.is("", "persistentvolumeclaims", None)) {
        (true, _) => creates,
        (_, true) => creates || request.operation == Operation::Update,
        _ => request.operation == Operation::Update && request.is("", "pods", Some("resize")),
    };
    let going = request.old.is_some_and(|old| old.metadata().deletion_timestamp.is_some());
    if !about || going {
        return Vec::new();
    }
    let found = request.ctx.caches.list(&LIMIT_RANGE, request.ctx.namespace);
    found.iter().filter_map(|range| range.tree().ok()).collect()
}

pub(super) fn mutate(request: &Request<'_>, pod: &mut Value) {
    if request.ctx.row.plural != "pods" {
        return;
    }
    for range in ranges(request) {
        let (mut requests, mut limits) = (Map::new(), Map::new());
        for item in items(&range, "spec.limits").iter().filter(|item| item["type"] == "Container") {
            let of = |part: &str| item[part].as_object().cloned().unwrap_or_default();
            requests.extend(of("defaultRequest"));
            limits.extend(of("default"));
        }
        let mut told = Vec::new();
        for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
            let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten().filter(|one| one.is_object()) {
                let name = text(container, "name").to_string();
                for (part, defaults, word) in
                    [("requests", &requests, "request"), ("limits", &limits, "limit")]
                {
                    let added = fill(container, part, defaults);
                    if !added.is_empty() {
                        told.push(format!("{} {word} for {what} {name}", added.join(", ")));
                    }
                }
            }
        }
        if !told.is_empty() {
            let text = format!("LimitRanger plugin set: {}", told.join("; "));
            pod["metadata"]["annotations"][ANNOTATION] = json!(text);
        }
    }
}

/// Adds the defaults that a container does not have; their names.
fn fill(container: &mut Value, part: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let own = &container["resources"][part];
    let missing: Vec<_> = defaults.iter().filter(|(name, _)| own[name.as_str()].is_null()).collect();
    let mut added = Vec::new();
    for (name, amount) in missing {
        container["resources"][part][name] = amount.clone();
        added.push(name.clone());
    }
    added.sort();
    added
}

pub(super) fn validate(request: &Request<'_>, object: &Value) -> Result<(), ApiError> {
    for range in ranges(request) {
        let mut faults = Vec::new();
        for item in items(&range, "spec.limits") {
            match (text(item, "type"), &*request.ctx.row.plural) {
                ("Container", "pods") => {
                    let containers =
                        items(object, "spec.containers").iter().chain(items(object, "spec.initContainers"));
                    for container in containers {
                        let of = |part: &str| quantities(&container["resources"][part]);
                        Requested { kind: "Container", requests: of("requests"), limits: of("limits") }
                            .check(item, &mut faults);
                    }
                }
                ("Pod", "pods") => pod_asks(object).check(item, &mut faults),
                ("PersistentVolumeClaim", "persistentvolumeclaims") => {
                    let requests = quantities(&object["spec"]["resources"]["requests"]);
                    Requested { kind: "PersistentVolumeClaim", requests, limits: Quantities::new() }
                        .check_claim(item, &mut faults);
                }
                _ => {}
            }
        }
        // Several faults are shown in brackets, as upstream's aggregate.
        match faults.len() {
            0 => {}
            1 => return Err(request.forbidden(&faults[0])),
            _ => return Err(request.forbidden(&format!("[{}]", faults.join(", ")))),
        }
    }
    Ok(())
}

fn quantities(list: &Value) -> Quantities {
    let members = list.as_object().into_iter().flatten();
    members.filter_map(|(name, amount)| Some((name.clone(), amount.as_str()?.parse().ok()?))).collect()
}

/// What a whole pod asks for.
fn pod_asks(pod: &Value) -> Requested {
    let spec = api::decode::pod_spec(&pod["spec"]).unwrap_or_default();
    let counted = |amounts: Amounts| -> Quantities {
        let quantity = |name: &str, amount| match name {
            resources::CPU => Quantity::from_milli(amount),
            resources::MEMORY | resources::EPHEMERAL_STORAGE => Quantity::bytes(amount),
            _ => Quantity::new(amount, Format::DecimalSi),
        };
        amounts.into_iter().map(|(name, amount)| (name.clone(), quantity(&name, amount))).collect()
    };
    let (requests, limits) = (resources::pod_requests(&spec), resources::pod_limits(&spec));
    Requested { kind: "Pod", requests: counted(requests), limits: counted(limits) }
}

/// What something asks for.
struct Requested {
    kind: &'static str,
    requests: Quantities,
    limits: Quantities,
}

impl Requested {
    fn check(&self, item: &Value, faults: &mut Vec<String>) {
        for (name, least) in quantities(&item["min"]) {
            faults.extend(self.minimum(&name, least));
        }
        for (name, most) in quantities(&item["max"]) {
            faults.extend(self.maximum(&name, most));
        }
        for (name, ratio) in quantities(&item["maxLimitRequestRatio"]) {
            faults.extend(self.ratio(&name, ratio));
        }
    }

    /// Only the requests of claims count.
    fn check_claim(&self, item: &Value, faults: &mut Vec<String>) {
        for (name, least) in quantities(&item["min"]) {
            faults.extend(self.minimum(&name, least));
        }
        for (name, most) in quantities(&item["max"]) {
            let what = format!("maximum {name} usage per {} is {most}", self.kind);
            match self.requests.get(&name) {
                None => faults.push(format!("{what}.  No request is specified")),
                Some(request) if *request > most => faults.push(format!("{what}, but request is {request}")),
                Some(_) => {}
            }
        }
    }

    fn minimum(&self, name: &str, least: Quantity) -> Option<String> {
        let what = format!("minimum {name} usage per {} is {least}", self.kind);
        match (self.requests.get(name), self.limits.get(name)) {
            (None, _) => Some(format!("{what}.  No request is specified")),
            (Some(request), _) if *request < least => Some(format!("{what}, but request is {request}")),
            (_, Some(limit)) if *limit < least => Some(format!("{what}, but limit is {limit}")),
            _ => None,
        }
    }

    fn maximum(&self, name: &str, most: Quantity) -> Option<String> {
        let what = format!("maximum {name} usage per {} is {most}", self.kind);
        match (self.requests.get(name), self.limits.get(name)) {
            (_, None) => Some(format!("{what}.  No limit is specified")),
            (_, Some(limit)) if *limit > most => Some(format!("{what}, but limit is {limit}")),
            (Some(request), _) if *request > most => Some(format!("{what}, but request is {request}")),
            _ => None,
        }
    }

    fn ratio(&self, name: &str, most: Quantity) -> Option<String> {
        let what = format!("{name} max limit to request ratio per {} is {most}", self.kind);
        let given = |list: &Quantities| list.get(name).filter(|amount| !amount.is_zero()).copied();
        let Some(request) = given(&self.requests) else {
            return Some(format!("{what}, but no request is specified or request is 0"));
        };
        let Some(limit) = given(&self.limits) else {
            return Some(format!("{what}, but no limit is specified or limit is 0"));
        };
        let ratio = limit.as_f64() / request.as_f64();
        (ratio > most.as_f64()).then(|| format!("{what}, but provided ratio is {ratio:.6}"))
    }
}
