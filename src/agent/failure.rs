//! Why the last process on a data directory could not go on: kept beside the data, so that whoever looks
//! later (`minik8s status`, the installer) need not search logs for it.

use std::fs;
use std::path::PathBuf;

use crate::status::report::Failure;
use crate::{Instance, Problem, files};

fn file(instance: &Instance) -> PathBuf {
    instance.data_dir().join("last-failure")
}

/// Keeps what a process ends with. For the process that holds the data directory only.
pub fn note(instance: &Instance, outcome: &Result<(), Problem>) {
    let Err(problem) = outcome else { return };
    let at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    if let Err(error) = files::write(&file(instance), format!("{at}\n{problem}\n").as_bytes(), 0o600) {
        tracing::debug!(%error, "the failure is not kept");
    }
}

/// A new attempt has begun.
pub fn forget(instance: &Instance) {
    let _ = fs::remove_file(file(instance));
}

/// What was kept.
pub(crate) fn last(instance: &Instance) -> Option<Failure> {
    let text = fs::read_to_string(file(instance)).ok()?;
    let (at, why) = text.split_once('\n')?;
    Some(Failure { at: at.to_string(), why: why.trim().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_kept_until_the_next_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let instance = Instance::of(folder.path()).unwrap();
        note(&instance, &Ok(()));
        assert_eq!(last(&instance), None);
        note(&instance, &Err(Problem::new("join", "the node exists", "delete it")));
        let failure = last(&instance).unwrap();
        assert_eq!(failure.why, "cannot join: the node exists; delete it");
        assert!(failure.at.starts_with("20") && failure.at.ends_with('Z'), "{failure:?}");
        forget(&instance);
        assert_eq!(last(&instance), None);
    }
}
