//! Flags that would delete what a dry run must leave.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ReplaceArgs,
}

fn refused(flags: &[&str]) -> Option<String> {
    let line = Line::try_parse_from(["replace", "-f", "x"].iter().chain(flags)).expect("flags");
    check(&line.args).err().map(|error| error.to_string())
}

#[test]
fn a_dry_run_never_deletes() {
    for mode in ["--dry-run", "--dry-run=client", "--dry-run=server"] {
        let said = refused(&["--force", mode]);
        assert_eq!(said.as_deref(), Some("error: --dry-run can not be used when --force is set"), "{mode}");
        assert_eq!(refused(&[mode]), None);
    }
    assert_eq!(refused(&["--force"]), None);
    assert_eq!(
        refused(&["--grace-period=1"]).as_deref(),
        Some("error: --grace-period must have --force specified")
    );
}
