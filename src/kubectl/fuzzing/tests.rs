//! The seeds of the fuzz targets.

use std::path::Path;

/// What the fuzzer keeps of its way through the code, and what it once broke.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/seeds").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let seeds: Vec<_> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(seeds.len() > 10, "{} has seeds", folder.display());
    seeds
}

#[test]
fn seeds_of_the_fuzz_targets_pass() {
    seeds("template").iter().for_each(|seed| super::template(seed));
    seeds("jsonpath").iter().for_each(|seed| super::jsonpath(seed));
    seeds("kubeconfig").iter().for_each(|seed| super::kubeconfig(seed));
    seeds("kustomization").iter().for_each(|seed| super::kustomization(seed));
}
