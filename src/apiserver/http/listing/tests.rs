//! Every form, written in pieces, is what it would be as a whole.

use api::protobuf;
use http_body_util::BodyExt;

use super::*;
use crate::testing::Harness;

const KINDS: [(Form, &str, &str); 3] = [
    (Form::Whole, "ConfigMapList", "v1"),
    (Form::Metadata, "PartialObjectMetadataList", "meta.k8s.io/v1"),
    (Form::Table, "Table", "meta.k8s.io/v1"),
];

fn objects(count: usize) -> Vec<Arc<Object>> {
    let object = |n: usize| {
        let text = "line: one\n  two \"quoted\"\n".repeat(60);
        let tree = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": format!("a{n}"), "creationTimestamp": "2026-01-01T00:00:00Z" },
            "data": { "k": text, "empty": "", "n": "12" },
        });
        Arc::new(Object::from_tree(tree, 7).unwrap())
    };
    (0..count).map(object).collect()
}

async fn written(
    h: &Harness,
    form: Form,
    encoding: Encoding,
    count: usize,
    pretty: bool,
) -> (Bytes, usize, Value) {
    let resources = h.server.registry.resources.load();
    let resource = resources.find("", "v1", "configmaps").unwrap();
    let version = if form == Form::Whole { "" } else { "meta.k8s.io/v1" };
    let accepted = Accepted { encoding, form, version };
    let printer = table::Printer::including(resource, None, accepted).unwrap();
    let (_, kind, api_version) = KINDS.into_iter().find(|one| one.0 == form).unwrap();
    let outline = Outline {
        accepted,
        has_types: false,
        kind: kind.to_string(),
        api_version: api_version.to_string(),
        meta: json!({ "resourceVersion": "7" }),
        columns: printer.columns(),
        rows: printer.rows(),
    };
    let rows = printer.rows();
    let items = |key: &str| -> Value {
        let tree = |object: &Arc<Object>| match key {
            "rows" => rows.row(object).unwrap(),
            _ if form == Form::Metadata => table::partial(object, version).unwrap(),
            _ => {
                let mut tree = object.tree().unwrap();
                tree.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
                tree
            }
        };
        objects(count).iter().map(tree).collect()
    };
    let mut whole =
        json!({ "kind": kind, "apiVersion": api_version, "metadata": { "resourceVersion": "7" } });
    if form == Form::Table {
        whole["columnDefinitions"] = printer.columns();
        whole["rows"] = items("rows");
    } else {
        whole["items"] = items("items");
    }
    let worker = Worker::new(&h.server.registry.turns, &Arc::new(crate::testing::master()));
    let listing = Listing::new(outline, objects(count), resource, worker).await.unwrap();
    let mut body = list(listing, pretty).await.unwrap();
    let (mut all, mut pieces) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data.len() < 4 * PIECE, "{}", data.len());
        all.extend_from_slice(&data);
        pieces += 1;
    }
    (all.into(), pieces, whole)
}

#[tokio::test]
async fn pieces_make_up_the_whole_in_every_form() {
    let h = Harness::start().await;
    for (form, _, _) in KINDS {
        for count in [0, 1, 600] {
            for pretty in [false, true] {
                let (json, pieces, whole) = written(&h, form, Encoding::Json, count, pretty).await;
                assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), whole);
                assert!(json.ends_with(b"}\n"));
                assert_eq!(json.starts_with(b"{\n  \"kind\": "), pretty);
                assert_eq!(pieces > 1, count == 600, "{form:?}");
            }
            let (yaml, pieces, whole) = written(&h, form, Encoding::Yaml, count, false).await;
            assert_eq!(String::from_utf8(yaml.to_vec()).unwrap(), serde_yaml::to_string(&whole).unwrap());
            assert_eq!(pieces > 1, count == 600, "by what is read: {form:?}");
            if form != Form::Table {
                let (bytes, pieces, whole) = written(&h, form, Encoding::Protobuf, count, false).await;
                assert_eq!(
                    protobuf::decode(&bytes).unwrap(),
                    protobuf::decode(&protobuf::encode(&whole).unwrap()).unwrap()
                );
                assert_eq!(pieces > 1, count == 600, "by what is read: {form:?}");
            }
        }
    }
    h.stop().await;
}

#[tokio::test]
async fn what_is_stored_in_another_version_is_converted_for_its_piece() {
    let h = Harness::start().await;
    let resources = h.server.registry.resources.load();
    let resource = resources.find("events.k8s.io", "v1", "events").unwrap();
    let event = |n: usize| {
        let tree = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": { "name": format!("e{n}") },
            "message": "m".repeat(PIECE), "involvedObject": { "name": "n" },
        });
        Arc::new(Object::from_tree(tree, 7).unwrap())
    };
    let events: Vec<_> = (0..5).map(event).collect();
    for encoding in [Encoding::Json, Encoding::Yaml, Encoding::Protobuf] {
        let accepted = Accepted { encoding, form: Form::Whole, version: "" };
        let printer = table::Printer::including(resource, None, accepted).unwrap();
        let outline = Outline {
            accepted,
            has_types: true,
            kind: "EventList".to_string(),
            api_version: "events.k8s.io/v1".to_string(),
            meta: json!({ "resourceVersion": "7" }),
            columns: Value::Null,
            rows: printer.rows(),
        };
        let worker = Worker::new(&h.server.registry.turns, &Arc::new(crate::testing::master()));
        let listing = Listing::new(outline, events.clone(), resource, worker).await.unwrap();
        let mut body = list(listing, false).await.unwrap();
        let (mut all, mut pieces) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            all.extend_from_slice(&frame.unwrap().into_data().unwrap());
            pieces += 1;
            let waiting = events.iter().filter(|event| Arc::strong_count(event) == 2).count();
            assert!(waiting + pieces >= 4, "{pieces} pieces and {waiting} objects as they are stored");
        }
        let tree: Value = match encoding {
            Encoding::Json => serde_json::from_slice(&all).unwrap(),
            Encoding::Yaml => serde_yaml::from_slice(&all).unwrap(),
            Encoding::Protobuf => protobuf::decode(&all).unwrap(),
        };
        assert_eq!((pieces, tree["items"].as_array().unwrap().len()), (5, 5), "{encoding:?}");
        assert_eq!(tree["items"][4]["regarding"]["name"], "n");
        assert_eq!(tree["items"][4]["note"].as_str().unwrap().len(), PIECE);
    }
    h.stop().await;
}

#[tokio::test]
async fn a_large_object_is_shared_and_not_copied() {
    let tree = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": { "k": "x".repeat(500_000) },
    });
    let object = Object::from_tree(tree, 7).unwrap();
    let plain = large(&object, false).collect().await.unwrap().to_bytes();
    assert_eq!(plain, [&object.to_json()[..], b"\n"].concat());
    let pretty = large(&object, true).collect().await.unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<Value>(&pretty).unwrap(), object.tree().unwrap());
    assert!(pretty.starts_with(b"{\n  \"apiVersion\"") && pretty.ends_with(b"\n}\n"));
    let mut body = large(&object, false);
    let stored = object.stored_bytes().as_ptr_range();
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(stored.contains(&frame.as_ptr()));
}
