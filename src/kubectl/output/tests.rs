//! Golden tests of printed objects.

use serde_json::{Value, json};

use super::{OutputArgs, yaml};

fn printed(output: &str, object: &Value) -> String {
    let args = OutputArgs { output: Some(output.to_string()), ..OutputArgs::default() };
    match args.format().and_then(|format| format.text(object, false, false)) {
        Ok(text) => text,
        Err(error) => error.to_string(),
    }
}

fn object() -> Value {
    json!({
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"name": "c", "managedFields": [{"manager": "x"}], "labels": {}},
        "data": {
            "plain": "a b", "yes": "yes", "number": "10", "float": "1e3", "octal": "0644", "empty": "", "colon": "a: b", "hash": "a #b",
            "url": "http://x:80/?a=b", "dash": "- x", "lines": "one\ntwo\n", "open": "one\n  two", "more": "x\n\n", "trail": "a \nb",
            "date": "2026-01-01", "time": "2026-01-01T00:00:00Z", "quote": "'q'", "star": "*", "at": "@x", "bracket": "{a}", "tab": "a\tb",
            "null": "null", "tilde": "~", "minutes": "1:30", "ip": "10.0.0.1", "version": "1.2.3", "hex": "0x1f", "percent": "50%", "end": "a:"
        },
        "list": [1, true, null, "x", ["y"], [], {"a": 1, "b": [{"c": 2}]}, {}],
        "html": "<a>&"
    })
}

#[test]
fn yaml_is_kubectls() {
    let expected = r#"apiVersion: v1
data:
  at: '@x'
  bracket: '{a}'
  colon: 'a: b'
  dash: '- x'
  date: "2026-01-01"
  empty: ""
  end: 'a:'
  float: "1e3"
  hash: 'a #b'
  hex: "0x1f"
  ip: 10.0.0.1
  lines: |
    one
    two
  minutes: "1:30"
  more: |+
    x

  "null": "null"
  number: "10"
  octal: "0644"
  open: |-
    one
      two
  percent: 50%
  plain: a b
  quote: '''q'''
  star: '*'
  tab: "a\tb"
  tilde: "~"
  time: "2026-01-01T00:00:00Z"
  trail: "a \nb"
  url: http://x:80/?a=b
  version: 1.2.3
  "yes": "yes"
html: <a>&
kind: ConfigMap
list:
- 1
- true
- null
- x
- - "y"
- []
- a: 1
  b:
  - c: 2
- {}
metadata:
  labels: {}
  name: c
"#;
    assert_eq!(printed("yaml", &object()), expected);
    let back: Value = api::schema::decode_yaml(expected.as_bytes()).unwrap().0;
    let mut without = object();
    without["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(back, without, "what is written reads back the same");
    assert_eq!(yaml::to_yaml(&json!([])), "[]\n");
}

#[test]
fn json_names_columns_and_paths() {
    let small = json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "d", "labels": {"a": "b"}}, "x": "<a>"});
    assert_eq!(
        printed("json", &small),
        "{\n    \"apiVersion\": \"apps/v1\",\n    \"kind\": \"Deployment\",\n    \"metadata\": {\n        \"labels\": {\n            \"a\": \"b\"\n        },\n        \"name\": \"d\"\n    },\n    \"x\": \"\\u003ca\\u003e\"\n}\n"
    );
    assert_eq!(printed("name", &small), "deployment.apps/d\n");
    assert_eq!(printed("jsonpath={.metadata.name}{\"\\n\"}", &small), "d\n");
    let list = json!({"kind": "List", "items": [small, {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}}]});
    assert_eq!(printed("name", &list), "deployment.apps/d\npod/p\n");
    assert_eq!(
        printed("custom-columns=NAME:.metadata.name,LABELS:.metadata.labels", &list),
        "NAME   LABELS\nd      map[a:b]\np      <none>\n"
    );
    assert_eq!(printed("jsonpath-as-json={.items[*].metadata.name}", &list), "[\n    \"d\",\n    \"p\"\n]\n");
    assert!(printed("bogus", &list).starts_with("error: unable to match a printer suitable for the output format \"bogus\", allowed formats are: custom-columns,"));
    assert_eq!(
        printed("custom-columns=NAME", &list),
        "error: unexpected custom-columns spec: NAME, expected <header>:<json-path-expr>"
    );
}

#[test]
fn texts_of_lines_are_blocks_where_libyaml_makes_them_so() {
    for (text, expected) in [
        ("\n a", "|2-\n\n     a"),
        ("  a\nb", "|2-\n      a\n    b"),
        ("\n", "|2+\n"),
        ("\n\na", "|2-\n\n\n    a"),
        ("a\n b", "|-\n    a\n     b"),
        ("a \nb", r#""a \nb""#),
        ("a\n\tb", r#""a\n\tb""#),
        (" \n", r#"" \n""#),
        ("\u{1f600}", r#""\U0001F600""#),
        ("a\nb\u{1f600}", r#""a\nb\U0001F600""#),
        ("é\u{2028}\t", r#""é\L\t""#),
        ("1e400", "1e400"),
    ] {
        let printed = yaml::to_yaml(&json!({"d": {"t": text}}));
        assert_eq!(printed, format!("d:\n  t: {expected}\n"), "{text:?}");
    }
}

#[test]
fn long_text_is_folded_at_spaces_as_libyaml_does() {
    let words = "word ".repeat(30);
    let object = json!({"a": {"plain": words.trim(), "quoted": format!("{}: x", words.trim()), "list": [words.trim()], "one": "x".repeat(200)}});
    let text = yaml::to_yaml(&object);
    let expected = format!(
        "a:\n  list:\n  - {}\n    {}\n  one: {}\n  plain: {}\n    {}\n  quoted: '{}\n    {}: x'\n",
        "word ".repeat(16).trim(),
        "word ".repeat(14).trim(),
        "x".repeat(200),
        "word ".repeat(15).trim(),
        "word ".repeat(15).trim(),
        "word ".repeat(15).trim(),
        "word ".repeat(15).trim()
    );
    assert_eq!(text, expected);
    let back: Value = api::schema::decode_yaml(text.as_bytes()).unwrap().0;
    assert_eq!(back, object);
}
