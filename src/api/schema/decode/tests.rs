//! Bodies are read as upstream reads them, and refused in Go's words.

use serde_json::json;

use super::*;

/// A thread of the usual stack is enough for the deepest body.
#[test]
fn deep_bodies_are_refused_before_the_stack_ends() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let blocks = |depth: usize| (0..depth).map(|at| format!("{}a:\n", " ".repeat(at))).collect::<String>();
    let run = move || {
        let json = |depth: usize| decode_json(nested(depth).as_bytes()).is_ok();
        let flow = |depth: usize| decode_yaml(nested(depth).as_bytes()).is_ok();
        let block = |depth: usize| decode_yaml(blocks(depth).as_bytes()).is_ok();
        assert!(json(MAX_DEPTH) && flow(MAX_YAML_DEPTH) && block(MAX_YAML_DEPTH));
        for more in [2, 3, 10_000] {
            assert!(!json(MAX_DEPTH + more), "{more}");
            assert!(!flow(MAX_YAML_DEPTH + more) && !block(MAX_YAML_DEPTH + more), "{more}");
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn syntax_errors_have_go_words() {
    let said = |body: &str| {
        let text = decode_json(body.as_bytes()).unwrap_err().message().to_string();
        text.trim_start_matches("couldn't get version/kind; json parse error: ").to_string()
    };
    assert_eq!(said("{\"a\":"), "unexpected end of JSON input");
    assert_eq!(said("{\"a\": x}"), "invalid character 'x' looking for beginning of value");
    assert_eq!(said("{a: 1}"), "invalid character 'a' looking for beginning of object key string");
    assert_eq!(said("{\"a\": 1,}"), "invalid character '}' looking for beginning of object key string");
    assert_eq!(said("[1,]"), "invalid character ']' looking for beginning of value");
    assert_eq!(said("{\"a\" 1}"), "invalid character '1' after object key");
    assert_eq!(said("{\"a\": 1 \"b\"}"), "invalid character '\"' after object key:value pair");
    assert_eq!(said("[1\n 2]"), "invalid character '2' after array element");
    assert_eq!(said("{} {"), "invalid character '{' after top-level value");
}

#[test]
fn yaml_reads_as_kubectl_reads_it() {
    let text = "a: yes\nb: 'yes'\nc: 0644\nd: 3.0\ne: 1e3\nf: ~\ng: 2026-11-21\nh: 12:30\ni: 0.5\nj: on\nk: 0x1F\nl: 1_000\nm: y\n";
    let (tree, duplicates) = decode_yaml(text.as_bytes()).unwrap();
    assert_eq!(
        tree,
        json!({"a": true, "b": "yes", "c": 420, "d": 3, "e": 1000, "f": null, "g": "2026-11-21", "h": "12:30", "i": 0.5,
            "j": true, "k": 31, "l": 1000, "m": true})
    );
    assert!(duplicates.is_empty());
}
