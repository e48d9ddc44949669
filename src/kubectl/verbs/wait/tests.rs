//! Tests of the conditions of `kubectl wait`.

use serde_json::{Value, json};

use super::Condition;

fn met(condition: &str, object: &Value) -> Result<bool, String> {
    Condition::parse(condition).and_then(|one| one.met(object)).map_err(|error| error.to_string())
}

#[test]
fn conditions_of_an_object() {
    let pod = json!({"metadata": {"generation": 2}, "status": {"phase": "Running", "n": 3, "ips": ["a", "b"],
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "True", "observedGeneration": 1}]}});
    for (condition, expected) in [
        ("condition=Ready", true),
        ("condition=ready", true),
        ("condition=Ready=false", false),
        ("condition=Other", false),
        ("condition=Old", false),
        ("jsonpath={.status.phase}=Running", true),
        ("jsonpath='{.status.phase}'=Running", false),
        ("jsonpath={.status.phase}='Running'", true),
        ("jsonpath=.status.n=3", true),
        ("jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True", true),
        ("jsonpath={.status.missing}", false),
        ("jsonpath={.status.phase}", true),
        ("create", true),
        ("delete", false),
    ] {
        let result = met(condition, &pod);
        if condition.starts_with("jsonpath='") {
            assert!(result.is_err(), "quotes are the shell's business: {condition}");
            continue;
        }
        assert_eq!(result, Ok(expected), "{condition}");
    }
    assert_eq!(met("ready", &pod), Err("error: unrecognized condition: \"ready\"".into()));
    assert!(met("jsonpath={.status.ips[*]}=a", &pod).is_err());
}
