//! Nodes: their state, capacity, and what runs on them.

use std::collections::BTreeMap;

use api::json::{as_items, as_text};
use jiff::Timestamp;
use serde_json::Value;

use client::https::encode_component;

use super::sheet::{Sheet, shown, time};
use crate::age;
use crate::env::Env;
use crate::error::Result;

const ROLE: &str = "node-role.kubernetes.io/";

pub(super) async fn describe(env: &Env, sheet: &mut Sheet, node: &Value) -> Result<()> {
    let (metadata, spec, status) = (&node["metadata"], &node["spec"], &node["status"]);
    let labels = metadata["labels"].as_object().into_iter().flatten();
    let mut roles: Vec<&str> = labels.filter_map(|(key, _)| key.strip_prefix(ROLE)).collect();
    roles.sort_unstable();
    let name = as_text(&metadata["name"]);
    sheet.line(0, &format!("Name:\t{name}"));
    sheet.line(
        0,
        &format!("Roles:\t{}", if roles.is_empty() { "<none>".to_string() } else { roles.join(",") }),
    );
    sheet.labels(0, "Labels", &metadata["labels"]);
    sheet.annotations(0, "Annotations", &metadata["annotations"]);
    sheet.line(0, &format!("CreationTimestamp:\t{}", time(&metadata["creationTimestamp"])));
    let taint = |one: &Value| {
        let value = one["value"].as_str().filter(|value| !value.is_empty()).map(|value| format!("={value}"));
        format!("{}{}:{}", as_text(&one["key"]), value.unwrap_or_default(), as_text(&one["effect"]))
    };
    let taints: Vec<String> = as_items(&spec["taints"]).iter().map(taint).collect();
    sheet.column(0, "Taints", &taints);
    sheet.line(0, &format!("Unschedulable:\t{}", spec["unschedulable"] == true));
    lease(env, sheet, name).await?;
    if !as_items(&status["conditions"]).is_empty() {
        sheet.line(0, "Conditions:");
        sheet.line(1, "Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage");
        sheet.line(1, "----\t------\t-----------------\t------------------\t------\t-------");
        for one in as_items(&status["conditions"]) {
            sheet.line(
                1,
                &format!(
                    "{} \t{} \t{} \t{} \t{} \t{}",
                    as_text(&one["type"]),
                    as_text(&one["status"]),
                    time(&one["lastHeartbeatTime"]),
                    time(&one["lastTransitionTime"]),
                    as_text(&one["reason"]),
                    as_text(&one["message"])
                ),
            );
        }
    }
    sheet.line(0, "Addresses:");
    for one in as_items(&status["addresses"]) {
        sheet.line(1, &format!("{}:\t{}", as_text(&one["type"]), as_text(&one["address"])));
    }
    for (title, field) in [("Capacity", "capacity"), ("Allocatable", "allocatable")] {
        if let Some(map) = status[field].as_object().filter(|map| !map.is_empty()) {
            sheet.line(0, &format!("{title}:"));
            for (name, quantity) in map {
                sheet.line(1, &format!("{name}:\t{}", shown(quantity)));
            }
        }
    }
    system(sheet, &status["nodeInfo"]);
    if let Some(range) = spec["podCIDR"].as_str().filter(|range| !range.is_empty()) {
        sheet.line(0, &format!("PodCIDR:\t{range}"));
        let ranges: Vec<&str> = as_items(&spec["podCIDRs"]).iter().map(as_text).collect();
        sheet.line(0, &format!("PodCIDRs:\t{}", ranges.join(",")));
    }
    if let Some(id) = spec["providerID"].as_str().filter(|id| !id.is_empty()) {
        sheet.line(0, &format!("ProviderID:\t{id}"));
    }
    pods(env, sheet, name, status).await
}

fn system(sheet: &mut Sheet, info: &Value) {
    sheet.line(0, "System Info:");
    for (label, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
        ("Kube-Proxy Version", "kubeProxyVersion"),
    ] {
        sheet.line(1, &format!("{label}:\t{}", as_text(&info[field])));
    }
}

async fn lease(env: &Env, sheet: &mut Sheet, name: &str) -> Result<()> {
    let path =
        format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{}", encode_component(name));
    let spec = match env.rest().await?.get(&path).await {
        Ok(mut lease) => lease["spec"].take(),
        Err(error) => {
            let why = error.api().map_or_else(|| error.to_string(), ToString::to_string);
            sheet.line(0, &format!("Lease:\tFailed to get lease: {why}"));
            return Ok(());
        }
    };
    sheet.line(0, "Lease:");
    let or_unset = |value: &Value| value.as_str().map_or_else(|| "<unset>".to_string(), str::to_string);
    let time_or_unset = |value: &Value| if value.is_string() { time(value) } else { "<unset>".to_string() };
    sheet.line(1, &format!("HolderIdentity:\t{}", or_unset(&spec["holderIdentity"])));
    sheet.line(1, &format!("AcquireTime:\t{}", time_or_unset(&spec["acquireTime"])));
    sheet.line(1, &format!("RenewTime:\t{}", time_or_unset(&spec["renewTime"])));
    Ok(())
}

/// A quantity in thousandths, rounded up; enough for sums and percentages.
fn milli(quantity: &Value) -> i128 {
    let text = as_text(quantity);
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let factor: f64 = match &text[end..] {
        "m" => 1.0,
        "k" => 1e6,
        "M" => 1e9,
        "G" => 1e12,
        "T" => 1e15,
        "Ki" => 1024e3,
        "Mi" => 1_048_576e3,
        "Gi" => 1_073_741_824e3,
        "Ti" => 1_099_511_627_776e3,
        _ => 1e3,
    };
    #[expect(clippy::cast_possible_truncation, reason = "a float of this size fits")]
    let value = (text[..end].parse::<f64>().unwrap_or(0.0) * factor).ceil() as i128;
    value
}

fn show(resource: &str, milli: i128) -> String {
    if resource == "cpu" {
        return if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") };
    }
    let bytes = milli / 1000;
    for (unit, size) in [("Gi", 1_i128 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)] {
        if bytes > 0 && bytes % size == 0 {
            return format!("{}{unit}", bytes / size);
        }
    }
    bytes.to_string()
}

/// Requests or limits of a pod: the sum of its containers, or its largest init container if that is more.
fn of_pod(pod: &Value, field: &str) -> BTreeMap<String, i128> {
    let mut sums: BTreeMap<String, i128> = BTreeMap::new();
    let entries = |container: &'_ Value| -> Vec<(String, i128)> {
        let map = container["resources"][field].as_object().into_iter().flatten();
        map.map(|(name, quantity)| (name.clone(), milli(quantity))).collect()
    };
    for container in as_items(&pod["spec"]["containers"]) {
        for (name, amount) in entries(container) {
            *sums.entry(name).or_default() += amount;
        }
    }
    for container in as_items(&pod["spec"]["initContainers"]) {
        for (name, amount) in entries(container) {
            let sum = sums.entry(name).or_default();
            *sum = (*sum).max(amount);
        }
    }
    sums
}

async fn pods(env: &Env, sheet: &mut Sheet, name: &str, status: &Value) -> Result<()> {
    let terms = format!("spec.nodeName={name},status.phase!=Succeeded,status.phase!=Failed");
    let row = env.resource("pods").await?;
    let pods = env.list(&row, None, &format!("fieldSelector={}&", encode_component(&terms)), 500).await?;
    let allocatable = |resource: &str| milli(&status["allocatable"][resource]);
    let part = |resource: &str, amount: i128| {
        let whole = allocatable(resource);
        format!("{} ({}%)", show(resource, amount), if whole > 0 { amount * 100 / whole } else { 0 })
    };
    sheet.line(0, &format!("Non-terminated Pods:\t({} in total)", pods.len()));
    sheet.line(1, "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge");
    sheet.line(1, "---------\t----\t\t------------\t----------\t---------------\t-------------\t---");
    let mut totals: BTreeMap<String, (i128, i128)> = BTreeMap::new();
    let now = Timestamp::now();
    for pod in &pods {
        let (requests, limits) = (of_pod(pod, "requests"), of_pod(pod, "limits"));
        let cell = |map: &BTreeMap<String, i128>, resource: &str| {
            part(resource, map.get(resource).copied().unwrap_or(0))
        };
        sheet.line(
            1,
            &format!(
                "{}\t{}\t\t{}\t{}\t{}\t{}\t{}",
                as_text(&pod["metadata"]["namespace"]),
                as_text(&pod["metadata"]["name"]),
                cell(&requests, "cpu"),
                cell(&limits, "cpu"),
                cell(&requests, "memory"),
                cell(&limits, "memory"),
                age::since(pod["metadata"]["creationTimestamp"].as_str(), now)
            ),
        );
        for (resource, amount) in requests {
            totals.entry(resource).or_default().0 += amount;
        }
        for (resource, amount) in limits {
            totals.entry(resource).or_default().1 += amount;
        }
    }
    sheet.line(0, "Allocated resources:");
    sheet.line(1, "(Total limits may be over 100 percent, i.e., overcommitted.)");
    sheet.line(1, "Resource\tRequests\tLimits");
    sheet.line(1, "--------\t--------\t------");
    let mut names = vec!["cpu".to_string(), "memory".to_string(), "ephemeral-storage".to_string()];
    let extra = status["allocatable"].as_object().into_iter().flatten().map(|(name, _)| name.clone());
    names.extend(
        extra.filter(|name| !matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage" | "pods")),
    );
    for resource in names {
        let (requests, limits) = totals.get(&resource).copied().unwrap_or_default();
        sheet.line(1, &format!("{resource}\t{}\t{}", part(&resource, requests), part(&resource, limits)));
    }
    Ok(())
}
