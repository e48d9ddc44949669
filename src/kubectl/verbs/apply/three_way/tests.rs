//! Tests of the three-way merge.

use api::kinds::{DEPLOYMENT, POD, SERVICE};
use api::schema::for_kind;
use serde_json::{Value, json};

use super::patch;

fn deployment(containers: Value, replicas: Value) -> Value {
    json!({"spec": {"replicas": replicas, "template": {"spec": {"containers": containers}}}})
}

#[test]
fn what_is_as_wanted_needs_no_patch() {
    let applied = deployment(json!([{"name": "a", "image": "i:1"}]), json!(2));
    let mut live = applied.clone();
    live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    live["status"] = json!({"replicas": 2});
    assert_eq!(patch(for_kind(&DEPLOYMENT), &applied, &applied, &live), json!({}));
    assert_eq!(patch(None, &applied, &applied, &applied), json!({}));
}

#[test]
fn fields_are_set_dropped_and_left_to_others() {
    let original = deployment(json!([{"name": "a", "image": "i:1", "workingDir": "/x"}]), json!(2));
    let modified = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "i:2"}]}}}});
    let current = deployment(
        json!([{"name": "a", "image": "i:1", "workingDir": "/x", "imagePullPolicy": "Always"}, {"name": "injected", "image": "s"}]),
        json!(5),
    );
    assert_eq!(
        patch(for_kind(&DEPLOYMENT), &original, &modified, &current),
        json!({"spec": {"replicas": null, "template": {"spec": {
            "$setElementOrder/containers": [{"name": "a"}],
            "containers": [{"name": "a", "image": "i:2", "workingDir": null}]
        }}}})
    );
}

#[test]
fn list_elements_come_and_go_by_key() {
    let spec = |ports: Value| json!({"spec": {"ports": ports}});
    let original = spec(json!([{"port": 80}, {"port": 81}]));
    let modified = spec(json!([{"port": 80}, {"port": 82}]));
    let current = spec(json!([{"port": 80, "nodePort": 30000}, {"port": 81}]));
    assert_eq!(
        patch(for_kind(&SERVICE), &original, &modified, &current),
        json!({"spec": {
            "$setElementOrder/ports": [{"port": 80}, {"port": 82}],
            "ports": [{"port": 82}, {"$patch": "delete", "port": 81}]
        }})
    );
    let swapped = spec(json!([{"port": 81}, {"port": 80}]));
    assert_eq!(
        patch(for_kind(&SERVICE), &original, &swapped, &original),
        json!({"spec": {"$setElementOrder/ports": [{"port": 81}, {"port": 80}]}})
    );
}

#[test]
fn sets_of_text_and_atomic_lists() {
    let meta = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    assert_eq!(
        patch(
            for_kind(&POD),
            &meta(json!(["a", "b"])),
            &meta(json!(["a", "c"])),
            &meta(json!(["a", "b", "x"]))
        ),
        json!({"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["b"], "$setElementOrder/finalizers": ["a", "c"]}})
    );
    let command = |args: Value| json!({"spec": {"containers": [{"name": "a", "args": args}]}});
    assert_eq!(
        patch(for_kind(&POD), &command(json!(["x"])), &command(json!(["y"])), &command(json!(["x"]))),
        json!({"spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "a", "args": ["y"]}]}})
    );
}

#[test]
fn one_of_many_fields_retains_only_its_own() {
    let strategy = |value: Value| json!({"spec": {"strategy": value}});
    let rolling = strategy(json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}));
    let recreate = strategy(json!({"type": "Recreate"}));
    assert_eq!(
        patch(for_kind(&DEPLOYMENT), &recreate, &recreate, &rolling),
        json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}})
    );
}

#[test]
fn without_a_schema_lists_are_replaced() {
    let spec = |items: Value| json!({"spec": {"items": items, "n": 1}});
    assert_eq!(
        patch(
            None,
            &spec(json!([{"name": "a"}])),
            &json!({"spec": {"items": [{"name": "b"}]}}),
            &spec(json!([{"name": "a"}]))
        ),
        json!({"spec": {"items": [{"name": "b"}], "n": null}})
    );
}

#[test]
fn the_patch_applied_by_the_server_gives_what_is_wanted() {
    let original = deployment(
        json!([{"name": "a", "image": "i:1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}, {"name": "gone", "image": "g"}]),
        json!(1),
    );
    let modified = deployment(
        json!([{"name": "new", "image": "n"}, {"name": "a", "image": "i:2", "env": [{"name": "Y", "value": "3"}]}]),
        json!(4),
    );
    let mut live = original.clone();
    live["spec"]["template"]["spec"]["containers"][0]["tty"] = json!(true);
    let ty = for_kind(&DEPLOYMENT);
    let body = patch(ty, &original, &modified, &live);
    let mut result = live.clone();
    api::patch::apply(ty, &mut result, &api::Patch::strategic(body)).unwrap();
    let mut expected = modified.clone();
    expected["spec"]["template"]["spec"]["containers"][1]["tty"] = json!(true);
    assert_eq!(result, expected);
    assert_eq!(patch(ty, &modified, &modified, &result), json!({}), "applying again changes nothing");
}
