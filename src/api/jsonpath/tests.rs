//! Tests of the JSONPath dialect, with results as kubectl prints them.

use serde_json::{Value, json};

use super::JsonPath;

fn pods() -> Value {
    json!({"kind": "List", "items": [
        {"kind": "Pod", "metadata": {"name": "a", "labels": {"app": "web", "x.io/y": "z"}},
         "status": {"phase": "Running", "n": 3, "conditions": [{"type": "Ready", "status": "True"}, {"type": "Init", "status": "False"}]}},
        {"kind": "Pod", "metadata": {"name": "b"}, "status": {"phase": "Pending", "n": 10, "conditions": []}},
        {"kind": "Pod", "metadata": {"name": "c"}, "status": {"phase": "Running", "n": 1}}
    ]})
}

fn rendered(template: &str) -> String {
    match JsonPath::parse(template).and_then(|path| path.render(&pods())) {
        Ok(text) => text,
        Err(error) => format!("ERROR {error}"),
    }
}

#[test]
fn fields_wildcards_and_literals() {
    for (template, expected) in [
        ("{.kind}", "List"),
        ("{ .kind }", "List"),
        ("{$.kind}", "List"),
        ("{@.kind}", "List"),
        ("kind={.kind}\\n", "kind=List\\n"),
        ("{.items[*].metadata.name}", "a b c"),
        ("{.items[*]['metadata.name']}", ""),
        ("{.items[0].metadata.labels['x\\.io/y']}", ""),
        ("{.items[0].metadata.labels['x.io/y']}", "z"),
        ("{.items[0].metadata.labels.x\\.io/y}", "z"),
        ("{.items[0].metadata.labels}", r#"{"app":"web","x.io/y":"z"}"#),
        ("{.items[0].metadata.labels.*}", "web z"),
        ("{.items[*].missing}", ""),
        ("{.items[0].status.n}", "3"),
        ("{\"a\\tb\"}{'c\\n'}", "a\tbc\n"),
        ("{..name}", "a b c"),
        ("{.items[0]..type}", "Ready Init"),
        ("{.items[*]['kind','missing']}", "Pod Pod Pod"),
    ] {
        assert_eq!(rendered(template), expected, "{template}");
    }
}

#[test]
fn indices_and_slices() {
    for (template, expected) in [
        ("{.items[0].metadata.name}", "a"),
        ("{.items[-1].metadata.name}", "c"),
        ("{.items[-1:].metadata.name}", "c"),
        ("{.items[0:2].metadata.name}", "a b"),
        ("{.items[:2].metadata.name}", "a b"),
        ("{.items[1:].metadata.name}", "b c"),
        ("{.items[0:3:2].metadata.name}", "a c"),
        ("{.items[0,2].metadata.name}", "a c"),
        ("{.items[0:0].metadata.name}", ""),
        ("{.items[3].metadata.name}", "ERROR array index out of bounds: index 3, length 3"),
        ("{.kind[0]}", "ERROR List is not array or slice"),
    ] {
        assert_eq!(rendered(template), expected, "{template}");
    }
}

#[test]
fn filters() {
    for (template, expected) in [
        ("{.items[?(@.status.phase==\"Running\")].metadata.name}", "a c"),
        ("{.items[?(@.status.phase != 'Running')].metadata.name}", "b"),
        ("{.items[?(@.status.n > 2)].metadata.name}", "a b"),
        ("{.items[?(@.status.n<=3)].metadata.name}", "a c"),
        ("{.items[?(@.metadata.labels)].metadata.name}", "a"),
        ("{.items[?(@.metadata.labels.app==\"web)\")].metadata.name}", ""),
        ("{.items[0].status.conditions[?(@.type==\"Ready\")].status}", "True"),
        ("{.items[*].status.conditions[?(@.type==\"Ready\")].status}", "True"),
        ("{.kind[?(@.a)]}", "ERROR List is not array or slice and cannot be filtered"),
    ] {
        assert_eq!(rendered(template), expected, "{template}");
    }
}

#[test]
fn ranges() {
    let table = "{range .items[*]}{.metadata.name}{\"\\t\"}{.status.phase}{\"\\n\"}{end}";
    assert_eq!(rendered(table), "a\tRunning\nb\tPending\nc\tRunning\n");
    let nested =
        "{range .items[*]}{.metadata.name}:{range .status.conditions[*]}{.type}={.status};{end} {end}done";
    assert_eq!(rendered(nested), "a:Ready=True;Init=False; b: c: done");
}

#[test]
fn mistakes_are_named() {
    for (template, expected) in [
        ("{.kind", "ERROR unclosed action"),
        ("{range .items[*]}x", "ERROR unexpected EOF: range without end"),
        ("{end}", "ERROR not in range, nothing to end"),
        ("{foo}", "ERROR unrecognized identifier foo"),
        ("{.items[x]}", "ERROR invalid array index x"),
        ("{.items[0}", "ERROR unterminated array"),
        ("{%}", "ERROR unrecognized character in action: U+0025 '%'"),
        ("{\"a}", "ERROR unterminated quoted string"),
        ("{.items[?(@.a=='b'].x}", "ERROR unterminated filter"),
    ] {
        assert_eq!(rendered(template), expected, "{template}");
    }
}

#[test]
fn relaxed_expressions() {
    for expression in ["kind", ".kind", "{.kind}", "{kind}", "$.kind"] {
        assert_eq!(JsonPath::parse_relaxed(expression).unwrap().values(&pods()).unwrap(), [json!("List")]);
    }
    assert!(JsonPath::parse_relaxed("{}").is_err());
}

/// Each descent and each union multiplies what comes in.
#[test]
fn a_path_of_others_has_an_end() {
    let deep = (0..100).fold(json!({"a": 1}), |below, _| json!({ "a": below }));
    for path in ["{...............}".to_string(), format!("{{$.a{}}}", "['a','a']".repeat(60))] {
        let path = JsonPath::parse(&path).unwrap();
        let error = path.first(&deep, 10_000).unwrap_err();
        assert_eq!(error.to_string(), "the path reaches too many values");
    }
    let path = JsonPath::parse("{..a}").unwrap();
    assert_eq!(path.first(&json!({"b": [{"a": 7}, {"a": 8}]}), 10_000).unwrap(), Some(json!(7)));
    assert_eq!(JsonPath::parse("{.none}").unwrap().first(&deep, 10).unwrap(), None);
}

/// Paths come from definitions, too: depth takes the stack, which no error can be caught from.
#[test]
fn what_nests_too_deeply_is_refused() {
    for (one, end) in [("{range .a}", ""), ("{.a[?(@.b==", ""), ("{.a[?(@.b[?(", "")] {
        let template = format!("{{.a}}{}{end}", one.repeat(200_000));
        assert!(JsonPath::parse(&template).is_err());
    }
    let nested = |depth: usize| format!("{{.a{}@.x{}}}", "[?(@.b".repeat(depth), ")]".repeat(depth));
    assert!(JsonPath::parse(&nested(20)).is_ok());
    assert!(JsonPath::parse(&nested(100_000)).is_err());
}
