//! Tests of changes of pod templates.

use serde_json::{Value, json};

use super::{Change, apply, images, is_chosen};

fn changed(change: &Change) -> Value {
    let mut spec = json!({
        "containers": [{"name": "web", "image": "a"}, {"name": "side", "image": "b"}],
        "initContainers": [{"name": "init", "image": "c"}],
    });
    apply(spec.as_object_mut().unwrap(), change).unwrap();
    spec
}

#[test]
fn names_are_chosen_with_wildcards() {
    for (pattern, name, chosen) in [
        ("*", "web", true),
        ("web", "web", true),
        ("web", "webs", false),
        ("w*", "web", true),
        ("*b", "web", true),
        ("*e*", "web", true),
        ("w*s", "web", false),
    ] {
        assert_eq!(is_chosen(pattern, name), chosen, "{pattern} {name}");
    }
}

#[test]
fn images_go_to_containers_by_name_or_to_all() {
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (resources, pairs) = images(&words(&["deploy", "x", "init=z", "web=y"])).unwrap();
    assert_eq!(resources, ["deploy", "x"]);
    let spec = changed(&Change::Image(pairs));
    assert_eq!(spec["containers"][0]["image"], "y");
    assert_eq!(spec["containers"][1]["image"], "b");
    assert_eq!(spec["initContainers"][0]["image"], "z");
    let all = changed(&Change::Image(vec![("*".to_string(), "q".to_string())]));
    assert_eq!(all["initContainers"][0]["image"], "q");
    assert!(images(&words(&["deploy", "x"])).is_err());
    assert!(images(&words(&["*=a", "b=c"])).unwrap_err().to_string().contains("already specified by *"));
    assert!(images(&words(&["a=b", "deploy"])).unwrap_err().to_string().contains("before image changes"));
    let missing = Change::Image(vec![("none".to_string(), "x".to_string())]);
    let error = apply(json!({"containers": []}).as_object_mut().unwrap(), &missing).unwrap_err();
    assert_eq!(error.to_string(), "error: unable to find container named \"none\"");
}

#[test]
fn resources_are_added_to_what_is_there() {
    let change = Change::Resources {
        containers: "w*".to_string(),
        requests: json!({"cpu": "1"}),
        limits: Value::Null,
    };
    let spec = changed(&change);
    assert_eq!(spec["containers"][0]["resources"], json!({"requests": {"cpu": "1"}}));
    assert_eq!(spec["containers"][1].get("resources"), None);
}
