//! Documents as kubectl reads them.

use serde_json::Value;

use super::*;
use crate::kinds;

fn document(group: &str, version: &str) -> Value {
    let of = |row: &&KindRow| row.group == group && row.version == version;
    let rows: Vec<Described<'_>> = kinds::ALL.iter().copied().filter(of).map(Described::from).collect();
    serde_json::from_slice(&v3_document(group, version, &rows)).unwrap()
}

fn references(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(one)) = map.get("$ref") {
                out.push(one.trim_start_matches("#/components/schemas/").to_string());
            }
            map.values().for_each(|value| references(value, out));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, out)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    for row in kinds::ALL {
        let document = document(&row.group, &row.version);
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 5, "{}", row.kind);
        for name in found {
            assert!(document["components"]["schemas"].get(&name).is_some(), "{name}");
        }
    }
}

#[test]
fn patches_say_kind_and_parameters() {
    for row in kinds::ALL.iter().filter(|row| row.allows("patch")) {
        let document = document(&row.group, &row.version);
        let path = format!("{}/{{name}}", row.collection_path(row.namespaced().then_some("{namespace}")));
        let patch = &document["paths"][&path]["patch"];
        assert_eq!(patch["x-kubernetes-action"], "patch");
        let gvk = &patch["x-kubernetes-group-version-kind"];
        assert_eq!((gvk["group"].as_str(), gvk["kind"].as_str()), (Some(&*row.group), Some(&*row.kind)));
        let names: Vec<&str> =
            patch["parameters"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
        assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    }
}

#[test]
fn schemas_carry_what_apply_needs() {
    let core = document("", "v1");
    let schemas = &core["components"]["schemas"];
    let spec = &schemas["io.k8s.api.core.v1.PodSpec"];
    let containers = &spec["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(containers["x-kubernetes-list-map-keys"][0], "name");
    assert_eq!(containers["items"]["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.core.v1.Container");
    assert_eq!(spec["properties"]["volumes"]["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert_eq!(spec["required"][0], "containers");
    let pod = &schemas["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"];
    assert_eq!(pod[0], serde_json::json!({"group": "", "version": "v1", "kind": "Pod"}));
    let ports = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["get"]["operationId"];
    assert_eq!(ports, "readCoreV1NamespacedPod");
    let apps = document("apps", "v1");
    let scale = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["patch"];
    assert_eq!(scale["x-kubernetes-group-version-kind"]["group"], "autoscaling");
    assert_eq!(scale["operationId"], "patchAppsV1NamespacedDeploymentScale");
    let rbac = document("rbac.authorization.k8s.io", "v1");
    let roles = &rbac["paths"]["/apis/rbac.authorization.k8s.io/v1/clusterroles"]["post"];
    assert_eq!(roles["operationId"], "createRbacAuthorizationV1ClusterRole");
    assert_eq!(roles["tags"][0], "rbacAuthorization_v1");
}

#[test]
fn every_type_and_field_has_a_description_as_upstream_has_it() {
    let descriptions = Descriptions::shared();
    let (mut fields, mut described) = (0, 0);
    for ty in crate::schema::all() {
        let name = ty.name();
        fields += ty.fields().len();
        described +=
            ty.fields().iter().filter(|one| descriptions.of_field(&name, one.name).is_some()).count();
    }
    // Messages that only protobuf has have none.
    assert!(fields > 3000 && described * 100 > fields * 93, "{described} of {fields}");
    let core = document("", "v1");
    let schemas = &core["components"]["schemas"];
    let pod = &schemas["io.k8s.api.core.v1.Pod"];
    let about = "Pod is a collection of containers that can run on a host. This resource is created by clients and \
                 scheduled onto hosts.";
    assert_eq!(pod["description"], about);
    let containers =
        schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]["description"].as_str();
    assert!(containers.unwrap().starts_with("List of containers belonging to the pod."));
    let endpoints = schemas["io.k8s.api.core.v1.Endpoints"]["description"].as_str().unwrap();
    assert!(endpoints.contains("\n\t Name: \"mysvc\",\n"), "{endpoints}");
    assert!(schemas["io.k8s.apimachinery.pkg.api.resource.Quantity"]["description"].is_string());
    let read = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"];
    assert_eq!(read["get"]["description"], "read the specified Pod");
    let pretty = read["parameters"].as_array().unwrap().iter().find(|one| one["name"] == "pretty").unwrap();
    assert!(
        pretty["description"].as_str().unwrap().starts_with("If 'true', then the output is pretty printed.")
    );
    let events = &core["paths"]["/api/v1/namespaces/{namespace}/events"];
    assert_eq!(events["post"]["description"], "create an Event");
    assert_eq!(events["get"]["description"], "list or watch objects of kind Event");
    let exec = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/exec"]["get"];
    assert_eq!(exec["description"], "connect GET requests to exec of Pod");
    drop(descriptions);
}

#[test]
fn descriptions_are_unpacked_while_somebody_holds_them() {
    let held = Descriptions::shared();
    assert!(std::sync::Arc::ptr_eq(&held, &Descriptions::shared()));
}

#[test]
fn the_index_names_documents_by_hash() {
    let bytes = Bytes::from_static(b"{}");
    let index = v3_index([("", "v1", &*hash(&bytes)), ("apps", "v1", &*hash(&bytes))]);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash=44136FA355B3678A"), "{url}");
    assert!(index["paths"]["api/v1"].is_object());
}

/// Reads `(number, bytes)` of the length-delimited fields of a message.
fn fields(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut out = Vec::new();
    while let Some((&first, rest)) = bytes.split_first() {
        // Numbers above 15 take a second byte of tag; their low bits are in the first.
        let (number, rest) =
            if first & 0x80 == 0 { (first >> 3, rest) } else { (first >> 3 & 15 | rest[0] << 4, &rest[1..]) };
        if first & 7 == 0 {
            bytes = &rest[1..];
            continue;
        }
        let (mut length, mut at) = (0_usize, 0);
        loop {
            length |= usize::from(rest[at] & 0x7f) << (7 * at);
            at += 1;
            if rest[at - 1] & 0x80 == 0 {
                break;
            }
        }
        out.push((number, &rest[at..at + length]));
        bytes = &rest[at + length..];
    }
    out
}

fn only(bytes: &[u8], number: u8) -> Vec<&[u8]> {
    fields(bytes).into_iter().filter(|(own, _)| *own == number).map(|(_, bytes)| bytes).collect()
}

#[test]
fn version_2_has_every_kind_and_its_patch() {
    let all: Vec<Described<'_>> = kinds::ALL.iter().copied().map(Described::from).collect();
    let document = v2_document(&all);
    assert_eq!(only(&document, 1), [b"2.0"]);
    let definitions = only(only(&document, 9)[0], 1);
    let named = |name: &str| {
        let found = definitions.iter().find(|one| only(one, 1) == [name.as_bytes()]);
        only(found.unwrap_or_else(|| panic!("{name}")), 2)[0]
    };
    for row in kinds::ALL {
        let ty = crate::schema::for_kind(row).unwrap();
        let extension = only(named(&ty.name()), 31)[0];
        assert_eq!(only(extension, 1), [b"x-kubernetes-group-version-kind"]);
    }
    let spec = only(only(named("io.k8s.api.core.v1.PodSpec"), 25)[0], 1);
    let containers = spec.iter().find(|one| only(one, 1) == [b"containers"]).unwrap();
    let items = only(only(only(containers, 2)[0], 23)[0], 1)[0];
    assert_eq!(only(items, 1), [b"#/definitions/io.k8s.api.core.v1.Container".as_slice()]);
    let paths = only(only(&document, 8)[0], 2);
    let pod = b"/api/v1/namespaces/{namespace}/pods/{name}".as_slice();
    let pod = paths.iter().find(|one| only(one, 1) == [pod]).unwrap();
    let patch = only(only(pod, 2)[0], 8)[0];
    let parameters: Vec<String> = only(patch, 8)
        .into_iter()
        .map(|one| only(only(only(one, 1)[0], 2)[0], 3)[0])
        .map(|query| String::from_utf8(only(query, 4)[0].to_vec()).unwrap())
        .collect();
    assert_eq!(parameters, ["dryRun", "fieldManager", "fieldValidation", "force"]);
}

fn custom(schema: Value) -> Value {
    let row = KindRow {
        group: "example.com".into(),
        kind: "Widget".into(),
        plural: "widgets".into(),
        ..kinds::CONFIG_MAP.clone()
    };
    let document = v2_json(&[Described { row: &row, schema: Some(schema) }]);
    serde_json::from_slice(&document).unwrap()
}

#[test]
fn version_2_in_json_says_what_its_clients_understand() {
    let nested = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "description": "anything", "properties": { "a": { "type": "string" } } });
    let schema = json!({ "type": "object", "description": "about", "properties": { "spec": {
        "type": "object", "required": ["size", "shape"],
        "properties": {
            "size": { "type": "integer", "enum": [1, 2] },
            "shape": { "type": "string", "nullable": true },
            "port": { "x-kubernetes-int-or-string": true, "anyOf": [{ "type": "integer" }, { "type": "string" }] },
            "more": nested,
            "list": { "type": "array", "items": { "type": "object", "additionalProperties": { "type": "string" } } },
        },
    } } });
    let document = custom(schema);
    let widget = &document["definitions"]["com.example.v1.Widget"];
    assert_eq!(widget["description"], "about");
    let metadata = &widget["properties"]["metadata"];
    assert_eq!(metadata["$ref"], "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    let about = metadata["description"].as_str().unwrap();
    assert!(about.starts_with("Standard object's metadata. More info: "), "{about}");
    assert_eq!(
        widget["properties"]["spec"],
        json!({ "type": "object", "required": ["size"], "properties": {
            "size": { "type": "integer", "enum": [1, 2] },
            "shape": {},
            "port": { "x-kubernetes-int-or-string": true },
            "more": { "x-kubernetes-preserve-unknown-fields": true, "description": "anything" },
            "list": { "type": "array", "items": { "type": "object", "additionalProperties": { "type": "string" } } },
        } })
    );
    let get = &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["get"];
    assert_eq!(get["x-kubernetes-group-version-kind"]["kind"], "Widget");
    assert!(!document.to_string().contains("#/components/"));

    let open = custom(json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "description": "about", "properties": { "a": { "type": "string" } } }));
    let kind = json!([{ "group": "example.com", "version": "v1", "kind": "Widget" }]);
    let wanted = json!({ "type": "object", "x-kubernetes-group-version-kind": kind });
    assert_eq!(open["definitions"]["com.example.v1.Widget"], wanted);
}
