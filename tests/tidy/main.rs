//! Rules of the repository as tests: which crate may use which, file headers, file sizes, circles of
//! imports.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod circles;
mod errors;
mod imports;
mod tokens;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is inside the repository").to_path_buf()
}

/// What each crate may use of ours, as docs/ARCHITECTURE.md says; `api` and `supervisor` are leaves open to
/// all.
const ARROWS: &[(&str, &[&str])] = &[
    ("minik8s", &["kubectl", "server", "agent"]),
    ("server", &["apiserver", "scheduler", "controllers", "agent", "ingress", "embedded-store", "client"]),
    ("agent", &["kubelet", "network", "ingress", "client"]),
    ("apiserver", &["cel", "client", "embedded-store"]),
    ("scheduler", &["client"]),
    ("controllers", &["client"]),
    ("kubelet", &["client"]),
    ("network", &["client"]),
    ("ingress", &["client"]),
    ("kubectl", &["client"]),
    ("cel", &[]),
    ("client", &[]),
    ("api", &[]),
    ("supervisor", &[]),
    ("embedded-store", &[]),
];

fn own_crates() -> BTreeMap<&'static str, PathBuf> {
    let place = |name: &&'static str| match *name {
        "minik8s" => root(),
        "embedded-store" => root().join("embedded-store"),
        name => root().join("src").join(name),
    };
    ARROWS.iter().map(|(name, _)| (*name, place(name))).collect()
}

/// The names under `[dependencies]` and `[build-dependencies]` of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        let line = line.trim();
        if line.starts_with('[') {
            inside = line == "[dependencies]" || line == "[build-dependencies]";
        } else if inside && let Some(end) = line.find(['.', '=', ' ']) {
            names.push(line[..end].to_string());
        }
    }
    names
}

#[test]
fn crates_use_only_what_the_architecture_allows() {
    let crates = own_crates();
    let mut wrong = Vec::new();
    for (name, allowed) in ARROWS {
        let manifest = fs::read_to_string(crates[name].join("Cargo.toml")).unwrap();
        for dependency in dependencies(&manifest) {
            let ours = crates.contains_key(dependency.as_str());
            let leaf = ["api", "supervisor"].contains(&dependency.as_str())
                && !["api", "supervisor", "embedded-store"].contains(name);
            if ours && !leaf && !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{name} uses {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that docs/ARCHITECTURE.md does not have: {wrong:?}");
}

#[test]
fn the_check_of_arrows_sees_dependencies() {
    let manifest = fs::read_to_string(root().join("src/agent/Cargo.toml")).unwrap();
    assert!(dependencies(&manifest).contains(&"kubelet".to_string()));
}

fn files_ending_in(ending: &str, folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files_ending_in(ending, &path, into);
        } else if name.ends_with(ending) {
            into.push(path);
        }
    }
}

fn all_rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for top in ["src", "embedded-store", "tests"] {
        files_ending_in(".rs", &root().join(top), &mut files);
    }
    files
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<_> = all_rust_files()
        .into_iter()
        .filter(|file| !fs::read_to_string(file).unwrap().starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "files without a //! header: {silent:?}");
}

/// Files above the limit, and why.
const LONG_FILES: &[(&str, &str)] = &[];

const MOST_LINES: usize = 500;

#[test]
fn no_file_is_long_without_a_reason() {
    let root = root();
    let mut long = Vec::new();
    for file in all_rust_files() {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        let name = file.strip_prefix(&root).unwrap_or(&file).display().to_string();
        if lines > MOST_LINES && !LONG_FILES.iter().any(|(allowed, _)| *allowed == name) {
            long.push(format!("{name}: {lines}"));
        }
    }
    assert!(long.is_empty(), "files of more than {MOST_LINES} lines: {long:?}");
}

/// What `.rustfmt.toml` allows code; rustfmt does not break comments.
const MOST_COLUMNS: usize = 110;

#[test]
fn comments_and_documents_are_not_wider_than_code() {
    let mut files = all_rust_files();
    files.push(root().join("README.md"));
    files_ending_in(".md", &root().join("docs"), &mut files);
    let mut wide = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let document = file.extension().is_some_and(|it| it == "md");
        for (at, line) in text.lines().enumerate() {
            // A row of a table cannot be broken.
            let checked = if document { !line.starts_with('|') } else { line.trim_start().starts_with("//") };
            if checked && line.chars().count() > MOST_COLUMNS {
                wide.push(format!("{}:{}", file.display(), at + 1));
            }
        }
    }
    assert!(wide.is_empty(), "comments of more than {MOST_COLUMNS} columns: {wide:#?}");
}
