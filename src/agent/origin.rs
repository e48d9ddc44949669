//! Which sources this program was built from. The program itself says so at its start, for only its own
//! crate is compiled anew when a commit is made.

use std::sync::OnceLock;

use crate::VERSION;

static ORIGIN: OnceLock<(&'static str, &'static str)> = OnceLock::new();

/// The commit and its time (RFC 3339), empty where they are not known.
pub fn set(commit: &'static str, date: &'static str) {
    let _ = ORIGIN.set((commit, date));
}

pub fn commit() -> &'static str {
    ORIGIN.get().map_or("", |(commit, _)| commit)
}

pub fn date() -> &'static str {
    ORIGIN.get().map_or("", |(_, date)| date)
}

/// `v1.36.2+minik8s1 (commit 0123456789ab of 2026-01-01T00:00:00Z)`.
pub fn version() -> String {
    described(commit(), date())
}

fn described(commit: &str, date: &str) -> String {
    match commit.get(..12) {
        Some(short) => format!("{VERSION} (commit {short} of {date})"),
        None => VERSION.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_names_the_commit_where_there_is_one() {
        assert_eq!(described("", ""), VERSION);
        let told = described("0123456789abcdef0123456789abcdef01234567", "2026-01-01T00:00:00Z");
        assert_eq!(told, format!("{VERSION} (commit 0123456789ab of 2026-01-01T00:00:00Z)"));
    }
}
