//! Applying to built-in kinds, with upstream's words; the published cases and the properties are beside this
//! file.

use serde_json::{Value, json};

use super::*;
use crate::fuzzing::{OneVersion, at_once};
use crate::kinds::{self, KindRow};
use crate::schema;

mod cases;
mod properties;

/// An object of a built-in kind, as the registry would keep it.
struct State<'a> {
    row: &'a KindRow,
    live: Value,
    entries: Vec<Entry>,
    second: u32,
}

impl<'a> State<'a> {
    fn new(row: &'a KindRow) -> Self {
        State { row, live: Value::Null, entries: Vec::new(), second: 0 }
    }

    fn root(&self) -> Place<'static> {
        Place::from(schema::for_kind(self.row))
    }

    fn complete(&self, mut tree: Value) -> Value {
        schema::check(self.row, &mut tree, crate::FieldValidation::Strict).unwrap();
        schema::apply_defaults(self.row, &mut tree);
        tree
    }

    fn apply(&mut self, manager: &str, force: bool, patch: Value) -> Result<Effect, ApiError> {
        self.second += 1;
        let time = format!("2026-01-01T00:00:{:02}Z", self.second);
        let version = self.row.api_version();
        let mut patch = patch;
        patch["apiVersion"] = json!(version);
        patch["kind"] = json!(self.row.kind);
        check(self.root(), &version, &self.row.kind, &patch)?;
        let author = Author { manager, api_version: &version, subresource: "", now: &time };
        let reset = Reset::of(self.row, None, false);
        let change = Change { author: &author, reset: &reset, force };
        let versions = OneVersion(&version, self.root());
        let applied = at_once(apply(&versions, &change, &self.live, &patch, self.entries.clone()))?;
        self.live = self.complete(applied.tree);
        self.entries = applied.entries;
        Ok(applied.effect)
    }

    fn update(&mut self, manager: &str, tree: Value) {
        self.second += 1;
        let time = format!("2026-01-01T00:00:{:02}Z", self.second);
        let version = self.row.api_version();
        let tree = self.complete(tree);
        let old = (!self.live.is_null()).then_some(&self.live);
        let delta = managed::compare(self.root(), old, &tree).without(&Reset::of(self.row, None, false));
        let author = Author { manager, api_version: &version, subresource: "", now: &time };
        managed::update(&mut self.entries, delta, &author);
        self.live = tree;
    }

    fn owns(&self, manager: &str, operation: Operation) -> Value {
        let found = self.entries.iter().find(|one| one.manager == manager && one.operation == operation);
        found.map_or(Value::Null, |entry| serde_json::to_value(&entry.fields).unwrap())
    }
}

fn data(data: Value) -> Value {
    json!({ "metadata": { "name": "a" }, "data": data })
}

#[test]
fn what_is_applied_is_owned_and_what_is_left_out_goes() {
    let mut state = State::new(&kinds::CONFIG_MAP);
    assert_eq!(state.apply("one", false, data(json!({ "x": "1", "y": "1" }))).unwrap(), Effect::Owners);
    assert_eq!(state.owns("one", Operation::Apply), json!({ "f:data": { "f:x": {}, "f:y": {} } }));
    assert_eq!(state.entries[0].time.as_deref(), Some("2026-01-01T00:00:01Z"));
    assert_eq!(state.apply("one", false, data(json!({ "x": "1", "y": "1" }))).unwrap(), Effect::Nothing);
    assert_eq!(state.entries[0].time.as_deref(), Some("2026-01-01T00:00:01Z"));
    assert_eq!(state.apply("one", false, data(json!({ "x": "2", "y": "1" }))).unwrap(), Effect::Time);
    // Another one wants the same value: both own it, and without a change there is no time.
    assert_eq!(state.apply("two", false, data(json!({ "x": "2" }))).unwrap(), Effect::Owners);
    assert_eq!(state.owns("two", Operation::Apply), json!({ "f:data": { "f:x": {} } }));
    assert_eq!(state.entries.iter().find(|one| one.manager == "two").unwrap().time, None);
    state.apply("one", false, data(json!({}))).unwrap();
    assert_eq!(state.live["data"], json!({ "x": "2" }), "the other still wants it");
    assert_eq!(state.owns("one", Operation::Apply), json!({ "f:data": {} }));
    state.apply("two", false, data(json!({}))).unwrap();
    assert_eq!(state.live.get("data").and_then(|data| data.get("x")), None);
}

#[test]
fn the_last_field_of_metadata_goes_and_the_name_stays() {
    for row in [&kinds::CONFIG_MAP, &kinds::DEPLOYMENT] {
        let mut state = State::new(row);
        let metadata = json!({ "name": "a", "namespace": "here", "annotations": { "a": "b" } });
        state.apply("one", false, json!({ "metadata": metadata })).unwrap();
        // The server's own part of the object.
        state.live["metadata"]["uid"] = json!("1");
        state.apply("one", false, json!({ "metadata": { "name": "a", "namespace": "here" } })).unwrap();
        let kept = json!({ "name": "a", "namespace": "here", "uid": "1" });
        assert_eq!(state.live["metadata"], kept, "{}", row.kind);
    }
}

#[test]
fn conflicts_name_their_owners_and_fields() {
    let mut state = State::new(&kinds::CONFIG_MAP);
    state.update("kubectl", data(json!({ "key": "1", "l": "1" })));
    let refused = state.apply("me", false, data(json!({ "key": "2" }))).unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (409, "Conflict"));
    assert_eq!(
        refused.message(),
        "Apply failed with 1 conflict: conflict with \"kubectl\" using v1: .data.key"
    );
    let cause = &refused.status().details.as_ref().unwrap().causes.as_ref().unwrap()[0];
    assert_eq!(cause.reason.as_deref(), Some("FieldManagerConflict"));
    assert_eq!(cause.message.as_deref(), Some("conflict with \"kubectl\" using v1"));
    assert_eq!(cause.field.as_deref(), Some(".data.key"));
    state.apply("a", false, data(json!({ "z": "1" }))).unwrap();
    let refused = state.apply("me", false, data(json!({ "key": "2", "l": "2", "z": "2" }))).unwrap_err();
    assert_eq!(
        refused.message(),
        "Apply failed with 3 conflicts: conflicts with \"a\":\n- .data.z\nconflicts with \"kubectl\" using v1:\n- .data.key\n- .data.l"
    );
    state.apply("me", true, data(json!({ "key": "2", "l": "2" }))).unwrap();
    assert_eq!(state.live["data"], json!({ "key": "2", "l": "2", "z": "1" }));
    assert_eq!(state.owns("kubectl", Operation::Update), json!({ "f:data": {} }));
    assert_eq!(state.owns("me", Operation::Apply), json!({ "f:data": { "f:key": {}, "f:l": {} } }));
}

#[test]
fn a_hundred_conflicts_are_named_and_the_rest_is_counted() {
    let mut state = State::new(&kinds::CONFIG_MAP);
    let all = |value: &str| data((0..250).map(|key| (format!("k{key:03}"), json!(value))).collect());
    state.apply("one", false, all("a")).unwrap();
    let refused = state.apply("two", false, all("b")).unwrap_err();
    let status = refused.status();
    let message = status.message.as_deref().unwrap();
    assert!(message.starts_with("Apply failed with 250 conflicts: conflicts with \"one\""), "{message}");
    assert!(message.ends_with("\n- .data.k099\nand 150 more"), "{message}");
    assert_eq!(status.details.as_ref().unwrap().causes.as_ref().unwrap().len(), 100);
}

fn deployment(containers: Value) -> Value {
    json!({
        "metadata": { "name": "d" },
        "spec": { "selector": { "matchLabels": { "a": "b" } },
            "template": { "metadata": { "labels": { "a": "b" } }, "spec": { "containers": containers } } },
    })
}

#[test]
fn elements_are_found_by_their_keys_and_defaults_are_nobodys() {
    let mut state = State::new(&kinds::DEPLOYMENT);
    let web =
        json!({ "name": "web", "image": "i:1", "ports": [{ "containerPort": 80 }, { "containerPort": 81 }] });
    state.apply("ci", false, deployment(json!([web, { "name": "side", "image": "s" }]))).unwrap();
    let spec = state.owns("ci", Operation::Apply)["f:spec"].clone();
    assert!(spec.get("f:replicas").is_none(), "{spec}");
    assert_eq!(spec["f:selector"], json!({}), "selectors are atomic");
    let ports = &spec["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"web\"}"]["f:ports"];
    assert_eq!(
        *ports,
        json!({ "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": { ".": {}, "f:containerPort": {} },
                "k:{\"containerPort\":81,\"protocol\":\"TCP\"}": { ".": {}, "f:containerPort": {} } })
    );
    // Somebody scales, and somebody injects a container: neither is touched.
    let mut scaled = state.live.clone();
    scaled["spec"]["replicas"] = json!(5);
    let containers = scaled["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap();
    containers.insert(0, json!({ "name": "mesh", "image": "m" }));
    state.update("mesh", scaled);
    let web = json!({ "name": "web", "image": "i:2", "ports": [{ "containerPort": 81 }] });
    state.apply("ci", false, deployment(json!([web]))).unwrap();
    let pod = &state.live["spec"]["template"]["spec"];
    let names: Vec<&str> =
        pod["containers"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["mesh", "web"]);
    assert_eq!(pod["containers"][1]["ports"], json!([{ "containerPort": 81, "protocol": "TCP" }]));
    assert_eq!(state.live["spec"]["replicas"], 5);
    let refused = state.apply("ci", false, {
        let mut tree = deployment(json!([web_of("i:2")]));
        tree["spec"]["replicas"] = json!(1);
        tree
    });
    assert_eq!(
        refused.unwrap_err().message(),
        "Apply failed with 1 conflict: conflict with \"mesh\" using apps/v1: .spec.replicas"
    );
}

fn web_of(image: &str) -> Value {
    json!({ "name": "web", "image": image, "ports": [{ "containerPort": 81 }] })
}

#[test]
fn what_does_not_fit_is_said_in_upstreams_words() {
    let mut state = State::new(&kinds::DEPLOYMENT);
    let mut refuse = |patch: Value| state.apply("m", false, patch).unwrap_err();
    let mut bad = deployment(json!([{ "name": "a" }]));
    bad["spec"]["foo"] = json!(1);
    let refused = refuse(bad);
    assert_eq!(refused.code(), 500);
    assert_eq!(
        refused.message(),
        "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema"
    );
    let twice =
        deployment(json!([{ "name": "a", "ports": [{ "containerPort": 1 }, { "containerPort": 1 }] }]));
    assert_eq!(
        refuse(twice).message(),
        "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.template.spec.containers[name=\"a\"].ports: duplicate entries for key [containerPort=1,protocol=\"TCP\"]"
    );
    let mut wrong = deployment(json!([]));
    wrong["spec"]["replicas"] = json!("3");
    wrong["metadata"]["labels"] = json!({ "a": true });
    assert_eq!(
        refuse(wrong).message(),
        "failed to create typed patch object (/d; apps/v1, Kind=Deployment): errors:\n  .metadata.labels.a: expected string, got &value.valueUnstructured{Value:true}\n  .spec.replicas: expected numeric (int or float), got string"
    );
    let mut managed = deployment(json!([]));
    managed["metadata"]["managedFields"] = json!([]);
    let refused = refuse(managed);
    assert_eq!((refused.code(), refused.message()), (400, "metadata.managedFields must be nil"));
    let root = Place::from(schema::for_kind(&kinds::DEPLOYMENT));
    let kind = |tree: Value| check(root, "apps/v1", "Deployment", &tree).unwrap_err().message().to_string();
    assert_eq!(kind(json!({ "apiVersion": "v1", "kind": "Pod" })), "invalid object type: /v1, Kind=Pod");
    assert_eq!(kind(json!({ "kind": "Pod" })), "invalid object type: /, Kind=");
    assert_eq!(kind(json!([])), "invalid object type: /, Kind=");
    // Quantities and times may be written as they like.
    let mut fine = deployment(json!([{ "name": "a", "resources": { "limits": { "cpu": 1 } } }]));
    fine["metadata"]["creationTimestamp"] = Value::Null;
    state.apply("m", false, fine).unwrap();
}

#[test]
fn objects_without_managed_fields_belong_to_those_before() {
    let mut state = State::new(&kinds::CONFIG_MAP);
    state.live = state.complete(data(json!({ "k": "1" })));
    let refused = state.apply("me", false, data(json!({ "k": "2" }))).unwrap_err();
    assert_eq!(
        refused.message(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.k"
    );
    state.apply("me", false, data(json!({ "l": "2" }))).unwrap();
    assert_eq!(
        state.owns("before-first-apply", Operation::Update),
        json!({ "f:data": { ".": {}, "f:k": {} } })
    );
}

#[test]
fn kubectl_follows_its_former_self() {
    let mut state = State::new(&kinds::CONFIG_MAP);
    let applied = json!({ "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "a", "annotations": {} }, "data": { "k": "1", "l": "1" } });
    let mut live = data(json!({ "k": "1", "l": "1", "m": "1" }));
    live["metadata"]["annotations"] = json!({ ANNOTATION: applied.to_string() });
    state.update("kubectl-client-side-apply", live);
    let mut changed = state.live.clone();
    changed["data"]["l"] = json!("2");
    state.update("editor", changed);
    let refused = state.apply("other", false, data(json!({ "k": "3" }))).unwrap_err();
    assert!(refused.message().contains("kubectl-client-side-apply"), "{refused}");
    // What is no longer as it was applied is somebody else's.
    let refused = state.apply("kubectl", false, data(json!({ "k": "3", "l": "3", "m": "1" }))).unwrap_err();
    assert_eq!(refused.message(), "Apply failed with 1 conflict: conflict with \"editor\" using v1: .data.l");
    state.apply("kubectl", false, data(json!({ "k": "3" }))).unwrap();
    let annotation = state.live["metadata"]["annotations"][ANNOTATION].as_str().unwrap();
    assert_eq!(
        annotation,
        "{\"apiVersion\":\"v1\",\"data\":{\"k\":\"3\"},\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"}}\n"
    );
    // One that would be too long goes.
    let long = data(json!({ "k": "3", "n": "x".repeat(300_000) }));
    state.apply("kubectl", false, long).unwrap();
    assert_eq!(
        state.live["metadata"].pointer("/annotations/kubectl.kubernetes.io~1last-applied-configuration"),
        None
    );
}

#[test]
fn paths_and_numbers_are_printed_as_go_prints_them() {
    for (value, text) in [
        (json!(80), "80"),
        (json!(1_000_000), "1e+06"),
        (json!(1_234_567), "1.234567e+06"),
        (json!(999_999), "999999"),
        (json!(0.000_01), "1e-05"),
        (json!(0.0001), "0.0001"),
        (json!(-3.5), "-3.5"),
        (json!(0), "0"),
    ] {
        assert_eq!(go::plain(&value), text);
    }
    assert_eq!(go::element("k:{\"a\":1,\"b\":\"x\"}"), "[a=1,b=\"x\"]");
    assert_eq!(go::element("v:\"x/y\""), "[=\"x/y\"]");
    assert_eq!(go::element("i:3"), "[3]");
}
