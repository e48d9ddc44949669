//! Roles and bindings.

use api::json::{as_items, as_text};
use serde_json::Value;

use super::sheet::Sheet;
use crate::output::bracketed;

fn head(sheet: &mut Sheet, object: &Value) {
    let metadata = &object["metadata"];
    sheet.line(0, &format!("Name:\t{}", as_text(&metadata["name"])));
    sheet.labels(0, "Labels", &metadata["labels"]);
    sheet.annotations(0, "Annotations", &metadata["annotations"]);
}

pub(super) fn role(sheet: &mut Sheet, object: &Value) {
    head(sheet, object);
    sheet.line(0, "PolicyRule:");
    sheet.line(1, "Resources\tNon-Resource URLs\tResource Names\tVerbs");
    sheet.line(1, "---------\t-----------------\t--------------\t-----");
    // Upstream orders by verbs, groups and resources as Go prints them.
    let mut lines: Vec<(String, String)> = Vec::new();
    for rule in as_items(&object["rules"]) {
        let tail = format!(
            "{}\t{}\t{}",
            bracketed(&rule["nonResourceURLs"]),
            bracketed(&rule["resourceNames"]),
            bracketed(&rule["verbs"])
        );
        let mut resources = Vec::new();
        for group in as_items(&rule["apiGroups"]) {
            for resource in as_items(&rule["resources"]) {
                let (group, resource) = (as_text(group), as_text(resource));
                let order = format!("{}[{group}],[{resource}],", bracketed(&rule["verbs"]));
                resources.push((
                    order,
                    match (group, resource.split_once('/')) {
                        ("", _) => resource.to_string(),
                        (group, Some((name, sub))) => format!("{name}.{group}/{sub}"),
                        (group, None) => format!("{resource}.{group}"),
                    },
                ));
            }
        }
        if resources.is_empty() {
            lines.push((format!("{}[],[],", bracketed(&rule["verbs"])), format!("\t{tail}")));
        }
        lines.extend(resources.into_iter().map(|(order, resource)| (order, format!("{resource}\t{tail}"))));
    }
    lines.sort();
    for (_, line) in lines {
        sheet.line(1, &line);
    }
}

pub(super) fn binding(sheet: &mut Sheet, object: &Value) {
    head(sheet, object);
    sheet.line(0, "Role:");
    sheet.line(1, &format!("Kind:\t{}", as_text(&object["roleRef"]["kind"])));
    sheet.line(1, &format!("Name:\t{}", as_text(&object["roleRef"]["name"])));
    sheet.line(0, "Subjects:");
    sheet.line(1, "Kind\tName\tNamespace");
    sheet.line(1, "----\t----\t---------");
    for subject in as_items(&object["subjects"]) {
        sheet.line(
            1,
            &format!(
                "{}\t{}\t{}",
                as_text(&subject["kind"]),
                as_text(&subject["name"]),
                as_text(&subject["namespace"])
            ),
        );
    }
}
