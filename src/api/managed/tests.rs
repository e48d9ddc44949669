//! Expected sets are those that upstream shows for the same objects.

use serde_json::{Value, json};

use super::*;
use crate::kinds::{self, KindRow};
use crate::schema::{self, Place};

mod model;

fn root(row: &KindRow) -> Place<'static> {
    Place::from(schema::for_kind(row))
}

/// An object as the write path sees it: checked and defaulted.
fn complete(row: &KindRow, mut tree: Value) -> Value {
    schema::check_kind(&row.group, &row.version, &row.kind, &mut tree, &[], crate::FieldValidation::Strict)
        .unwrap();
    schema::apply_defaults(row, &mut tree);
    tree
}

fn author<'a>(manager: &'a str, version: &'a str, subresource: &'a str, now: &'a str) -> Author<'a> {
    Author { manager, api_version: version, subresource, now }
}

fn created(row: &KindRow, tree: &Value) -> Vec<Entry> {
    let delta = compare(root(row), None, tree).without(&Reset::of(row, None, false));
    let mut entries = Vec::new();
    let version = row.api_version();
    let effect = update(&mut entries, delta, &author("one", &version, "", "2026-01-01T00:00:00Z"));
    assert_eq!(effect, Effect::Owners);
    entries
}

fn fields(entries: &[Entry], manager: &str, subresource: &str) -> Value {
    let entry = entries.iter().find(|one| one.manager == manager && one.subresource == subresource);
    entry.map_or(Value::Null, |entry| serde_json::to_value(&entry.fields).unwrap())
}

fn pod() -> Value {
    complete(
        &kinds::POD,
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "p", "namespace": "default", "labels": { "run": "p" } },
            "spec": { "containers": [{ "name": "p", "image": "nginx",
                "env": [{ "name": "A", "value": "1" }],
                "ports": [{ "containerPort": 80 }],
            }] },
        }),
    )
}

#[test]
fn a_pod_is_owned_as_upstream_shows_it() {
    let expected = json!({
        "f:metadata": { "f:labels": { ".": {}, "f:run": {} } },
        "f:spec": {
            "f:containers": { "k:{\"name\":\"p\"}": {
                ".": {},
                "f:env": { ".": {}, "k:{\"name\":\"A\"}": { ".": {}, "f:name": {}, "f:value": {} } },
                "f:image": {}, "f:imagePullPolicy": {}, "f:name": {},
                "f:ports": { ".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                    ".": {}, "f:containerPort": {}, "f:protocol": {},
                } },
                "f:resources": {}, "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {},
            } },
            "f:dnsPolicy": {}, "f:enableServiceLinks": {}, "f:restartPolicy": {}, "f:schedulerName": {},
            "f:securityContext": {}, "f:terminationGracePeriodSeconds": {},
        },
    });
    let mut tree = pod();
    // The registry's own default, beyond the schema's.
    tree["spec"]["enableServiceLinks"] = json!(true);
    assert_eq!(fields(&created(&kinds::POD, &tree), "one", ""), expected);
}

#[test]
fn a_deployment_is_owned_as_upstream_shows_it() {
    let tree = complete(
        &kinds::DEPLOYMENT,
        json!({
            "metadata": { "name": "d", "labels": { "app": "d" } },
            "spec": {
                "replicas": 2, "selector": { "matchLabels": { "app": "d" } },
                "template": { "metadata": { "labels": { "app": "d" } },
                              "spec": { "containers": [{ "name": "c", "image": "i" }] } },
            },
            "status": { "replicas": 7 },
        }),
    );
    let owned = fields(&created(&kinds::DEPLOYMENT, &tree), "one", "");
    assert_eq!(owned["f:metadata"], json!({ "f:labels": { ".": {}, "f:app": {} } }));
    let spec = &owned["f:spec"];
    let own: Vec<&String> = spec.as_object().unwrap().keys().collect();
    assert_eq!(
        own,
        [
            "f:progressDeadlineSeconds",
            "f:replicas",
            "f:revisionHistoryLimit",
            "f:selector",
            "f:strategy",
            "f:template"
        ]
    );
    assert_eq!(spec["f:selector"], json!({}), "selectors are atomic");
    assert_eq!(
        spec["f:strategy"],
        json!({ "f:rollingUpdate": { ".": {}, "f:maxSurge": {}, "f:maxUnavailable": {} }, "f:type": {} })
    );
    assert_eq!(spec["f:template"]["f:metadata"], json!({ "f:labels": { ".": {}, "f:app": {} } }));
    assert!(owned.get("f:status").is_none(), "the status is reset");
}

#[test]
fn conditions_of_a_status_are_owned_by_type() {
    let old = pod();
    let mut new = old.clone();
    new["status"] = json!({ "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }], "conditions": [
        { "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" } ] });
    let delta =
        compare(root(&kinds::POD), Some(&old), &new).without(&Reset::of(&kinds::POD, Some("status"), false));
    let mut entries = created(&kinds::POD, &old);
    update(&mut entries, delta, &author("kubelet", "v1", "status", "2026-01-01T00:00:01Z"));
    assert_eq!(
        fields(&entries, "kubelet", "status"),
        json!({ "f:status": {
            "f:conditions": { ".": {}, "k:{\"type\":\"Ready\"}": {
                ".": {}, "f:lastProbeTime": {}, "f:lastTransitionTime": {}, "f:status": {}, "f:type": {} } },
            "f:phase": {},
            "f:podIPs": { ".": {}, "k:{\"ip\":\"10.0.0.1\"}": { ".": {}, "f:ip": {} } },
        } })
    );
    assert_eq!(entries.iter().map(|one| &*one.manager).collect::<Vec<_>>(), ["one", "kubelet"]);
}

#[test]
fn owners_finalizers_and_names_have_their_own_forms() {
    let tree = json!({
        "metadata": {
            "name": "a", "generateName": "a-", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1,
            "finalizers": ["x/y<z"],
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "7" }],
        },
        "data": {},
    });
    assert_eq!(
        fields(&created(&kinds::CONFIG_MAP, &tree), "one", ""),
        json!({ "f:data": {}, "f:metadata": {
            "f:finalizers": { ".": {}, "v:\"x/y\\u003cz\"": {} },
            "f:generateName": {},
            "f:ownerReferences": { ".": {}, "k:{\"uid\":\"7\"}": {} },
        } })
    );
}

#[test]
fn what_is_changed_moves_and_what_is_removed_is_nobodys() {
    let old = json!({ "metadata": { "name": "a" }, "data": { "x": "1", "y": "1", "z": "1" } });
    let new = json!({ "metadata": { "name": "a" }, "data": { "x": "2", "z": "1" } });
    let mut entries = created(&kinds::CONFIG_MAP, &old);
    let delta = compare(root(&kinds::CONFIG_MAP), Some(&old), &new);
    let two = author("two", "v1", "", "2026-01-01T00:00:01Z");
    assert_eq!(update(&mut entries, delta, &two), Effect::Owners);
    assert_eq!(fields(&entries, "one", ""), json!({ "f:data": { ".": {}, "f:z": {} } }));
    assert_eq!(fields(&entries, "two", ""), json!({ "f:data": { "f:x": {} } }));
    assert_eq!(entries[0].time.as_deref(), Some("2026-01-01T00:00:00Z"), "who loses a field keeps the time");

    let delta = compare(root(&kinds::CONFIG_MAP), Some(&new), &new);
    assert!(delta.is_empty());
    assert_eq!(update(&mut entries, delta, &two), Effect::Nothing);
    let again = json!({ "metadata": { "name": "a" }, "data": { "x": "3", "z": "1" } });
    let later = author("two", "v1", "", "2026-01-01T00:00:02Z");
    let delta = compare(root(&kinds::CONFIG_MAP), Some(&new), &again);
    assert_eq!(update(&mut entries, delta, &later), Effect::Time);
    let bare = json!({ "metadata": { "name": "a" } });
    let delta = compare(root(&kinds::CONFIG_MAP), Some(&again), &bare);
    assert_eq!(update(&mut entries, delta, &later), Effect::Owners);
    assert_eq!(entries, [], "entries without fields go");
}

#[test]
fn custom_resources_have_no_fields_that_are_always_there() {
    let tree = json!({ "apiVersion": "x/v1", "kind": "X", "metadata": { "name": "a", "finalizers": ["f"] },
                       "spec": { "list": [1], "map": { "a": { "b": 1 } } } });
    let delta = compare(Place::Unknown, None, &tree);
    let mut entries = Vec::new();
    update(&mut entries, delta, &author("one", "x/v1", "", "2026-01-01T00:00:00Z"));
    assert_eq!(
        fields(&entries, "one", ""),
        json!({
            "f:metadata": { "f:finalizers": { ".": {}, "v:\"f\"": {} } },
            "f:spec": { ".": {}, "f:list": {}, "f:map": { ".": {}, "f:a": { ".": {}, "f:b": {} } } },
        })
    );
    // A value of another shape replaces what was below it.
    let mut new = tree.clone();
    new["spec"]["map"]["a"] = json!("text");
    let delta = compare(Place::Unknown, Some(&tree), &new);
    assert_eq!(delta.changed, Fields::of_path(&["spec", "map", "a"]));
    assert_eq!(delta.removed, Fields::of_path(&["spec", "map", "a", "b"]));
}

#[test]
fn elements_that_occur_twice_are_owned_as_a_whole() {
    let with = |ports: Value| json!({ "spec": { "ports": ports } });
    let one = json!({ "port": 1, "protocol": "TCP", "name": "a" });
    let two = json!({ "port": 1, "protocol": "TCP", "name": "b" });
    let at = |old: Value, new: Value| {
        let delta = compare(root(&kinds::SERVICE), Some(&with(old)), &with(new));
        let port = |fields: &Fields| {
            let ports = serde_json::to_value(fields).unwrap()["f:spec"]["f:ports"].clone();
            ports["k:{\"port\":1,\"protocol\":\"TCP\"}"].clone()
        };
        (port(&delta.changed), port(&delta.removed))
    };
    let parts = json!({ "f:name": {}, "f:port": {}, "f:protocol": {} });
    let whole = |own: bool| {
        let mut parts = parts.clone();
        parts["f:targetPort"] = json!({});
        parts.as_object_mut().unwrap().remove("f:targetPort");
        if own {
            parts["."] = json!({});
        }
        parts
    };
    assert_eq!(at(json!([one]), json!([one, two])), (json!({}), whole(false)));
    assert_eq!(at(json!([one, two]), json!([one])), (whole(true), Value::Null));
    assert_eq!(at(json!([one, two]), json!([two, one])), (json!({}), Value::Null));
    assert_eq!(at(json!([one, two]), json!([one, two])), (Value::Null, Value::Null));
    assert_eq!(at(json!([one, two]), json!([])), (Value::Null, json!({})));
}

#[test]
fn the_oldest_updaters_become_one_by_version() {
    let mut entries = Vec::new();
    let mut old = json!({ "metadata": { "name": "a" }, "data": {} });
    for at in 0..15 {
        let mut new = old.clone();
        new["data"][format!("k{at}")] = json!("v");
        let delta = compare(root(&kinds::CONFIG_MAP), Some(&old), &new);
        let version = if at == 1 { "v0" } else { "v1" };
        let (name, time) = (format!("m{at:02}"), format!("2026-01-01T00:00:{at:02}Z"));
        update(&mut entries, delta, &author(&name, version, "", &time));
        old = new;
        assert!(entries.len() <= 10);
    }
    let names: Vec<&str> = entries.iter().map(|one| &*one.manager).collect();
    assert_eq!(names, ["m01", "ancient-changes", "m07", "m08", "m09", "m10", "m11", "m12", "m13", "m14"]);
    assert_eq!(entries[1].time.as_deref(), Some("2026-01-01T00:00:06Z"), "the newest that went in");
    let ancient = fields(&entries, "ancient-changes", "");
    assert_eq!(ancient["f:data"].as_object().unwrap().len(), 6, "{ancient}");
}

#[test]
fn scale_takes_the_replicas_from_whoever_had_them() {
    let path = ["spec", "replicas"];
    let parent: Fields =
        serde_json::from_value(json!({ "f:spec": { "f:replicas": {}, "f:selector": {} } })).unwrap();
    let one = author("test", "apps/v1", "", "2026-01-01T00:00:00Z");
    let mut entries = vec![Entry { fields: parent, operation: Operation::Apply, ..Entry::of(&one) }];
    let scaler = author("scale", "apps/v1", "scale", "2026-01-01T00:00:01Z");
    assert_eq!(scale(&mut entries, &path, &scaler), Effect::Owners);
    assert_eq!(fields(&entries, "test", ""), json!({ "f:spec": { "f:selector": {} } }));
    assert_eq!(fields(&entries, "scale", "scale"), json!({ "f:spec": { "f:replicas": {} } }));
    assert_eq!(entries[1].time, None);
    assert_eq!(scale(&mut entries, &path, &scaler), Effect::Owners);
    assert_eq!(entries.len(), 2);
    entries.pop();
    assert_eq!(scale(&mut entries, &path, &scaler), Effect::Nothing, "nobody's replicas are not followed");
}

#[test]
fn a_resize_owns_resources_only() {
    let old = pod();
    let mut new = old.clone();
    new["spec"]["containers"][0]["resources"] = json!({ "requests": { "cpu": "1" } });
    new["spec"]["containers"][0]["image"] = json!("other");
    new["metadata"]["labels"]["x"] = json!("y");
    let reset = Reset::of(&kinds::POD, Some("resize"), false);
    let delta = compare(root(&kinds::POD), Some(&old), &new).without(&reset);
    assert_eq!(
        serde_json::to_value(&delta.changed).unwrap(),
        json!({ "f:spec": { "f:containers": { "k:{\"name\":\"p\"}": {
            "f:resources": { "f:requests": { ".": {}, "f:cpu": {} } } } } } })
    );
}

#[test]
fn entries_are_read_as_upstream_reads_them() {
    let good = json!([{ "manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "time": "2026-01-01T00:00:00Z", "subresource": "status",
        "fieldsV1": { "f:a": { ".": {}, "k:{\"y\": 2, \"x\" : \"1\"}": { "f:b": {} } }, "z:new": {}, "v:  3": {} } }]);
    let entries = accept(&good).unwrap();
    assert_eq!(
        fields(&entries, "m", "status"),
        json!({ "f:a": { ".": {}, "k:{\"x\":\"1\",\"y\":2}": { "f:b": {} } }, "v:3": {} })
    );
    let bytes = encode(&entries).unwrap();
    assert_eq!(decode(&bytes).unwrap(), entries);
    assert_eq!(encode(&[]), None);

    let with = |member: &str, value: Value| {
        let mut list = good.clone();
        list[0][member] = value;
        accept(&list)
    };
    assert!(matches!(with("operation", json!("Delete")), Err(EntryError::Operation)));
    assert!(matches!(with("apiVersion", json!("")), Err(EntryError::Version)));
    assert!(matches!(with("fieldsType", json!(null)), Err(EntryError::FieldsType)));
    assert!(matches!(with("fieldsV1", json!({ "f": {} })), Err(EntryError::Element(_))));
    assert!(matches!(with("fieldsV1", json!({ "k:{": {} })), Err(EntryError::Element(_))));
    assert!(matches!(with("fieldsV1", json!(7)), Err(EntryError::Shape(_))));
    let long = with("manager", json!("m".repeat(129))).unwrap();
    let fault = &faults(&long)[0];
    assert_eq!(
        fault.to_string(),
        "metadata.managedFields[0].manager: Too long: may not be more than 128 bytes"
    );
    assert!(are_reset(&json!([])) && are_reset(&json!([{}])));
    assert!(!are_reset(&good) && !are_reset(&json!([{}, {}])) && !are_reset(&json!(null)));
}

#[test]
fn names_of_managers() {
    assert_eq!(manager_of_agent("kubectl/v1.36.2 (linux/amd64) kubernetes/x"), "kubectl");
    assert_eq!(manager_of_agent("Mozilla\u{7}\u{a0}é e\u{301}"), "Mozillaé e\u{301}");
    assert_eq!(manager_of_agent(&"é".repeat(100)).len(), 128);
    assert_eq!(manager_of_agent(""), "");
    let fault = &manager_faults("a\n", "fieldManager")[0];
    assert_eq!(
        fault.to_string(),
        "fieldManager: Invalid value: \"a\\n\": invalid character U+000A (at position 1)"
    );
    let of = |identity: crate::Identity| manager_of_identity(&identity);
    assert_eq!(of(crate::Identity::node("n1")), "kubelet");
    assert_eq!(
        of(crate::Identity::service_account("kube-system", "replicaset-controller")),
        "kube-controller-manager"
    );
    assert_eq!(of(crate::Identity::user("system:kube-scheduler", [])), "kube-scheduler");
}
