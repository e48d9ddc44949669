//! Kinds without a layout of their own: their fields, spelled out.

use api::json::as_text;
use serde_json::Value;

use super::sheet::{Sheet, shown};

pub(super) fn describe(sheet: &mut Sheet, object: &Value) {
    let metadata = &object["metadata"];
    sheet.line(0, &format!("Name:\t{}", as_text(&metadata["name"])));
    sheet.line(0, &format!("Namespace:\t{}", as_text(&metadata["namespace"])));
    sheet.labels(0, "Labels", &metadata["labels"]);
    sheet.annotations(0, "Annotations", &metadata["annotations"]);
    let skipped = |path: &str| {
        matches!(
            path,
            "metadata.name"
                | "metadata.namespace"
                | "metadata.labels"
                | "metadata.annotations"
                | "metadata.managedFields"
        )
    };
    fields(sheet, object, 0, "", &skipped);
}

fn fields(sheet: &mut Sheet, value: &Value, level: usize, path: &str, skipped: &impl Fn(&str) -> bool) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let own = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if skipped(&own) {
            continue;
        }
        let label = label(key);
        match value {
            Value::Null => sheet.line(level, &format!("{label}:\t<nil>")),
            Value::Object(map) if map.is_empty() => sheet.line(level, &format!("{label}:")),
            Value::Object(_) => {
                sheet.line(level, &format!("{label}:"));
                fields(sheet, value, level + 1, &own, skipped);
            }
            Value::Array(items) => {
                sheet.line(level, &format!("{label}:"));
                for item in items {
                    match item {
                        Value::Object(_) => fields(sheet, item, level + 1, &own, skipped),
                        other => sheet.line(level + 1, &shown(other)),
                    }
                }
            }
            other => sheet.line(level, &format!("{label}:\t{}", shown(other))),
        }
    }
}

/// `apiVersion` → `API Version`, `someURL` → `Some URL`.
fn label(key: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let letters: Vec<char> = key.chars().collect();
    for (index, c) in letters.iter().enumerate() {
        let starts = index == 0
            || (c.is_uppercase() && !letters[index - 1].is_uppercase())
            || (c.is_uppercase() && letters.get(index + 1).is_some_and(|next| next.is_lowercase()));
        if starts {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(*c);
        }
    }
    let spelled = |word: &String| match word.to_lowercase().as_str() {
        initialism @ ("api" | "url" | "uid" | "ip" | "id" | "cpu" | "dns" | "http" | "json" | "tls"
        | "os") => initialism.to_uppercase(),
        _ => {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
        }
    };
    words.iter().map(spelled).collect::<Vec<_>>().join(" ")
}
