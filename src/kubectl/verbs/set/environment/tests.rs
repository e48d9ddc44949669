//! Tests of variables: what arguments mean, what a container has afterwards, and references in words.

use serde_json::{Value, json};

use super::{Changes, check_overwrites, field, parse, references, resource, shown, split, updated};
use crate::error::Result;

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn read(words: &[&str]) -> Result<Changes> {
    parse(&strings(words), || Ok("A=1 # one\n#B=2\nC=3\nnothing\n".to_string()))
}

#[test]
fn arguments_are_resources_and_then_changes() {
    let (resources, changes) = split(&strings(&["deploy/a", "b", "X=1", "Y-", "-"])).unwrap();
    assert_eq!((resources, changes), (strings(&["deploy/a", "b"]), strings(&["X=1", "Y-", "-"])));
    let error = split(&strings(&["X=1", "deploy/a"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "error: all resources must be specified before environment changes: X=1 deploy/a"
    );
}

#[test]
fn changes_are_typed_or_read_from_standard_input() {
    let changes = read(&["X=a=b", "Y-", "-", "Z="]).unwrap();
    assert_eq!(
        changes.set,
        [
            json!({"name": "X", "value": "a=b"}),
            json!({"name": "A", "value": "1 "}),
            json!({"name": "C", "value": "3"}),
            json!({"name": "Z", "value": ""}),
        ]
    );
    assert_eq!(changes.remove, ["Y"]);
    assert!(read(&["X=1", "X-"]).unwrap_err().to_string().contains("can not both modify and remove"));
    assert!(read(&["1X=1"]).unwrap_err().to_string().contains("is not a valid key name"));
    assert!(read(&["X"]).unwrap_err().to_string().contains("unknown environment variable: X"));
}

#[test]
fn variables_keep_their_places_and_new_ones_follow() {
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    let existing = [variable("A", "1"), json!({"name": "B", "valueFrom": {}}), variable("C", "3")];
    let changes = Changes {
        set: vec![variable("D", "4"), variable("B", "2"), variable("D", "5")],
        remove: vec!["C".to_string()],
    };
    assert_eq!(updated(&existing, &changes), [variable("A", "1"), variable("B", "2"), variable("D", "4")]);
    let error = check_overwrites(&[variable("D", "9")], &changes).unwrap_err();
    assert_eq!(error.to_string(), "error: 'D' already has a value (9), and --overwrite is false");
    assert!(check_overwrites(&[variable("A", "9")], &changes).is_ok());
}

#[test]
fn keys_of_config_maps_and_secrets_become_references() {
    let map = json!({"kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a.b": "1", "C": "2"}});
    let of = |name: &str, key: &str| json!({"name": name, "valueFrom": {"configMapKeyRef": {"name": "m", "key": key}}});
    let mut all = references(&map, &[]).unwrap();
    all.sort_by_key(|one| one["name"].as_str().map(str::to_string));
    assert_eq!(all, [of("A_B", "a.b"), of("C", "C")]);
    assert_eq!(references(&map, &strings(&["C", "other"])).unwrap(), [of("C", "C")]);
    let error = references(&json!({"kind": "Pod"}), &[]).unwrap_err();
    assert_eq!(error.to_string(), "error: unsupported resource specified in --from");
}

#[test]
fn references_are_shown_in_words_and_resolved() {
    for (from, expected) in [
        (json!({"configMapKeyRef": {"name": "m", "key": "k"}}), "configmap m, key k"),
        (json!({"secretKeyRef": {"name": "m", "key": "k"}}), "secret m, key k"),
        (json!({"fieldRef": {"fieldPath": "metadata.name"}}), "field path metadata.name"),
        (
            json!({"resourceFieldRef": {"resource": "limits.cpu", "containerName": "c"}}),
            "resource field c/limits.cpu",
        ),
        (Value::Null, "invalid valueFrom"),
    ] {
        assert_eq!(shown(&from), expected);
    }
    let object = json!({"metadata": {"name": "n", "labels": {"b": "2", "a": "1"}}});
    assert_eq!(field(&object, "metadata.name").unwrap(), "n");
    assert_eq!(field(&object, "metadata.labels['b']").unwrap(), "2");
    assert_eq!(field(&object, "metadata.labels").unwrap(), "a=\"1\"\nb=\"2\"");
    assert!(field(&object, "status.podIP").is_err());
    let container = json!({"resources": {"limits": {"cpu": "1500m", "memory": "1Mi"}}});
    let of = |resource: &str, divisor: &str| json!({"resource": resource, "divisor": divisor});
    assert_eq!(resource(&container, &of("limits.cpu", "1")).unwrap(), "2");
    assert_eq!(resource(&container, &of("limits.cpu", "1m")).unwrap(), "1500");
    assert_eq!(resource(&container, &of("limits.memory", "1Ki")).unwrap(), "1024");
    assert!(resource(&container, &of("cpu", "1")).is_err());
}
