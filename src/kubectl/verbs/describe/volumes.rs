//! Volumes of pods and templates.

use api::json::{as_items, as_text};
use serde_json::Value;

use super::sheet::{Sheet, shown};

pub(super) fn describe(sheet: &mut Sheet, volumes: &Value, level: usize) {
    if as_items(volumes).is_empty() {
        sheet.line(level, "Volumes:\t<none>");
        return;
    }
    sheet.line(level, "Volumes:");
    let name_indent = if level > 0 { " " } else { "" };
    for volume in as_items(volumes) {
        sheet.line(1, &format!("{name_indent}{}:", as_text(&volume["name"])));
        one(sheet, volume, 2);
    }
}

/// What a persistent volume is made of.
pub(super) fn source_of_persistent(sheet: &mut Sheet, spec: &Value) {
    const OTHERS: [&str; 8] = [
        "accessModes",
        "capacity",
        "claimRef",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    ];
    let is_source = |key: &&String| !OTHERS.contains(&key.as_str()) && *key != "mountOptions";
    match spec.as_object().into_iter().flat_map(|spec| spec.keys()).find(is_source) {
        Some(key) => one(sheet, &serde_json::json!({ key: spec[key] }), 2),
        None => sheet.line(1, "<unknown>"),
    }
}

fn one(sheet: &mut Sheet, volume: &Value, level: usize) {
    let Some((kind, source)) = volume.as_object().into_iter().flatten().find(|(key, _)| *key != "name")
    else {
        sheet.line(level, "<unknown>");
        return;
    };
    let mut line = |label: &str, value: String| sheet.line(level, &format!("{label}:\t{value}"));
    match kind.as_str() {
        "hostPath" => {
            line("Type", "HostPath (bare host directory volume)".to_string());
            line("Path", as_text(&source["path"]).to_string());
            line("HostPathType", as_text(&source["type"]).to_string());
        }
        "emptyDir" => {
            line("Type", "EmptyDir (a temporary directory that shares a pod's lifetime)".to_string());
            line("Medium", as_text(&source["medium"]).to_string());
            line(
                "SizeLimit",
                source["sizeLimit"].as_str().map_or_else(|| "<unset>".to_string(), str::to_string),
            );
        }
        "secret" => {
            line("Type", "Secret (a volume populated by a Secret)".to_string());
            line("SecretName", as_text(&source["secretName"]).to_string());
            line("Optional", (source["optional"] == true).to_string());
        }
        "configMap" => {
            line("Type", "ConfigMap (a volume populated by a ConfigMap)".to_string());
            line("Name", as_text(&source["name"]).to_string());
            line("Optional", (source["optional"] == true).to_string());
        }
        "persistentVolumeClaim" => {
            line(
                "Type",
                "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)"
                    .to_string(),
            );
            line("ClaimName", as_text(&source["claimName"]).to_string());
            line("ReadOnly", (source["readOnly"] == true).to_string());
        }
        "local" => {
            line("Type", "LocalVolume (a persistent volume backed by local storage on a node)".to_string());
            line("Path", as_text(&source["path"]).to_string());
        }
        "downwardAPI" => {
            line("Type", "DownwardAPI (a volume populated by information about the pod)".to_string());
            sheet.line(level, "Items:");
            for item in as_items(&source["items"]) {
                sheet.line(
                    level + 1,
                    &format!("{} -> {}", as_text(&item["fieldRef"]["fieldPath"]), as_text(&item["path"])),
                );
            }
        }
        "projected" => {
            line(
                "Type",
                "Projected (a volume that contains injected data from multiple sources)".to_string(),
            );
            for source in as_items(&source["sources"]) {
                projected(sheet, source, level);
            }
        }
        other => {
            line("Type", other.to_string());
            for (key, value) in source.as_object().into_iter().flatten() {
                line(key, shown(value));
            }
        }
    }
}

fn projected(sheet: &mut Sheet, source: &Value, level: usize) {
    let mut line = |label: &str, value: String| sheet.line(level, &format!("{label}:\t{value}"));
    if let secret @ Value::Object(_) = &source["secret"] {
        line("SecretName", as_text(&secret["name"]).to_string());
        line("Optional", (secret["optional"] == true).to_string());
    } else if source["downwardAPI"].is_object() {
        line("DownwardAPI", "true".to_string());
    } else if let map @ Value::Object(_) = &source["configMap"] {
        line("ConfigMapName", as_text(&map["name"]).to_string());
        line("Optional", (map["optional"] == true).to_string());
    } else if let token @ Value::Object(_) = &source["serviceAccountToken"] {
        line("TokenExpirationSeconds", shown(&token["expirationSeconds"]));
    }
}
