//! Tests of reading manifests.

use std::fs;

use super::{FileArgs, parse_documents};

#[test]
fn documents_of_all_forms() {
    let yaml =
        "# head\n---\napiVersion: v1\nkind: Pod\ndata: {mode: 0644}\n---\n# nothing\n---\nkind: Service\n";
    let values = parse_documents(yaml).unwrap();
    assert_eq!(values.len(), 2);
    assert_eq!(values[0]["data"]["mode"], 420, "octal as YAML 1.1 has it");
    assert_eq!(parse_documents("{\"kind\":\"A\"}\n{\"kind\":\"B\"}").unwrap().len(), 2);
    assert_eq!(parse_documents("{kind: A}\n").unwrap()[0]["kind"], "A", "flow YAML begins with a brace too");
    assert!(parse_documents("a: [1\n").is_err());
}

#[test]
fn directories_lists_and_mistakes() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("sub")).unwrap();
    fs::write(path("b.yaml"), "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod}\n- {apiVersion: v1, kind: Secret}\n").unwrap();
    fs::write(path("a.json"), r#"{"apiVersion":"v1","kind":"ConfigMap"}"#).unwrap();
    fs::write(path("ignored.txt"), "x").unwrap();
    fs::write(path("sub/c.yml"), "apiVersion: v1\nkind: Service\n").unwrap();
    let mut files = FileArgs { files: vec![directory.path().display().to_string()], ..FileArgs::default() };
    let kinds = |files: &FileArgs| -> Vec<String> {
        files.read().unwrap().iter().map(|one| one.object["kind"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(kinds(&files), ["ConfigMap", "Pod", "Secret"]);
    files.recursive = true;
    assert_eq!(kinds(&files), ["ConfigMap", "Pod", "Secret", "Service"]);
    let missing = FileArgs { files: vec!["/nonexistent/x".into()], ..FileArgs::default() };
    assert_eq!(missing.read().unwrap_err().to_string(), "error: the path \"/nonexistent/x\" does not exist");
    fs::write(path("bad.yaml"), "kind: Pod\n").unwrap();
    let bad = FileArgs { files: vec![path("bad.yaml").display().to_string()], ..FileArgs::default() };
    let text = bad.read().unwrap_err().to_string();
    assert!(text.contains("error validating data: apiVersion not set; if you choose"), "{text}");
}
