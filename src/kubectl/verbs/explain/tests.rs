//! Tests of what `explain` prints: both forms, references, enumerations, cycles and wrapping.

use serde_json::{Value, json};

use super::{Schemas, View, old, wrapped};

fn schemas() -> Value {
    json!({
        "io.k8s.Thing": {
            "description": "A thing.", "type": "object", "required": ["name"],
            "properties": {
                "name": {"type": "string", "description": "Its name.", "default": ""},
                "mode": {"type": "string", "enum": ["", "a", "b", "c", "d"]},
                "parts": {"type": "array", "description": "What it has.", "items": {"allOf": [{"$ref": "#/components/schemas/io.k8s.Part"}], "default": {}}},
                "port": {"$ref": "#/components/schemas/io.k8s.IntOrString"},
                "labels": {"type": "object", "additionalProperties": {"type": "string", "default": ""}},
            },
        },
        "io.k8s.Part": {
            "description": "A part.", "type": "object",
            "properties": {"inner": {"$ref": "#/components/schemas/io.k8s.Part"}, "size": {"type": "integer"}},
        },
        "io.k8s.IntOrString": {"oneOf": [{"type": "integer"}, {"type": "string"}]},
    })
}

fn shown(path: &[&str], recursive: bool) -> Option<String> {
    let all = schemas();
    let schemas = Schemas { all: &all };
    let view = View { schemas: &schemas, recursive };
    let mut out = String::new();
    view.output(&all["io.k8s.Thing"], path, &mut Vec::new(), &mut out).then_some(out)
}

#[test]
fn a_kind_is_shown_with_its_fields() {
    assert_eq!(
        shown(&[], false).unwrap(),
        "DESCRIPTION:\n    A thing.\n    \nFIELDS:\n  labels\t<map[string]string>\n    <no description>\n\n  mode\t<string>\n  enum: \"\", a, b, c, ....\n    <no description>\n\n  name\t<string> -required-\n    Its name.\n\n  parts\t<[]Part>\n    What it has.\n\n  port\t<IntOrString>\n    <no description>\n\n"
    );
}

#[test]
fn a_field_is_shown_with_what_it_refers_to() {
    assert_eq!(
        shown(&["parts"], false).unwrap(),
        "FIELD: parts <[]Part>\n\n\nDESCRIPTION:\n    What it has.\n    A part.\n    \nFIELDS:\n  inner\t<Part>\n    <no description>\n\n  size\t<integer>\n    <no description>\n\n"
    );
    assert_eq!(
        shown(&["mode"], false).unwrap(),
        "FIELD: mode <string>\nENUM:\n    \"\"\n    a\n    b\n    c\n    d\n\nDESCRIPTION:\n    <empty>\n"
    );
    assert!(
        shown(&["parts", "inner", "size"], false)
            .is_some_and(|text| text.starts_with("FIELD: size <integer>"))
    );
    assert_eq!(shown(&["parts", "nope"], false), None);
    assert_eq!(shown(&["nope"], false), None);
}

#[test]
fn all_fields_are_shown_as_deep_as_they_do_not_repeat() {
    let text = shown(&[], true).unwrap();
    let fields = text.split_once("FIELDS:\n").unwrap().1;
    assert_eq!(
        fields,
        "  labels\t<map[string]string>\n  mode\t<string>\n  enum: \"\", a, b, c, ....\n  name\t<string> -required-\n  parts\t<[]Part>\n    inner\t<Part>\n    size\t<integer>\n  port\t<IntOrString>\n"
    );
}

#[test]
fn the_old_form_is_told_apart() {
    let all = schemas();
    let schemas = Schemas { all: &all };
    let of = |path: &[&str], recursive| {
        old::text(&schemas, ("Thing", "k8s.io/v1"), &all["io.k8s.Thing"], path, recursive)
    };
    assert_eq!(
        of(&["parts"], false).unwrap(),
        "KIND:     Thing\nVERSION:  k8s.io/v1\n\nRESOURCE: parts <[]Object>\n\nDESCRIPTION:\n     What it has.\n\n     A part.\n\nFIELDS:\n   inner\t<Object>\n     <no description>\n\n   size\t<integer>\n     <no description>\n\n"
    );
    assert!(
        of(&["name"], false).unwrap().contains("FIELD:    name <string>\n\nDESCRIPTION:\n     Its name.\n")
    );
    assert!(
        of(&[], true)
            .unwrap()
            .contains("   parts\t<[]Object>\n      inner\t<Object>\n      size\t<integer>\n")
    );
    assert!(of(&["parts", "nope"], false).is_err());
}

#[test]
fn long_lines_are_broken_at_spaces_and_breaks_stay() {
    assert_eq!(wrapped("one two three", 7), "one two\nthree");
    assert_eq!(wrapped("one\n\n two", 7), "one\n\n two");
    assert_eq!(wrapped("averylongword x", 5), "averylongword\nx");
}
