//! Patches: RFC behaviour of the plain ones, upstream's of strategic merge.

use serde_json::json;

use super::*;
use crate::schema::by_name;

fn merged(ty: &str, mut tree: Value, patch: Value) -> Value {
    strategic_merge(by_name(ty).unwrap(), &mut tree, &patch).unwrap();
    tree
}

fn pod(tree: Value, patch: Value) -> Value {
    merged("api.core.v1.PodSpec", tree, patch)
}

#[test]
fn json_patch_and_merge_patch() {
    let mut tree = json!({"a": {"b": 1}});
    json_patch(
        &mut tree,
        &json!([{"op": "test", "path": "/a/b", "value": 1}, {"op": "replace", "path": "/a/b", "value": 2}]),
    )
    .unwrap();
    assert_eq!(tree, json!({"a": {"b": 2}}));
    let error = json_patch(&mut tree, &json!([{"op": "test", "path": "/a/b", "value": 1}])).unwrap_err();
    let error = ApiError::from(error);
    assert_eq!((error.code(), error.reason()), (422, "Invalid"));
    assert_eq!(error.message(), "the server rejected our request due to an error in our request");
    let error = json_patch(&mut tree, &json!({"op": "x"})).unwrap_err();
    let error = ApiError::from(error);
    assert_eq!(error.code(), 400);
    assert_eq!(error.message(), "json: cannot unmarshal object into Go value of type jsonpatch.Patch");
    assert_eq!(ApiError::from(json_patch(&mut tree, &json!([{"op": "x"}])).unwrap_err()).code(), 422);
    let many: Vec<Value> = (0..10_001).map(|_| json!({"op": "test", "path": "", "value": 1})).collect();
    assert_eq!(ApiError::from(json_patch(&mut tree, &Value::Array(many)).unwrap_err()).code(), 413);
    merge_patch(&mut tree, &json!({"a": {"b": null, "c": [1]}})).unwrap();
    assert_eq!(tree, json!({"a": {"c": [1]}}));
    assert!(merge_patch(&mut tree, &json!([])).is_err());
    let apply_patch = Patch::apply(json!({}));
    assert_eq!(ApiError::from(apply(None, &mut tree, &apply_patch).unwrap_err()).code(), 415);
    assert_eq!(ApiError::from(apply(None, &mut tree, &Patch::strategic(json!({}))).unwrap_err()).code(), 415);
}

fn patched(mut tree: Value, patch: Value) -> Result<Value, ApiError> {
    json_patch(&mut tree, &patch)?;
    Ok(tree)
}

#[test]
fn json_patch_operations() {
    let good = [
        (
            json!([]),
            json!([{"op": "add", "path": "/-", "value": 1}, {"op": "add", "path": "/0", "value": 0}]),
            json!([0, 1]),
        ),
        (
            json!([1, 2, 3]),
            json!([{"op": "remove", "path": "/-1"}, {"op": "add", "path": "/-1", "value": 4}]),
            json!([1, 2, 4]),
        ),
        (
            json!({"a/b": {"~": 1}}),
            json!([{"op": "replace", "path": "/a~1b/~0", "value": 2}]),
            json!({"a/b": {"~": 2}}),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "move", "from": "/a", "path": "/b"}, {"op": "copy", "from": "/b", "path": "/c"}]),
            json!({"b": 1, "c": 1}),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "replace", "path": "", "value": {}}, {"op": "add", "path": "/x", "value": null}]),
            json!({"x": null}),
        ),
        (json!({}), json!([{"op": "test", "path": "/absent", "value": null}]), json!({})),
    ];
    for (tree, patch, want) in good {
        assert_eq!(patched(tree, patch.clone()).unwrap(), want, "{patch}");
    }
    let bad = [
        json!([{"op": "remove", "path": "/absent"}]),
        json!([{"op": "replace", "path": "/absent", "value": 1}]),
        json!([{"op": "add", "path": "/absent/x", "value": 1}]),
        json!([{"op": "add", "path": "/list/4", "value": 1}]),
        json!([{"op": "add", "path": "/list/x", "value": 1}]),
        json!([{"op": "remove", "path": "/list/3"}]),
        json!([{"op": "remove", "path": "/list/-4"}]),
        json!([{"op": "remove", "path": ""}]),
        json!([{"op": "add", "path": "x", "value": 1}]),
        json!([{"op": "add", "path": "/x"}]),
        json!([{"op": "copy", "path": "/x"}]),
        json!([{"op": "move", "from": "/map", "path": "/map/inside"}]),
        json!([{"op": "test", "path": "/list/0", "value": 2}]),
        json!([1]),
    ];
    for patch in bad {
        let error = patched(json!({"list": [1, 2, 3], "map": {}}), patch.clone()).unwrap_err();
        assert_eq!(error.code(), 422, "{patch}");
    }
}

#[test]
fn a_json_patch_makes_no_more_than_its_bounds() {
    let cause = |error: ApiError| {
        assert_eq!((error.code(), error.reason()), (422, "Invalid"));
        let causes = error.status().details.clone().unwrap().causes.unwrap();
        causes[0].message.clone().unwrap()
    };
    // Each copy holds all that was copied before.
    let double: Vec<Value> =
        (0..30).map(|n| json!({"op": "copy", "from": "/a", "path": format!("/a/{n}")})).collect();
    let error = patched(json!({"a": {"x": "y".repeat(1000)}}), Value::Array(double)).unwrap_err();
    let text = cause(error);
    assert!(
        text.starts_with("Unable to complete the copy, the accumulated size increase of copy is "),
        "{text}"
    );
    assert!(text.ends_with(", exceeding the limit 3145728"), "{text}");
    // A level deeper with every third operation, which would overflow the stack of whoever walks the result.
    let mut nest = vec![json!({"op": "add", "path": "/y", "value": {}})];
    for _ in 0..3000 {
        nest.push(json!({"op": "add", "path": "/x", "value": {}}));
        nest.push(json!({"op": "move", "from": "/y", "path": "/x/y"}));
        nest.push(json!({"op": "move", "from": "/x", "path": "/y"}));
    }
    assert_eq!(cause(patched(json!({}), Value::Array(nest)).unwrap_err()), "exceeded max depth 120");
    let shift: Vec<Value> = vec![json!({"op": "add", "path": "/0", "value": 1}); 9_999];
    let list = Value::Array(vec![json!(0); 100_000]);
    assert_eq!(
        cause(patched(list, Value::Array(shift)).unwrap_err()),
        "the JSON patch moves more than 50000000 values"
    );
}

/// Found by comparing each with each, this would take half a minute.
#[test]
fn long_lists_merge_by_index() {
    let volumes = |from: usize, to: usize| -> Vec<Value> {
        (from..to).map(|n| json!({"name": format!("v{n}"), "emptyDir": {}})).collect()
    };
    let order: Vec<Value> = (0..60_000).rev().map(|n| json!({"name": format!("v{n}")})).collect();
    let start = std::time::Instant::now();
    let plain = pod(json!({"volumes": volumes(0, 40_000)}), json!({"volumes": volumes(20_000, 60_000)}));
    assert_eq!(plain["volumes"].as_array().unwrap().len(), 60_000);
    let ordered = pod(
        json!({"volumes": volumes(0, 40_000)}),
        json!({"volumes": volumes(20_000, 60_000), "$setElementOrder/volumes": order}),
    );
    assert_eq!(ordered["volumes"][0]["name"], "v59999");
    let names: Vec<Value> = (0..60_000).map(|n| json!(format!("f{n}"))).collect();
    let meta = merged(
        "apimachinery.pkg.apis.meta.v1.ObjectMeta",
        json!({"finalizers": names}),
        json!({"finalizers": names, "$deleteFromPrimitiveList/finalizers": names[..30_000]}),
    );
    assert_eq!(meta["finalizers"].as_array().unwrap().len(), 60_000);
    // Quadratic, the three are 10^10 comparisons: minutes of an optimized build.
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}

#[test]
fn lists_merge_by_key() {
    assert_eq!(
        pod(
            json!({"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "1"}], "nodeName": "n"}),
            json!({"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "3"}], "nodeName": null}),
        ),
        json!({"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "2"}, {"name": "c", "image": "3"}]})
    );
    assert_eq!(
        pod(
            json!({"containers": [{"name": "a", "args": ["x", "y"]}]}),
            json!({"containers": [{"name": "a", "args": ["z"]}]})
        ),
        json!({"containers": [{"name": "a", "args": ["z"]}]}),
        "a list without key is replaced"
    );
    assert_eq!(
        pod(json!({"tolerations": [{"key": "a"}]}), json!({"tolerations": [{"key": "b"}]})),
        json!({"tolerations": [{"key": "b"}]})
    );
    let error = strategic_merge(
        by_name("api.core.v1.PodSpec").unwrap(),
        &mut json!({"containers": [{"name": "a"}]}),
        &json!({"containers": [{"image": "2"}]}),
    )
    .unwrap_err();
    assert_eq!(ApiError::from(error).code(), 422);
}

#[test]
fn directives() {
    assert_eq!(
        pod(
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"containers": [{"name": "a", "$patch": "delete"}]})
        ),
        json!({"containers": [{"name": "b"}]})
    );
    assert_eq!(
        pod(
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"containers": [{"name": "c"}, {"$patch": "replace"}]})
        ),
        json!({"containers": [{"name": "c"}]})
    );
    assert_eq!(
        pod(
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]})
        ),
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]})
    );
    assert_eq!(
        merged(
            "api.apps.v1.DeploymentSpec",
            json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}),
            json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}})
        ),
        json!({"strategy": {"type": "Recreate"}})
    );
    assert_eq!(
        merged(
            "api.core.v1.ConfigMap",
            json!({"data": {"a": "1", "b": "2"}}),
            json!({"data": {"$patch": "replace", "c": "3"}})
        ),
        json!({"data": {"c": "3"}})
    );
    assert_eq!(
        merged(
            "apimachinery.pkg.apis.meta.v1.ObjectMeta",
            json!({"finalizers": ["a", "b"], "labels": {"x": "1", "y": "2"}}),
            json!({"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"], "labels": {"x": null, "z": "3"}})
        ),
        json!({"finalizers": ["c", "b"], "labels": {"y": "2", "z": "3"}}),
        "an addition of unknown place comes first"
    );
    assert_eq!(
        pod(
            json!({}),
            json!({"containers": [{"name": "a", "$patch": "delete"}, {"name": "b", "image": null}]})
        ),
        json!({"containers": [{"name": "b"}]})
    );
    let bad = json!({"volumes": [{"name": "v", "$retainKeys": ["name"], "hostPath": {}}]});
    let error = strategic_merge(
        by_name("api.core.v1.PodSpec").unwrap(),
        &mut json!({"volumes": [{"name": "v"}]}),
        &bad,
    );
    assert_eq!(ApiError::from(error.unwrap_err()).code(), 400);
}

#[test]
fn element_order() {
    let name = |names: &[&str]| -> Vec<Value> { names.iter().map(|name| json!({"name": name})).collect() };
    assert_eq!(
        pod(
            json!({"containers": name(&["a", "b", "c"])}),
            json!({"$setElementOrder/containers": name(&["c", "a"]), "containers": [{"name": "a", "image": "2"}]})
        ),
        json!({"containers": [{"name": "b"}, {"name": "c"}, {"name": "a", "image": "2"}]})
    );
    assert_eq!(
        pod(
            json!({"containers": name(&["sidecar", "a"])}),
            json!({"$setElementOrder/containers": name(&["b", "a"]), "containers": [{"name": "b"}]})
        ),
        json!({"containers": [{"name": "b"}, {"name": "sidecar"}, {"name": "a"}]})
    );
    assert_eq!(
        pod(
            json!({"containers": name(&["a", "b"])}),
            json!({"$setElementOrder/containers": name(&["b"]), "containers": [{"name": "a", "$patch": "delete"}]})
        ),
        json!({"containers": [{"name": "b"}]})
    );
    assert_eq!(
        merged(
            "apimachinery.pkg.apis.meta.v1.ObjectMeta",
            json!({"finalizers": ["a", "b"]}),
            json!({"$setElementOrder/finalizers": ["b", "c"], "$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]})
        ),
        json!({"finalizers": ["b", "c"]})
    );
    let service = merged(
        "api.core.v1.ServiceSpec",
        json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "clusterIP": "10.0.0.1"}),
        json!({"$setElementOrder/ports": [{"port": 80}], "ports": [{"port": 80, "targetPort": 8080}]}),
    );
    assert_eq!(
        service,
        json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}], "clusterIP": "10.0.0.1"})
    );
}

proptest::proptest! {
    /// Patching with a part of the object itself changes nothing.
    #[test]
    fn a_patch_of_what_is_there_changes_nothing(keep in proptest::collection::vec(proptest::bool::ANY, 3)) {
        let tree = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "env": [{"name": "X", "value": "1"}]}, {"name": "c"}]});
        let all = tree["containers"].as_array().unwrap().clone();
        let part: Vec<Value> = all.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(one, _)| one).collect();
        proptest::prop_assert_eq!(pod(tree.clone(), json!({"containers": part})), tree);
    }
}

#[test]
fn a_json_patch_finds_the_parts_that_upstreams_encoding_has() {
    let claim = by_name("api.resource.v1.ResourceClaim").unwrap();
    let patched = |steps: Value| {
        let mut tree = json!({ "metadata": { "name": "a" }, "spec": {} });
        apply(claim, &mut tree, &Patch::json(steps)).map(|()| tree)
    };
    let allocated = patched(json!([{ "op": "add", "path": "/status/allocation", "value": { "a": 1 } }]));
    let wanted = json!({ "metadata": { "name": "a" }, "spec": {}, "status": { "allocation": { "a": 1 } } });
    assert_eq!(allocated.unwrap(), wanted);
    let tested = patched(json!([{ "op": "test", "path": "/metadata/name", "value": "a" }])).unwrap();
    assert_eq!(tested, json!({ "metadata": { "name": "a" }, "spec": {} }));
    assert!(patched(json!([{ "op": "add", "path": "/data/a", "value": 1 }])).is_err());
}
