//! Services, namespaces, configmaps, secrets and service accounts.

use api::json::{as_items, as_text};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use client::https::encode_component;

use super::sheet::{Sheet, shown};
use crate::env::Env;
use crate::error::Result;

fn head(sheet: &mut Sheet, object: &Value) {
    let metadata = &object["metadata"];
    sheet.line(0, &format!("Name:\t{}", as_text(&metadata["name"])));
    if let Some(namespace) = metadata["namespace"].as_str() {
        sheet.line(0, &format!("Namespace:\t{namespace}"));
    }
    sheet.labels(0, "Labels", &metadata["labels"]);
    sheet.annotations(0, "Annotations", &metadata["annotations"]);
}

pub(super) fn joined(values: &Value) -> String {
    as_items(values).iter().map(as_text).collect::<Vec<_>>().join(",")
}

pub(super) async fn service(env: &Env, sheet: &mut Sheet, object: &Value) -> Result<()> {
    let (metadata, spec) = (&object["metadata"], &object["spec"]);
    head(sheet, object);
    let pairs = spec["selector"].as_object().into_iter().flatten();
    let selector: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", as_text(value))).collect();
    sheet.line(
        0,
        &format!(
            "Selector:\t{}",
            if selector.is_empty() { "<none>".to_string() } else { selector.join(",") }
        ),
    );
    sheet.line(0, &format!("Type:\t{}", as_text(&spec["type"])));
    if spec["ipFamilyPolicy"].is_string() {
        sheet.line(0, &format!("IP Family Policy:\t{}", as_text(&spec["ipFamilyPolicy"])));
    }
    let families = joined(&spec["ipFamilies"]);
    sheet.line(
        0,
        &format!("IP Families:\t{}", if families.is_empty() { "<none>".to_string() } else { families }),
    );
    sheet.line(0, &format!("IP:\t{}", as_text(&spec["clusterIP"])));
    let addresses = joined(&spec["clusterIPs"]);
    sheet.line(0, &format!("IPs:\t{}", if addresses.is_empty() { "<none>".to_string() } else { addresses }));
    if !as_items(&spec["externalIPs"]).is_empty() {
        sheet.line(0, &format!("External IPs:\t{}", joined(&spec["externalIPs"])));
    }
    if let Some(address) = spec["loadBalancerIP"].as_str().filter(|address| !address.is_empty()) {
        sheet.line(0, &format!("Desired LoadBalancer IP:\t{address}"));
    }
    if let Some(name) = spec["externalName"].as_str().filter(|name| !name.is_empty()) {
        sheet.line(0, &format!("External Name:\t{name}"));
    }
    let ingress: Vec<String> = as_items(&object["status"]["loadBalancer"]["ingress"])
        .iter()
        .map(|one| one["ip"].as_str().or(one["hostname"].as_str()).unwrap_or_default().to_string())
        .collect();
    if !ingress.is_empty() {
        sheet.line(0, &format!("LoadBalancer Ingress:\t{} (VIP)", ingress.join(", ")));
    }
    let slices = endpoint_slices(env, as_text(&metadata["namespace"]), as_text(&metadata["name"])).await?;
    for port in as_items(&spec["ports"]) {
        let name = port["name"].as_str().filter(|name| !name.is_empty()).unwrap_or("<unset>");
        let protocol = as_text(&port["protocol"]);
        sheet.line(0, &format!("Port:\t{name}\t{}/{protocol}", shown(&port["port"])));
        let target = &port["targetPort"];
        let target = if target.is_null() || *target == 0 { shown(&port["port"]) } else { shown(target) };
        sheet.line(0, &format!("TargetPort:\t{target}/{protocol}"));
        if let Some(node_port) = port["nodePort"].as_i64().filter(|port| *port != 0) {
            sheet.line(0, &format!("NodePort:\t{name}\t{node_port}/{protocol}"));
        }
        sheet.line(0, &format!("Endpoints:\t{}", endpoints(&slices, as_text(&port["name"]))));
    }
    sheet.line(0, &format!("Session Affinity:\t{}", as_text(&spec["sessionAffinity"])));
    for (label, field) in [
        ("External Traffic Policy", "externalTrafficPolicy"),
        ("Internal Traffic Policy", "internalTrafficPolicy"),
    ] {
        if let Some(policy) = spec[field].as_str().filter(|policy| !policy.is_empty()) {
            sheet.line(0, &format!("{label}:\t{policy}"));
        }
    }
    Ok(())
}

pub(super) async fn endpoint_slices(env: &Env, namespace: &str, service: &str) -> Result<Vec<Value>> {
    let row = env.resource("endpointslices.discovery.k8s.io").await?;
    let query =
        format!("labelSelector={}&", encode_component(&format!("kubernetes.io/service-name={service}")));
    env.list(&row, Some(namespace), &query, 500).await
}

pub(super) fn endpoints(slices: &[Value], port_name: &str) -> String {
    let mut found = Vec::new();
    for slice in slices {
        for port in as_items(&slice["ports"]).iter().filter(|port| as_text(&port["name"]) == port_name) {
            for endpoint in as_items(&slice["endpoints"]) {
                if endpoint["conditions"]["ready"] == false {
                    continue;
                }
                for address in as_items(&endpoint["addresses"]) {
                    let address = as_text(address);
                    let host =
                        if address.contains(':') { format!("[{address}]") } else { address.to_string() };
                    found.push(format!("{host}:{}", shown(&port["port"])));
                }
            }
        }
    }
    let more = found.len().saturating_sub(3);
    found.truncate(3);
    let text = found.join(",");
    if more > 0 { format!("{text} + {more} more...") } else { text }
}

pub(super) async fn namespace(env: &Env, sheet: &mut Sheet, object: &Value) -> Result<()> {
    head(sheet, object);
    sheet.line(0, &format!("Status:\t{}", as_text(&object["status"]["phase"])));
    if !as_items(&object["status"]["conditions"]).is_empty() {
        sheet.line(0, "Conditions:");
        sheet.line(1, "Type\tStatus\tLastTransitionTime\tReason\tMessage");
        sheet.line(1, "----\t------\t------------------\t------\t-------");
        for one in as_items(&object["status"]["conditions"]) {
            let (kind, status, reason, message) = (
                as_text(&one["type"]),
                as_text(&one["status"]),
                as_text(&one["reason"]),
                as_text(&one["message"]),
            );
            sheet.line(
                1,
                &format!(
                    "{kind}\t{status}\t{}\t{reason}\t{message}",
                    super::sheet::time(&one["lastTransitionTime"])
                ),
            );
        }
    }
    let name = as_text(&object["metadata"]["name"]);
    // Kinds that the server may not have: then nothing is said of them.
    for (kind, title) in [("resourcequotas", "resource quota"), ("limitranges", "LimitRange resource")] {
        let count = match env.resource(kind).await {
            Ok(row) => env.list(&row, Some(name), "", 500).await?,
            Err(_) => continue,
        };
        sheet.line(0, "");
        match &count[..] {
            [] => sheet.line(0, &format!("No {title}.")),
            many => {
                for one in many {
                    sheet.line(
                        0,
                        &format!(
                            "{}:\t{}",
                            if kind == "limitranges" { "Limit Range" } else { "Resource Quota" },
                            as_text(&one["metadata"]["name"])
                        ),
                    );
                    for (resource, hard) in one["status"]["hard"].as_object().into_iter().flatten() {
                        sheet.line(
                            1,
                            &format!(
                                "{resource}\t{}\t{}",
                                shown(&one["status"]["used"][resource]),
                                shown(hard)
                            ),
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

pub(super) fn config_map(sheet: &mut Sheet, object: &Value) {
    head(sheet, object);
    sheet.line(0, "");
    sheet.line(0, "Data");
    sheet.line(0, "====");
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        sheet.line(0, &format!("{key}:"));
        sheet.line(0, "----");
        sheet.verbatim(as_text(value));
        sheet.line(0, "");
    }
    sheet.line(0, "");
    sheet.line(0, "BinaryData");
    sheet.line(0, "====");
    for (key, value) in object["binaryData"].as_object().into_iter().flatten() {
        let size = STANDARD.decode(as_text(value)).map_or(0, |bytes| bytes.len());
        sheet.line(0, &format!("{key}: {size} bytes"));
    }
    sheet.line(0, "");
}

pub(super) fn secret(sheet: &mut Sheet, object: &Value) {
    head(sheet, object);
    sheet.line(0, "");
    sheet.line(0, &format!("Type:\t{}", as_text(&object["type"])));
    sheet.line(0, "");
    sheet.line(0, "Data");
    sheet.line(0, "====");
    let is_token = object["type"] == "kubernetes.io/service-account-token";
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        let bytes = STANDARD.decode(as_text(value)).unwrap_or_default();
        if is_token && key == "token" {
            sheet.line(0, &format!("{key}:\t{}", String::from_utf8_lossy(&bytes)));
        } else {
            sheet.line(0, &format!("{key}:\t{} bytes", bytes.len()));
        }
    }
}

pub(super) async fn service_account(env: &Env, sheet: &mut Sheet, object: &Value) -> Result<()> {
    head(sheet, object);
    let names = |field: &str| -> Vec<String> {
        as_items(&object[field]).iter().map(|one| as_text(&one["name"]).to_string()).collect()
    };
    let (name, namespace) = (as_text(&object["metadata"]["name"]), as_text(&object["metadata"]["namespace"]));
    let row = env.resource("secrets").await?;
    let query = format!("fieldSelector={}&", encode_component("type=kubernetes.io/service-account-token"));
    let tokens: Vec<String> = match env.list(&row, Some(namespace), &query, 500).await {
        Ok(secrets) => secrets
            .iter()
            .filter(|secret| secret["metadata"]["annotations"]["kubernetes.io/service-account.name"] == name)
            .map(|secret| as_text(&secret["metadata"]["name"]).to_string())
            .collect(),
        Err(_) => Vec::new(),
    };
    sheet.column(0, "Image pull secrets", &names("imagePullSecrets"));
    sheet.column(0, "Mountable secrets", &names("secrets"));
    sheet.column(0, "Tokens", &tokens);
    Ok(())
}

pub(super) fn endpoints_object(sheet: &mut Sheet, object: &Value) {
    head(sheet, object);
    sheet.line(0, "Subsets:");
    for (index, subset) in as_items(&object["subsets"]).iter().enumerate() {
        if index > 0 {
            sheet.line(0, "");
        }
        let addresses = |field: &str| {
            let texts: Vec<&str> = as_items(&subset[field]).iter().map(|one| as_text(&one["ip"])).collect();
            if texts.is_empty() { "<none>".to_string() } else { texts.join(",") }
        };
        sheet.line(1, &format!("Addresses:\t{}", addresses("addresses")));
        sheet.line(1, &format!("NotReadyAddresses:\t{}", addresses("notReadyAddresses")));
        if !as_items(&subset["ports"]).is_empty() {
            sheet.line(1, "Ports:");
            sheet.line(2, "Name\tPort\tProtocol");
            sheet.line(2, "----\t----\t--------");
            for port in as_items(&subset["ports"]) {
                let name = port["name"].as_str().filter(|name| !name.is_empty()).unwrap_or("<unset>");
                sheet.line(2, &format!("{name}\t{}\t{}", shown(&port["port"]), as_text(&port["protocol"])));
            }
        }
        sheet.line(0, "");
    }
}
