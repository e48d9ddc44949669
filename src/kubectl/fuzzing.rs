//! Ways in for the fuzz targets: what users write for kubectl to read. Kept here so that what the targets
//! have found is tried by ordinary tests, too.

use std::path::Path;

use api::jsonpath::JsonPath;
use client::kubeconfig::{Kubeconfig, Overrides};
use serde_json::{Value, json};

use crate::kustomize;
use crate::manifest::parse_yaml;
use crate::output::template::Template;

fn example() -> Value {
    json!({
        "kind": "List", "n": 3, "half": 0.5, "no": null, "yes": true,
        "items": [
            {"metadata": {"name": "a", "labels": {"x.io/y": "z"}}, "ports": [80, 443]},
            {"metadata": {"name": "b"}, "data": {"k": "aGk="}},
        ],
    })
}

/// Any text is a template or is refused, and a template on an object comes to a text or an error, and to the
/// same again.
///
/// Input: the template.
///
/// # Panics
///
/// If that does not hold.
pub fn template(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(template) = Template::parse(text) else { return };
    let object = example();
    let first = template.render(&object).map_err(|error| error.to_string());
    let second = template.render(&object).map_err(|error| error.to_string());
    assert_eq!(first, second, "{text}");
}

/// Any text is a JSONPath or is refused, and one on an object comes to a text or an error, and to the same
/// again.
///
/// Input: the path, in kubectl's template form.
///
/// # Panics
///
/// If that does not hold.
pub fn jsonpath(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let _ = JsonPath::parse_relaxed(text);
    let Ok(path) = JsonPath::parse(text) else { return };
    let object = example();
    let first = path.render(&object).map_err(|error| error.to_string());
    assert_eq!(first, path.render(&object).map_err(|error| error.to_string()), "{text}");
    let _ = path.values(&object);
}

/// Any bytes are a kubeconfig or are refused; what one says is resolved or refused; and one that is written
/// is read back as the same.
///
/// Input: the file.
///
/// # Panics
///
/// If that does not hold.
pub fn kubeconfig(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(config) = Kubeconfig::parse(text, Path::new("input")) else { return };
    // No file of the machine is read: what is fuzzed is the format.
    let has_files = ["certificate-authority", "client-certificate", "client-key", "tokenFile", "idp-cert"];
    if !has_files.iter().any(|word| text.contains(word)) {
        let _ = config.https_config(&Overrides::default());
    }
    let Ok(written) = config.to_yaml() else { return };
    let again = Kubeconfig::parse(&written, Path::new("written")).expect("our own text is read");
    assert_eq!(config, again, "{written}");
}

/// Any text is a kustomization or is refused, and one without files is built or refused, and to the same
/// again.
///
/// Input: the kustomization; after a zero a resource.
///
/// # Panics
///
/// If that does not hold.
pub fn kustomization(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (text, resource) = text.split_once('\0').unwrap_or((text, ""));
    let _ = parse_yaml(resource);
    let directory = std::env::temp_dir().join(format!("kubectl-fuzzing-{}", std::process::id()));
    let files = [("kustomization.yaml", text), ("resource.yaml", resource)];
    if std::fs::create_dir_all(&directory).is_err()
        || files.iter().any(|(name, text)| std::fs::write(directory.join(name), text).is_err())
    {
        return;
    }
    let build = || {
        let path = directory.to_string_lossy();
        let built = kustomize::build(&path, &kustomize::Options::default(), |_| {});
        let trees = built.map(|objects| objects.into_iter().map(|object| object.tree).collect::<Vec<_>>());
        trees.map_err(|error| error.to_string())
    };
    let (first, second) = (build(), build());
    let _ = std::fs::remove_dir_all(&directory);
    assert_eq!(first, second, "{text}");
}

#[cfg(test)]
mod tests;
