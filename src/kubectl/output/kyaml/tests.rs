//! Tests of KYAML: its brackets, keys and texts, and that YAML reads back what was written.

use serde_json::json;

use super::{needs_quotes, to_kyaml};

#[test]
fn brackets_quotes_and_indentation_are_upstreams() {
    let value = json!({
        "kind": "List", "empty": {}, "none": [], "yes": true, "number": 1.5, "null": null,
        "items": [{"a": "x", "b/c.d": ["one", 2]}, {"e": "tab\t\"q\""}],
    });
    assert_eq!(
        to_kyaml(&value),
        "---\n{\n  empty: {},\n  items: [{\n    a: \"x\",\n    b/c.d: [\n      \"one\",\n      2,\n    ],\n  }, {\n    e: \"tab\t\\\"q\\\"\",\n  }],\n  kind: \"List\",\n  none: [],\n  \"null\": null,\n  number: 1.5,\n  \"yes\": true,\n}\n"
    );
}

#[test]
fn texts_of_several_lines_are_folded() {
    let value = json!({"a": "x\n  y\nz", "b": "x\n"});
    assert_eq!(
        to_kyaml(&value),
        "---\n{\n  a: \"\\\n     x\\n\\\n    \\  y\\n\\\n     z\\\n    \",\n  b: \"\\\n     x\\n\\\n    \",\n}\n"
    );
}

#[test]
fn what_is_written_is_read_back() {
    let value = json!({
        "a": "x\n  y\n\n z \n", "on": "no", "1": "2", "2001-01-02": "", "k": "\u{7f}\u{85}\u{a0}\\n\r\u{0}é…",
        "list": [[1, [2]], [], [{"a": [null]}]], "long": "a ".repeat(100),
    });
    assert_eq!(crate::manifest::parse_yaml(&to_kyaml(&value)).unwrap(), value);
}

#[test]
fn keys_are_quoted_only_where_they_could_be_something_else() {
    for key in ["", "yes", "NO", "1", "1_0", "0x1f", "-a", "a-", "a b", "1e3", "2001-12-14", "~", "a:b"] {
        assert!(needs_quotes(key), "{key}");
    }
    for key in ["a", "app.kubernetes.io/name", "a_b", "a-b", "é", "node1"] {
        assert!(!needs_quotes(key), "{key}");
    }
}
