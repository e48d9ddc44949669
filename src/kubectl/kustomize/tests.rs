//! Kustomizations with what kubectl 1.36 makes of them, and kustomizations that make no sense.
//!
//! The kustomizations of `cases.jsonl` are those of kustomize's own tests (`api/krusty`, Apache-2.0) and, as
//! `own`, some more; what stands beside them was printed by kubectl 1.36.3. `ROOT` is the directory that they
//! are in, and `PARENT` the one above it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;

use super::{Options, build};
use crate::output::yaml::to_yaml;

#[derive(Clone, Debug, Deserialize)]
struct Case {
    name: String,
    dir: String,
    files: BTreeMap<String, String>,
    stdout: String,
    stderr: String,
}

fn cases() -> Vec<Case> {
    include_str!("cases.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

thread_local! {
    static WARNINGS: RefCell<String> = const { RefCell::new(String::new()) };
}

fn warn(text: &str) {
    WARNINGS.with_borrow_mut(|warnings| warnings.push_str(&format!("{text}\n")));
}

/// Output and errors of a build, as the command prints them.
fn run(root: &Path, dir: &str) -> (String, String) {
    WARNINGS.with_borrow_mut(String::clear);
    let built = build(&root.join(dir).to_string_lossy(), &Options::default(), warn);
    let mut told = WARNINGS.with_borrow(Clone::clone);
    match built {
        Ok(objects) => {
            let documents: Vec<String> = objects.iter().map(|object| to_yaml(&object.tree)).collect();
            (documents.join("---\n"), told)
        }
        Err(error) => {
            told.push_str(&format!("error: {error}"));
            (String::new(), told)
        }
    }
}

fn write(root: &Path, files: &BTreeMap<String, String>) {
    for (path, text) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// Without the time that stands before a line of Go's log.
fn untimed(text: &str) -> String {
    let is_time = |line: &str| line.len() > 20 && line.starts_with("20") && line.as_bytes()[4] == b'/';
    let lines = text.trim_end().lines();
    lines.map(|line| if is_time(line) { &line[20..] } else { line }).collect::<Vec<_>>().join("\n")
}

/// Cases whose output differs, and why. All of them are errors here as there; only their texts differ.
const DIFFERENT: [(&str, &str); 4] = [
    ("basic_io.BasicIO3812", "go-yaml names the line where the map around the fault begins"),
    ("duplicatekeys.DuplicateKeys", "a node does not know the line that it was read from"),
    ("generatormergeandreplace.ConfigMapGeneratingIntoSameNamespace", "Go prints an address in memory"),
    ("generatormergeandreplace.SecretGeneratingIntoSameNamespace", "Go prints an address in memory"),
];

#[test]
fn published_kustomizations_are_built_as_kubectl_builds_them() {
    let mut faults = Vec::new();
    let all = cases();
    for case in &all {
        let parent = tempfile::tempdir().unwrap();
        let parent = parent.path().canonicalize().unwrap();
        let real = parent.join("root");
        write(&real, &case.files);
        let (stdout, stderr) = run(&real, &case.dir);
        let stderr =
            stderr.replace(&*real.to_string_lossy(), "ROOT").replace(&*parent.to_string_lossy(), "PARENT");
        let differs = stdout != case.stdout || untimed(&stderr) != untimed(&case.stderr);
        let may_differ = DIFFERENT.iter().any(|(name, _)| *name == case.name);
        if differs && may_differ {
            assert!(stderr.starts_with("error: ") && case.stderr.starts_with("error: "), "{}", case.name);
        } else if may_differ {
            faults.push(format!("== {} is equal now: it is to leave the list\n", case.name));
        } else if differs {
            faults.push(format!(
                "== {}\n-- wanted:\n{}{}\n-- got:\n{stdout}{stderr}\n",
                case.name, case.stdout, case.stderr
            ));
        }
    }
    let names: Vec<&str> = faults.iter().filter_map(|fault| fault.lines().next()).collect();
    assert!(
        faults.is_empty(),
        "{} of {} differ:\n{}\n{}",
        faults.len(),
        all.len(),
        names.join("\n"),
        faults.concat()
    );
}

/// A change of one line of one file.
#[derive(Clone, Debug)]
struct Damage {
    file: prop::sample::Index,
    line: prop::sample::Index,
    how: u8,
    text: String,
}

fn damage() -> impl Strategy<Value = Damage> {
    let words = prop::sample::select(vec![
        "- ",
        "{}",
        "[]",
        "null",
        "*a",
        "&a [*a]",
        "x: y",
        "- path: /",
        "  - target: {name: '('}",
        "replacements: [{source: {kind: X}, targets: [{select: {}, fieldPaths: ['*']}]}]",
        "  $patch: replace",
        "kind: List",
        "\u{0}",
        "labels: [{pairs: {a: b}, includeSelectors: true}]",
        "spec:",
        "metadata: 3",
    ]);
    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_u8..5, words)
        .prop_map(|(file, line, how, text)| Damage { file, line, how, text: text.to_string() })
}

fn damaged(files: &BTreeMap<String, String>, damages: &[Damage]) -> BTreeMap<String, String> {
    let mut files = files.clone();
    for damage in damages {
        let name = damage.file.get(&files.keys().cloned().collect::<Vec<_>>()).clone();
        let mut lines: Vec<String> = files[&name].lines().map(str::to_string).collect();
        lines.push(String::new());
        let at = damage.line.index(lines.len());
        match damage.how {
            0 => lines[at].clone_from(&damage.text),
            1 => {
                lines.remove(at);
            }
            2 => lines.insert(at, damage.text.clone()),
            3 => {
                let indent = lines[at].len() - lines[at].trim_start().len();
                lines[at] = format!("{}{}", &lines[at][..indent], damage.text);
            }
            _ => {
                let value = lines[at].split(": ").next().unwrap_or_default().to_string();
                lines[at] = format!("{value}: {}", damage.text);
            }
        }
        files.insert(name, lines.join("\n"));
    }
    files
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn damaged_kustomizations_do_no_harm(
        case in any::<prop::sample::Index>(),
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let all = cases();
        let case = case.get(&all);
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &damaged(&case.files, &damages));
        // It builds or says why not; a panic fails the test.
        run(root.path(), &case.dir);
    }
}

/// What a build says instead of printing.
#[derive(Debug)]
struct Told(String);

impl std::ops::Deref for Told {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

fn built(files: &[(&str, &str)]) -> Result<String, Told> {
    let root = tempfile::tempdir().unwrap();
    let owned = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
    write(root.path(), &owned);
    let real = root.path().canonicalize().unwrap();
    match run(&real, "top") {
        (stdout, stderr) if stderr.is_empty() => Ok(stdout),
        (_, stderr) => Err(Told(stderr.replace(&real.to_string_lossy().into_owned(), "ROOT"))),
    }
}

const CONFIG_MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";

#[test]
fn files_outside_of_the_directory_are_refused() {
    let error =
        built(&[("top/kustomization.yaml", "resources: [../secret.yaml]\n"), ("secret.yaml", CONFIG_MAP)]);
    assert_eq!(
        &*error.unwrap_err(),
        "error: accumulating resources: accumulation err='accumulating resources from '../secret.yaml': security; file 'ROOT/secret.yaml' is not in or below 'ROOT/top'': must build at directory: 'ROOT/secret.yaml': file is not directory"
    );
}

#[test]
fn links_do_not_lead_outside() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("top")).unwrap();
    std::fs::write(root.path().join("secret.yaml"), CONFIG_MAP).unwrap();
    std::fs::write(root.path().join("top/kustomization.yaml"), "resources: [a.yaml]\n").unwrap();
    std::os::unix::fs::symlink("../secret.yaml", root.path().join("top/a.yaml")).unwrap();
    let (_, told) = run(root.path(), "top");
    assert!(told.contains("is not in or below"), "{told}");
    let options = Options { unrestricted: true, ..Options::default() };
    let built = build(&root.path().join("top").to_string_lossy(), &options, warn).unwrap();
    assert_eq!(built.len(), 1);
}

#[test]
fn directories_that_name_each_other_are_found() {
    let error = built(&[
        ("top/kustomization.yaml", "resources: [../other]\n"),
        ("other/kustomization.yaml", "resources: [../top]\n"),
    ]);
    let error = error.unwrap_err();
    assert!(
        error.contains("cycle detected: candidate root 'ROOT/top' contains visited root 'ROOT/top'"),
        "{error:?}"
    );
}

#[test]
fn what_would_be_fetched_or_run_is_refused_by_name() {
    for remote in ["https://example.com/a.yaml", "github.com/some/base?ref=v1", "git@example.com:a/b"] {
        let error = built(&[("top/kustomization.yaml", &format!("resources: ['{remote}']\n"))]).unwrap_err();
        assert!(error.contains("remote files and bases are not offered"), "{error:?}");
    }
    let error = built(&[("top/kustomization.yaml", "helmCharts: [{name: a}]\n")]).unwrap_err();
    assert_eq!(
        &*error,
        "error: trouble configuring builtin HelmChartInflationGenerator with config: `\nname: a\n`: must specify --enable-helm"
    );
    let plugin = "generators: [\"apiVersion: a/v1\\nkind: X\\nmetadata: {name: x}\"]\n";
    let error = built(&[("top/kustomization.yaml", plugin)]).unwrap_err();
    assert!(error.ends_with("external plugins disabled; unable to load external plugin 'X'"), "{error:?}");
}

#[test]
fn aliases_are_bounded() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    let bomb = format!("{CONFIG_MAP}{text}");
    let error = built(&[("top/kustomization.yaml", "resources: [a.yaml]\n"), ("top/a.yaml", &bomb)]);
    assert!(error.unwrap_err().contains("excessive aliasing"));
}

#[test]
fn nesting_is_bounded() {
    let deep = format!("{CONFIG_MAP}data: {}{}\n", "[".repeat(5000), "]".repeat(5000));
    let error = built(&[("top/kustomization.yaml", "resources: [a.yaml]\n"), ("top/a.yaml", &deep)]);
    assert!(error.unwrap_err().contains("MalformedYAMLError"));
}

/// A value that is copied into two of its members doubles each time.
#[test]
fn replacements_do_not_grow_without_end() {
    let one = "- source: {kind: ConfigMap, fieldPath: data}\n  targets: [{select: {kind: ConfigMap}, fieldPaths: [data.x, data.y], options: {create: true}}]\n";
    let text = format!("resources: [a.yaml]\nreplacements:\n{}", one.repeat(60));
    let object = format!("{CONFIG_MAP}data: {{a: {{b: c, d: e}}, x: {{}}, y: {{}}}}\n");
    let error = built(&[("top/kustomization.yaml", &text), ("top/a.yaml", &object)]);
    assert!(error.unwrap_err().contains("a replacement makes an object of more than"), "refused");
}

/// What Go's decoder says of a kustomization that does not fit, as kubectl 1.36 prints it.
#[test]
fn misfits_are_told_in_the_words_of_go() {
    let cases = [
        ("foo: 1", "json: unknown field \"foo\""),
        (
            "resources: a",
            "json: cannot unmarshal string into Go struct field Kustomization.resources of type []string",
        ),
        (
            "configMapGenerator: [{name: a, literals: x}]",
            "json: cannot unmarshal string into Go struct field ConfigMapArgs.configMapGenerator.GeneratorArgs.KvPairSources.literals of type []string",
        ),
        (
            "configMapGenerator: [{name: a, options: {immutable: 3}}]",
            "json: cannot unmarshal number into Go struct field GeneratorOptions.configMapGenerator.GeneratorArgs.options.immutable of type bool",
        ),
        (
            "patches: [{target: {kind: 1}}]",
            "json: cannot unmarshal number into Go struct field Selector.patches.target.ResId.Gvk.kind of type string",
        ),
        (
            "labels: [{pairs: {a: 1}}]",
            "json: cannot unmarshal number into Go struct field Label.labels.pairs of type string",
        ),
    ];
    for (text, wanted) in cases {
        let error = built(&[("top/kustomization.yaml", text)]).unwrap_err();
        assert_eq!(*error, *format!("error: invalid Kustomization: {wanted}"));
    }
}

#[test]
fn numbers_that_json_does_not_have_are_refused() {
    let object = |data: &str| {
        built(&[
            ("top/kustomization.yaml", "resources: [a.yaml]\n"),
            ("top/a.yaml", &format!("{CONFIG_MAP}data: {{a: {data}}}\n")),
        ])
    };
    assert!(object(".inf").unwrap_err().contains("json: unsupported value: +Inf"));
    assert!(object(".nan").unwrap_err().contains("json: unsupported value: NaN"));
    assert!(object("-1e400").unwrap().contains("  a: -1e400\n"), "too large for a float: a text");
}

#[test]
fn scalars_have_the_types_of_go_yaml() {
    let data = "data: {oct: 0644, o2: 0o644, f: 1.0, f2: 1e3, f3: 6.02e23, big: 12345678901234567890, y: yes, t: True, hex: 0x1F, nl: ~, u: 1_000, b: !!binary aGVsbG8=, d: 2020-01-01, f4: 1234567.5}\n";
    let printed = built(&[
        ("top/kustomization.yaml", "resources: [a.yaml]\n"),
        ("top/a.yaml", &format!("{CONFIG_MAP}{data}")),
    ]);
    let wanted = "apiVersion: v1\ndata:\n  b: hello\n  big: 12345678901234567890\n  d: \"2020-01-01T00:00:00Z\"\n  f: 1\n  f2: 1000\n  f3: 6.02e+23\n  f4: 1.2345675e+06\n  hex: 31\n  nl: null\n  o2: 420\n  oct: 420\n  t: true\n  u: 1000\n  \"y\": \"yes\"\nkind: ConfigMap\nmetadata:\n  name: a\n";
    assert_eq!(printed.unwrap(), wanted);
}
