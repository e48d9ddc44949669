//! Pods and their containers.

use api::json::{as_items, as_text};
use serde_json::Value;

use super::sheet::{Sheet, shown, time};
use super::{volumes, workload};

mod container;

pub(super) use container::containers;

pub(super) fn describe(sheet: &mut Sheet, pod: &Value, _events: &[Value]) {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    identity(sheet, pod);
    phase(sheet, pod);
    let profile = |context: &Value| match (as_text(&context["type"]), as_text(&context["localhostProfile"])) {
        ("Localhost", file) => format!("Localhost ({file})"),
        (kind, _) => kind.to_string(),
    };
    if spec["securityContext"]["seccompProfile"].is_object() {
        sheet.line(0, &format!("SeccompProfile:\t{}", profile(&spec["securityContext"]["seccompProfile"])));
    }
    sheet.line(0, &format!("IP:\t{}", as_text(&status["podIP"])));
    addresses(sheet, status);
    workload::controlled_by(sheet, pod);
    if let Some(node) = status["nominatedNodeName"].as_str().filter(|node| !node.is_empty()) {
        sheet.line(0, &format!("NominatedNodeName:\t{node}"));
    }
    if !as_items(&spec["initContainers"]).is_empty() {
        containers(
            sheet,
            "Init Containers",
            &spec["initContainers"],
            Some((&status["initContainerStatuses"], pod)),
            0,
        );
    }
    containers(sheet, "Containers", &spec["containers"], Some((&status["containerStatuses"], pod)), 0);
    if !as_items(&spec["ephemeralContainers"]).is_empty() {
        let known = Some((&status["ephemeralContainerStatuses"], pod));
        containers(sheet, "Ephemeral Containers", &spec["ephemeralContainers"], known, 0);
    }
    conditions(sheet, spec, status);
    volumes::describe(sheet, &spec["volumes"], 0);
    sheet.line(0, &format!("QoS Class:\t{}", shown(&status["qosClass"])));
    sheet.labels(0, "Node-Selectors", &spec["nodeSelector"]);
    tolerations(sheet, &spec["tolerations"]);
}

/// Which pod it is, and where it runs as whom.
fn identity(sheet: &mut Sheet, pod: &Value) {
    let (metadata, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
    sheet.line(0, &format!("Name:\t{}", as_text(&metadata["name"])));
    sheet.line(0, &format!("Namespace:\t{}", as_text(&metadata["namespace"])));
    if let Some(priority) = spec["priority"].as_i64() {
        sheet.line(0, &format!("Priority:\t{priority}"));
    }
    if let Some(class) = spec["priorityClassName"].as_str().filter(|class| !class.is_empty()) {
        sheet.line(0, &format!("Priority Class Name:\t{class}"));
    }
    if let Some(class) = spec["runtimeClassName"].as_str() {
        sheet.line(0, &format!("Runtime Class Name:\t{class}"));
    }
    if let Some(account) = spec["serviceAccountName"].as_str().filter(|name| !name.is_empty()) {
        sheet.line(0, &format!("Service Account:\t{account}"));
    }
    match spec["nodeName"].as_str().filter(|name| !name.is_empty()) {
        Some(node) => sheet.line(0, &format!("Node:\t{node}/{}", as_text(&status["hostIP"]))),
        None => sheet.line(0, "Node:\t<none>"),
    }
    if status["startTime"].is_string() {
        sheet.line(0, &format!("Start Time:\t{}", time(&status["startTime"])));
    }
    sheet.labels(0, "Labels", &metadata["labels"]);
    sheet.annotations(0, "Annotations", &metadata["annotations"]);
}

fn phase(sheet: &mut Sheet, pod: &Value) {
    let (metadata, status) = (&pod["metadata"], &pod["status"]);
    if metadata["deletionTimestamp"].is_string()
        && !matches!(as_text(&status["phase"]), "Failed" | "Succeeded")
    {
        let now = jiff::Timestamp::now();
        let lasts = crate::age::since(metadata["deletionTimestamp"].as_str(), now);
        sheet.line(0, &format!("Status:\tTerminating (lasts {lasts})"));
        sheet.line(
            0,
            &format!("Termination Grace Period:\t{}s", shown(&metadata["deletionGracePeriodSeconds"])),
        );
    } else {
        sheet.line(0, &format!("Status:\t{}", as_text(&status["phase"])));
    }
    for (label, field) in [("Reason", "reason"), ("Message", "message")] {
        if let Some(text) = status[field].as_str().filter(|text| !text.is_empty()) {
            sheet.line(0, &format!("{label}:\t{text}"));
        }
    }
}

fn conditions(sheet: &mut Sheet, spec: &Value, status: &Value) {
    if !as_items(&spec["readinessGates"]).is_empty() {
        sheet.line(0, "Readiness Gates:");
        sheet.line(1, "Type\tStatus");
        for gate in as_items(&spec["readinessGates"]) {
            let met = as_items(&status["conditions"]).iter().find(|one| one["type"] == gate["conditionType"]);
            let state = met.map_or("<none>", |one| as_text(&one["status"]));
            sheet.line(1, &format!("{} \t{state} ", as_text(&gate["conditionType"])));
        }
    }
    if !as_items(&status["conditions"]).is_empty() {
        sheet.line(0, "Conditions:");
        sheet.line(1, "Type\tStatus");
        for one in as_items(&status["conditions"]) {
            sheet.line(1, &format!("{} \t{} ", as_text(&one["type"]), as_text(&one["status"])));
        }
    }
}

fn addresses(sheet: &mut Sheet, status: &Value) {
    let addresses = as_items(&status["podIPs"]);
    if addresses.is_empty() {
        sheet.line(0, "IPs:\t<none>");
        return;
    }
    sheet.line(0, "IPs:");
    for one in addresses {
        sheet.line(1, &format!("IP:\t{}", as_text(&one["ip"])));
    }
}

pub(super) fn tolerations(sheet: &mut Sheet, tolerations: &Value) {
    let text = |one: &Value| {
        let mut text = as_text(&one["key"]).to_string();
        if let Some(value) = one["value"].as_str().filter(|value| !value.is_empty()) {
            text.push_str(&format!("={value}"));
        }
        if let Some(effect) = one["effect"].as_str().filter(|effect| !effect.is_empty()) {
            text.push_str(&format!(":{effect}"));
        }
        if one["operator"] == "Exists" && one["value"].is_null() {
            text.push_str(if one["key"].is_null() && one["effect"].is_null() {
                "op=Exists"
            } else {
                " op=Exists"
            });
        }
        if let Some(seconds) = one["tolerationSeconds"].as_i64() {
            text.push_str(&format!(" for {seconds}s"));
        }
        text
    };
    let mut cells: Vec<String> = as_items(tolerations).iter().map(text).collect();
    cells.sort();
    sheet.column(0, "Tolerations", &cells);
}
