//! What bodies and patches take of memory, counted: the worst that is known, at the largest size that is
//! read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use api::fuzzing::{Counting, custom_memory, memory};
use api::kinds;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The largest body.
const LARGEST: usize = 3 * 1024 * 1024;
const JSON: u8 = 0;
const YAML: u8 = 1;
const PROTOBUF: u8 = 2;

fn pick(kind: &str) -> u8 {
    let at = kinds::ALL.iter().position(|row| row.kind == kind && row.version == "v1").unwrap();
    u8::try_from(at).unwrap()
}

fn input(kind: &str, form: u8, body: &[u8], patch: &str) -> Vec<u8> {
    let mut input = vec![pick(kind), form];
    input.extend(body);
    if !patch.is_empty() {
        input.push(0);
        input.extend(patch.as_bytes());
    }
    input
}

/// `before`, then `one` as often as fits into a size with commas between, then `after`.
fn filled(size: usize, before: &str, one: &str, after: &str) -> String {
    let count = (size - before.len() - after.len()) / (one.len() + 1);
    format!("{before}{}{after}", vec![one; count].join(","))
}

fn numbered(size: usize, before: &str, one: impl Fn(usize) -> String, after: &str) -> String {
    let mut body = before.to_string();
    for n in 0.. {
        let next = one(n);
        if body.len() + next.len() + after.len() + 1 > size {
            break;
        }
        if n > 0 {
            body.push(',');
        }
        body.push_str(&next);
    }
    body + after
}

/// Bodies that took, or would take, many times their size.
fn bodies(size: usize) -> Vec<(&'static str, Vec<u8>)> {
    let key = "k".repeat(size / 2);
    let texts: Vec<(&'static str, String)> = vec![
        (
            "ConfigMap",
            numbered(size, &format!(r#"{{"data":{{"{key}":{{"#), |n| format!(r#""a{}":1"#, n % 2000), "}}}"),
        ),
        ("ConfigMap", numbered(size, "{", |n| format!(r#""u{n}":0"#), "}")),
        ("ConfigMap", filled(size, r#"{"x":["#, r#"{"a":0}"#, "]}")),
        ("ConfigMap", filled(size, r#"{"x":["#, "0", "]}")),
        ("ConfigMap", format!(r#"{{"metadata":{{"name":"{}"}}}}"#, r"\u0001".repeat(size / 6 - 10))),
        (
            "ConfigMap",
            numbered(size, r#"{"metadata":{"name":"a","labels":{"#, |n| format!(r#""-{n}":"-""#), "}}}"),
        ),
        (
            "ConfigMap",
            filled(
                size,
                r#"{"metadata":{"name":"a","ownerReferences":["#,
                r#"{"apiVersion":"v1","kind":"A","name":"b","uid":"c","controller":true}"#,
                "]}}",
            ),
        ),
        ("Pod", filled(size, r#"{"spec":{"volumes":["#, "{}", "]}}")),
        ("Pod", filled(size, r#"{"spec":{"containers":["#, "{}", "]}}")),
        ("Pod", filled(size, r#"{"spec":{"containers":["#, r#"{"livenessProbe":{},"ports":[{}]}"#, "]}}")),
        ("Pod", filled(size, r#"{"spec":{"tolerations":["#, "null", "]}}")),
        (
            "Pod",
            filled(
                size,
                r#"{"spec":{"affinity":{"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":["#,
                "{}",
                "]}}}}",
            ),
        ),
        ("Deployment", filled(size, r#"{"spec":{"template":{"spec":{"initContainers":["#, "{}", "]}}}}")),
        ("Node", filled(size, r#"{"status":{"images":["#, "{}", "]}}")),
        ("Secret", format!(r#"{{"data":{{"a":"{}"}}}}"#, "QUJD".repeat(size / 4 - 10))),
    ];
    texts.into_iter().map(|(kind, text)| (kind, text.into_bytes())).collect()
}

/// A pod's envelope around a message of one repeated field of its spec.
fn protobuf_pod(size: usize, one: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| {
        let (mut out, mut left) = (Vec::new(), bytes.len());
        while left >= 0x80 {
            out.push((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        out.push(left as u8);
        [&out, bytes].concat()
    };
    let spec = one.repeat((size - 64) / one.len());
    let pod = [&[0x12], &length(&spec)[..]].concat();
    let kind = b"\x0a\x02v1\x12\x03Pod";
    [b"k8s\0\x0a", &length(kind)[..], b"\x12", &length(&pod)].concat()
}

// One test, so that nothing else allocates meanwhile.
#[test]
fn memory_is_bounded_by_the_size_of_a_body() {
    for size in [2_000, 316 * 1024, LARGEST] {
        for (kind, body) in bodies(size) {
            memory(&input(kind, JSON, &body, ""));
        }
        // Volumes and containers without content, and containers with one flag.
        for one in [&[0x0a, 0][..], &[0x12, 0], &[0x12, 3, 0x80, 0x01, 1]] {
            memory(&input("Pod", PROTOBUF, &protobuf_pod(size, one), ""));
        }
    }
    let mut aliases = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..9 {
        let references = vec![format!("*a{}", n - 1); 10].join(", ");
        aliases.push_str(&format!("a{n}: &a{n} [{references}]\n"));
    }
    memory(&input("ConfigMap", YAML, aliases.as_bytes(), ""));
    let copies: Vec<_> = (0..30)
        .map(|n| json!({"op": "copy", "from": "/metadata/annotations", "path": format!("/metadata/annotations/{n}")}))
        .collect();
    let small = br#"{"metadata":{"annotations":{"a":"b"}}}"#;
    memory(&input("ConfigMap", JSON, small, &json!(copies).to_string()));
    let volumes = filled(300_000, r#"{"spec":{"volumes":["#, r#"{"name":"a"}"#, "]}}");
    memory(&input("Pod", JSON, volumes.as_bytes(), &volumes));
    custom_kinds();
    mutated();
}

/// Schemas of definitions and objects under them: wide, deep, with long names, with many faults.
fn custom_kinds() {
    let object = |properties: &str| format!(r#"{{"type":"object","properties":{{{properties}}}}}"#);
    let key = "k".repeat(20_000);
    let mut deep = r#"{"type":"string"}"#.to_string();
    for _ in 0..50 {
        deep = object(&format!(r#""{key}":{deep}"#));
    }
    let wide = |each: &str| object(&numbered(1_000_000, "", |n| format!(r#""f{n}":{each}"#), ""));
    let fields = object(&format!(
        r#""list":{{"type":"array","items":{}}}"#,
        object(r#""a":{"type":"string","default":"0123456789","pattern":"^(a|b)+$"},"b":{"type":"integer"}"#)
    ));
    let schemas = [
        wide(r#"{"type":"string"}"#),
        wide(r#"{}"#),
        // Long names all the way down, and a fault at each step.
        deep.clone(),
        deep.replace(r#""type":"object","#, ""),
        object(&numbered(
            300_000,
            "",
            |n| format!(r#""f{n}":{{"type":"string","pattern":"x{n}(a{{1000}}){{20}}"}}"#),
            "",
        )),
        object(&format!(
            r#""a":{{"type":"string","enum":[{}]}}"#,
            vec![r#""0123456789""#; 200_000].join(",")
        )),
        fields,
    ];
    let mut nested = "0".to_string();
    for _ in 0..50 {
        nested = format!(r#"{{"{key}":{nested},"{}":0}}"#, "x".repeat(20_000));
    }
    for size in [2_000, 316 * 1024, LARGEST] {
        for body in [
            filled(size, r#"{"list":["#, "{}", "]}"),
            filled(size, r#"{"list":["#, r#"{"a":"c","x":0}"#, "]}"),
            filled(size, r#"{"list":["#, r#"{"a":0}"#, "]}"),
            numbered(size, "{", |n| format!(r#""f{n}":0"#), "}"),
            numbered(size, "{", |n| format!(r#""u{n}":0"#), "}"),
            format!(r#"{{"a":"{}"}}"#, "c".repeat(size - 20)),
        ] {
            schemas.iter().for_each(|schema| custom_memory(schema.as_bytes(), body.as_bytes()));
        }
    }
    custom_memory(deep.as_bytes(), nested.as_bytes());
}

/// Seeds of the fuzz target with parts repeated, taken out and overwritten: the same ones every time.
fn mutated() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/seeds/memory");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut state = 1_u64;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound.max(1)
    };
    for file in files {
        let seed = std::fs::read(file).unwrap();
        for _ in 0..20 {
            let mut input = seed.clone();
            for _ in 0..=below(3) {
                let from = below(input.len());
                let to = from + below(input.len() - from + 1);
                let part = input[from..to].to_vec();
                match below(4) {
                    0 => drop(input.drain(from..to)),
                    1 if from < input.len() => input[from] = below(256) as u8,
                    _ => drop(input.splice(to..to, part.repeat(below(200)))),
                }
            }
            memory(&input);
        }
    }
}
