//! Programs of others that tests use as users do: real kubectls and Helm.

use std::fs;
use std::path::{Path, PathBuf};

/// A kubectl that is not ours.
pub(crate) fn real_kubectl() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join("kubectl"))
        .find(|program| program.is_file())?;
    let target = fs::canonicalize(&found).ok()?;
    (target.file_name()? != "minik8s").then_some(found)
}

/// Every kubectl of the machine that is not ours: the one on the path, and `kubectl.VERSION` beside it.
pub fn kubectls() -> Vec<PathBuf> {
    let Some(program) = real_kubectl().and_then(|program| fs::canonicalize(program).ok()) else {
        return Vec::new();
    };
    let beside =
        program.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = beside
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kubectl.")))
        .collect();
    found.push(program);
    found.sort();
    found
}

/// Helm: what `MINIK8S_HELM` says, what `tests/run.sh` has installed, or the one on the path.
///
/// # Panics
///
/// If there is none: `tests/run.sh` brings it.
pub fn helm() -> PathBuf {
    let named = std::env::var_os("MINIK8S_HELM").map(PathBuf::from);
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/helm");
    let on_path = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|folder| folder.join("helm")).find(|one| one.is_file())
    });
    let found = named.into_iter().chain([installed]).chain(on_path).find(|program| program.is_file());
    found.expect("helm is there: tests/run.sh installs it")
}
