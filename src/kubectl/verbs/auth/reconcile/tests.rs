//! What roles and bindings lack, and what they have too much.

use super::*;

fn args(removes: bool) -> ReconcileArgs {
    ReconcileArgs {
        files: FileArgs::default(),
        remove_extra_permissions: removes,
        remove_extra_subjects: removes,
        change: ChangeArgs::default(),
    }
}

fn rule(verbs: &[&str], resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [""], "resources": resources})
}

#[test]
fn a_role_gets_what_it_lacks_and_keeps_the_rest_unless_told_otherwise() {
    let present = json!({"rules": [rule(&["get", "list"], &["pods"]), rule(&["get"], &["secrets"])]});
    let wanted = json!({"rules": [rule(&["get", "watch"], &["pods"])]});
    let kept = plan(Some(&present), &wanted, "Role", &args(false));
    assert_eq!(kept.step, Step::Update);
    assert_eq!(kept.missing, [rule(&["watch"], &["pods"])]);
    assert_eq!(kept.object["rules"].as_array().map(Vec::len), Some(3));
    let stripped = plan(Some(&present), &wanted, "Role", &args(true));
    assert_eq!(stripped.object["rules"], wanted["rules"]);
    assert_eq!(stripped.extra, [rule(&["list"], &["pods"]), rule(&["get"], &["secrets"])]);
    assert_eq!(plan(Some(&present), &present, "Role", &args(true)).step, Step::Nothing);
    assert_eq!(plan(None, &wanted, "Role", &args(true)).step, Step::Create);
}

#[test]
fn stars_names_and_subresources_cover_as_the_server_has_it() {
    let covers = |own: Value, wanted: Value| rules::missing(&json!([own]), &json!([wanted])).is_empty();
    let all = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
    assert!(covers(all.clone(), rule(&["get"], &["pods/log"])));
    assert!(covers(
        json!({"verbs": ["get"], "apiGroups": [""], "resources": ["*/log"]}),
        rule(&["get"], &["pods/log"])
    ));
    let mut named = rule(&["get"], &["pods"]);
    named["resourceNames"] = json!(["one"]);
    assert!(covers(rule(&["get"], &["pods"]), named.clone()));
    assert!(!covers(named, rule(&["get"], &["pods"])));
    let path = |path: &str| json!({"verbs": ["get"], "nonResourceURLs": [path]});
    assert!(covers(path("/healthz/*"), path("/healthz/ping")));
    assert!(!covers(path("/healthz"), path("/healthz/ping")));
}

#[test]
fn another_role_needs_another_binding_and_subjects_are_added() {
    let binding = |role: &str, names: &[&str]| {
        let subjects: Vec<Value> = names.iter().map(|name| json!({"kind": "User", "name": name})).collect();
        json!({"roleRef": {"kind": "Role", "name": role}, "subjects": subjects})
    };
    let present = binding("a", &["x", "y"]);
    assert_eq!(plan(Some(&present), &binding("b", &["x"]), "RoleBinding", &args(false)).step, Step::Recreate);
    let added = plan(Some(&present), &binding("a", &["z"]), "RoleBinding", &args(false));
    assert_eq!(added.object["subjects"].as_array().map(Vec::len), Some(3));
    let removed = plan(Some(&present), &binding("a", &["x"]), "RoleBinding", &args(true));
    assert_eq!(removed.object["subjects"], json!([{"kind": "User", "name": "x"}]));
    assert_eq!(shown_subject(&removed.extra[0]), "{Kind:User APIGroup: Name:y Namespace:}");
}

#[test]
fn what_opted_out_is_told_and_labels_of_the_object_go_first() {
    let present = json!({"metadata": {"annotations": {AUTO_UPDATE: "false"}, "labels": {"a": "own"}}});
    let wanted = json!({"metadata": {"labels": {"a": "given", "b": "given"}}});
    let planned = plan(Some(&present), &wanted, "ClusterRole", &args(false));
    assert!(planned.is_protected);
    assert_eq!(planned.object["metadata"]["labels"], json!({"a": "own", "b": "given"}));
}
