//! Volumes, claims and storage classes.

use api::json::{as_items, as_text};
use serde_json::Value;

use super::sheet::{Sheet, shown, time};
use super::volumes;
use crate::env::Env;
use crate::error::Result;

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const DEFAULT_MARKS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

fn class_of(object: &Value) -> &str {
    let annotation = as_text(&object["metadata"]["annotations"][BETA_CLASS]);
    if annotation.is_empty() { as_text(&object["spec"]["storageClassName"]) } else { annotation }
}

/// As Go prints a list.
fn listed(values: &Value) -> String {
    format!("[{}]", as_items(values).iter().map(as_text).collect::<Vec<_>>().join(" "))
}

fn access_modes(modes: &Value) -> String {
    let short = |mode: &str| match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    // In upstream's order, whatever the object's.
    let order = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];
    let has = |mode: &&str| as_items(modes).iter().any(|own| own == mode);
    order.into_iter().filter(has).map(short).collect::<Vec<_>>().join(",")
}

/// `a=b,c=d`, or `<none>`.
fn pairs(map: &Value) -> String {
    let pairs = map.as_object().into_iter().flatten();
    let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", as_text(value))).collect();
    if pairs.is_empty() { "<none>".to_string() } else { pairs.join(",") }
}

fn status(sheet: &mut Sheet, object: &Value) {
    let deleted = as_text(&object["metadata"]["deletionTimestamp"]);
    if deleted.is_empty() {
        sheet.line(0, &format!("Status:\t{}", as_text(&object["status"]["phase"])));
        return;
    }
    let since = deleted.parse::<jiff::Timestamp>().map(|time| jiff::Timestamp::now().duration_since(time));
    let since = api::time::human_duration(since.unwrap_or_default());
    sheet.line(0, &format!("Status:\tTerminating (lasts {since})"));
}

pub(super) fn volume(sheet: &mut Sheet, object: &Value) {
    let (metadata, spec) = (&object["metadata"], &object["spec"]);
    sheet.line(0, &format!("Name:\t{}", as_text(&metadata["name"])));
    sheet.labels(0, "Labels", &metadata["labels"]);
    sheet.annotations(0, "Annotations", &metadata["annotations"]);
    sheet.line(0, &format!("Finalizers:\t{}", listed(&metadata["finalizers"])));
    sheet.line(0, &format!("StorageClass:\t{}", class_of(object)));
    status(sheet, object);
    let claim = &spec["claimRef"];
    let claim = match claim.is_null() {
        true => String::new(),
        false => format!("{}/{}", as_text(&claim["namespace"]), as_text(&claim["name"])),
    };
    sheet.line(0, &format!("Claim:\t{claim}"));
    sheet.line(0, &format!("Reclaim Policy:\t{}", as_text(&spec["persistentVolumeReclaimPolicy"])));
    sheet.line(0, &format!("Access Modes:\t{}", access_modes(&spec["accessModes"])));
    if let Some(mode) = spec["volumeMode"].as_str() {
        sheet.line(0, &format!("VolumeMode:\t{mode}"));
    }
    sheet.line(0, &format!("Capacity:\t{}", as_text(&spec["capacity"]["storage"])));
    affinity(sheet, &spec["nodeAffinity"]["required"]);
    sheet.line(0, &format!("Message:\t{}", as_text(&object["status"]["message"])));
    sheet.line(0, "Source:");
    volumes::source_of_persistent(sheet, spec);
}

fn affinity(sheet: &mut Sheet, required: &Value) {
    if required.is_null() {
        sheet.line(0, "Node Affinity:\t<none>");
        return;
    }
    sheet.line(0, "Node Affinity:\t");
    let terms = as_items(&required["nodeSelectorTerms"]);
    if terms.is_empty() {
        sheet.line(1, "Required Terms:\t<none>");
        return;
    }
    sheet.line(1, "Required Terms:\t");
    for (at, term) in terms.iter().enumerate() {
        let expressions = as_items(&term["matchExpressions"]).iter().map(|one| {
            let values: Vec<&str> = as_items(&one["values"]).iter().map(as_text).collect();
            let operator = as_text(&one["operator"]).to_lowercase();
            let key = as_text(&one["key"]);
            match values.is_empty() {
                true => format!("{key} {operator}"),
                false => format!("{key} {operator} [{}]", values.join(", ")),
            }
        });
        let expressions: Vec<String> = expressions.collect();
        let (first, rest) = match expressions.split_first() {
            Some((first, rest)) => (first.as_str(), rest),
            None => ("<none>", &[][..]),
        };
        sheet.line(2, &format!("Term {at}:\t{first}"));
        rest.iter().for_each(|line| sheet.line(2, &format!("\t{line}")));
    }
}

pub(super) async fn claim(env: &Env, sheet: &mut Sheet, object: &Value) -> Result<()> {
    let (metadata, spec) = (&object["metadata"], &object["spec"]);
    sheet.line(0, &format!("Name:\t{}", as_text(&metadata["name"])));
    sheet.line(0, &format!("Namespace:\t{}", as_text(&metadata["namespace"])));
    sheet.line(0, &format!("StorageClass:\t{}", class_of(object)));
    status(sheet, object);
    let volume = as_text(&spec["volumeName"]);
    sheet.line(0, &format!("Volume:\t{volume}"));
    sheet.labels(0, "Labels", &metadata["labels"]);
    sheet.annotations(0, "Annotations", &metadata["annotations"]);
    sheet.line(0, &format!("Finalizers:\t{}", listed(&metadata["finalizers"])));
    let (capacity, modes) = match volume.is_empty() {
        true => (String::new(), String::new()),
        false => {
            let capacity = object["status"]["capacity"]["storage"].as_str().unwrap_or("0");
            (capacity.to_string(), access_modes(&object["status"]["accessModes"]))
        }
    };
    sheet.line(0, &format!("Capacity:\t{capacity}"));
    sheet.line(0, &format!("Access Modes:\t{modes}"));
    if let Some(mode) = spec["volumeMode"].as_str() {
        sheet.line(0, &format!("VolumeMode:\t{mode}"));
    }
    let source = &spec["dataSource"];
    if !source.is_null() {
        sheet.line(0, "DataSource:");
        if let Some(group) = source["apiGroup"].as_str() {
            sheet.line(1, &format!("APIGroup:\t{group}"));
        }
        sheet.line(1, &format!("Kind:\t{}", as_text(&source["kind"])));
        sheet.line(1, &format!("Name:\t{}", as_text(&source["name"])));
    }
    sheet.column(0, "Used By", &users(env, object).await?);
    conditions(sheet, &object["status"]["conditions"]);
    Ok(())
}

/// Names of the pods that use a claim, or that it was made for.
async fn users(env: &Env, claim: &Value) -> Result<Vec<String>> {
    let row = env.resource("pods").await?;
    let metadata = &claim["metadata"];
    let pods = env.list(&row, metadata["namespace"].as_str(), "", 500).await?;
    let uses = |pod: &&Value| {
        let volumes = as_items(&pod["spec"]["volumes"]);
        let owners = as_items(&metadata["ownerReferences"]);
        volumes.iter().any(|one| one["persistentVolumeClaim"]["claimName"] == metadata["name"])
            || owners.iter().any(|one| one["kind"] == "Pod" && one["uid"] == pod["metadata"]["uid"])
    };
    let mut names: Vec<String> =
        pods.iter().filter(uses).map(|pod| as_text(&pod["metadata"]["name"]).to_string()).collect();
    names.sort();
    Ok(names)
}

fn conditions(sheet: &mut Sheet, conditions: &Value) {
    if as_items(conditions).is_empty() {
        return;
    }
    sheet.line(0, "Conditions:");
    sheet.line(1, "Type\tStatus\tLastProbeTime\tLastTransitionTime\tReason\tMessage");
    sheet.line(1, "----\t------\t-----------------\t------------------\t------\t-------");
    for one in as_items(conditions) {
        let text = |field: &str| as_text(&one[field]);
        sheet.line(
            1,
            &format!(
                "{} \t{} \t{} \t{} \t{} \t{}",
                text("type"),
                text("status"),
                time(&one["lastProbeTime"]),
                time(&one["lastTransitionTime"]),
                text("reason"),
                text("message")
            ),
        );
    }
}

pub(super) fn class(sheet: &mut Sheet, object: &Value) {
    let annotations = &object["metadata"]["annotations"];
    sheet.line(0, &format!("Name:\t{}", as_text(&object["metadata"]["name"])));
    let is_default = DEFAULT_MARKS.iter().any(|mark| annotations[*mark] == "true");
    sheet.line(0, &format!("IsDefaultClass:\t{}", if is_default { "Yes" } else { "No" }));
    sheet.line(0, &format!("Annotations:\t{}", pairs(annotations)));
    sheet.line(0, &format!("Provisioner:\t{}", as_text(&object["provisioner"])));
    sheet.line(0, &format!("Parameters:\t{}", pairs(&object["parameters"])));
    let expands = match object["allowVolumeExpansion"].as_bool() {
        None => "<unset>",
        Some(true) => "True",
        Some(false) => "False",
    };
    sheet.line(0, &format!("AllowVolumeExpansion:\t{expands}"));
    let options = as_items(&object["mountOptions"]);
    sheet.line(0, if options.is_empty() { "MountOptions:\t<none>" } else { "MountOptions:" });
    options.iter().for_each(|option| sheet.line(1, &shown(option)));
    for (label, field) in [("ReclaimPolicy", "reclaimPolicy"), ("VolumeBindingMode", "volumeBindingMode")] {
        if let Some(value) = object[field].as_str() {
            sheet.line(0, &format!("{label}:\t{value}"));
        }
    }
    topologies(sheet, &object["allowedTopologies"]);
}

fn topologies(sheet: &mut Sheet, topologies: &Value) {
    if topologies.is_null() {
        return;
    }
    sheet.line(0, "AllowedTopologies:\t");
    for (at, term) in as_items(topologies).iter().enumerate() {
        for (place, one) in as_items(&term["matchLabelExpressions"]).iter().enumerate() {
            let values: Vec<&str> = as_items(&one["values"]).iter().map(as_text).collect();
            let title = if place == 0 { format!("Term {at}:") } else { String::new() };
            sheet.line(1, &format!("{title}\t{} in [{}]", as_text(&one["key"]), values.join(", ")));
        }
    }
}
