//! Tests of Go templates as they stand in Kubernetes' documents and test scripts.

use serde_json::json;

use super::Template;

fn rendered(template: &str) -> String {
    let object = json!({
        "kind": "List", "n": 3, "big": 1_073_741_824, "half": 0.5, "no": null,
        "items": [
            {"metadata": {"name": "a", "labels": {"x.io/y": "z"}}, "status": {"phase": "Running"}, "ports": [80, 443]},
            {"metadata": {"name": "b"}, "status": {"phase": "Pending"}}
        ],
        "data": {"k": "aGk="}
    });
    match Template::parse(template).and_then(|template| template.render(&object)) {
        Ok(text) => text,
        Err(error) => error.to_string(),
    }
}

#[test]
fn values_and_actions() {
    for (template, expected) in [
        ("{{.kind}} {{ .n }} {{.big}} {{.half}}", "List 3 1.073741824e+09 0.5"),
        ("{{.missing}}|{{.missing.deep}}|{{.no}}", "<no value>|<no value>|<no value>"),
        ("{{range .items}}{{.metadata.name}} {{end}}", "a b "),
        ("{{range.items}}{{.metadata.name}} {{end}}", "a b "),
        ("{{range $x := .items}}{{with$x.status}}{{.phase}} {{end}}{{end}}", "Running Pending "),
        ("{{if.missing}}x{{else if(eq .kind \"List\")}}y{{end}}", "y"),
        ("{{range $i, $x := .items}}{{$i}}={{$x.metadata.name}}@{{$.kind}};{{end}}", "0=a@List;1=b@List;"),
        ("{{range .none}}x{{else}}empty{{end}}", "empty"),
        ("{{range .items}}{{if eq .status.phase \"Running\"}}+{{else if .x}}?{{else}}-{{end}}{{end}}", "+-"),
        ("{{with .data}}{{.k | base64decode}}{{end}}{{with .none}}x{{else}}none{{end}}", "hinone"),
        (
            "{{index .items 1 \"metadata\" \"name\"}} {{index (index .items 0).metadata.labels \"x.io/y\"}}",
            "b z",
        ),
        ("{{len .items}} {{len .kind}} {{(index .items 0).ports}}", "2 4 [80 443]"),
        ("{{if and .kind (gt .n 2) (not .missing)}}yes{{end}} {{or .missing \"or\"}}", "yes or"),
        (
            "{{printf \"%s-%d-%5s|%-4s|%q|%v%%\" .kind .n \"r\" \"l\" \"q\" true}}",
            "List-3-    r|l   |\"q\"|true%",
        ),
        ("{{$x := 1}}{{range .items}}{{$x = .metadata.name}}{{end}}{{$x}}", "b"),
        ("a {{- \" b \" -}} c{{/* no */}}", "a b c"),
        ("{{range .items}}{{if eq .metadata.name \"b\"}}{{break}}{{end}}{{.metadata.name}}{{end}}", "a"),
        ("{{exists .items 0 \"ports\"}}{{exists .items 1 \"ports\"}}{{\"}}\"}}", "truefalse}}"),
        ("{{.kind | printf \"%s!\" | println}}", "List!\n"),
    ] {
        assert_eq!(rendered(template), expected, "{template}");
    }
}

#[test]
fn templates_define_and_call_others() {
    for (template, expected) in [
        (
            "{{define \"one\"}}<{{.metadata.name}}>{{end}}{{range .items}}{{template \"one\" .}}{{end}}",
            "<a><b>",
        ),
        ("{{template \"x\" .kind}}{{define \"x\"}}{{$}}{{.}}{{end}}", "ListList"),
        ("{{template \"x\"}}{{define \"x\"}}{{.}}{{end}}", "<no value>"),
        ("{{block \"b\" .items}}{{len .}}{{end}}-{{template \"b\" .kind}}", "2-4"),
        ("{{$v := 1}}{{define \"x\"}}{{$v := 2}}{{$v}}{{end}}{{template \"x\"}}{{$v}}", "21"),
        ("{{with .missing}}a{{else with .kind}}{{.}}{{else}}c{{end}}", "List"),
        (
            "{{html \"<a href='x'>&\"}} {{\"it's <b>\" | js}} {{urlquery \"a b&c/d\"}}",
            "&lt;a href=&#39;x&#39;&gt;&amp; it\\'s \\u003Cb\\u003E a+b%26c%2Fd",
        ),
        ("{{\"\\x41\\u00e9\\t|\"}}{{'a'}} {{0x10}} {{1_000}} {{1e2}} {{-3}}", "Aé\t|97 16 1000 100 -3"),
    ] {
        assert_eq!(rendered(template), expected, "{template}");
    }
}

#[test]
fn templates_that_have_no_end_are_refused() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(20_000), close.repeat(20_000));
    for template in [
        deep("{{if .kind}}", "{{end}}"),
        deep("{{with .kind}}{{else with .kind}}", "{{end}}"),
        format!("{{{{{}1{}}}}}", "(".repeat(20_000), ")".repeat(20_000)),
        "{{define \"x\"}}{{template \"x\"}}{{end}}{{template \"x\"}}".to_string(),
        "{{printf \"%99999999999999d\" 1}}{{template \"none\"}}".to_string(),
        "{{if .kind}}{{define \"x\"}}{{end}}{{end}}".to_string(),
        "{{define x}}{{end}}".to_string(),
        "{{block \"x\"}}{{end}}".to_string(),
    ] {
        assert!(rendered(&template).starts_with("error: error "), "{}", &template[..40.min(template.len())]);
    }
}

#[test]
fn mistakes_are_errors() {
    for template in [
        "{{.kind",
        "{{range .items}}",
        "{{end}}",
        "{{foo}}",
        "{{index .items 7}}",
        "{{.kind .n}}",
        "{{lt .kind .n}}",
        "{{$x}}",
    ] {
        assert!(rendered(template).starts_with("error: error "), "{template}: {}", rendered(template));
    }
}
