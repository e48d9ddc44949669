//! Tells the program which commit it is built from, and when that was made; nothing where there is no git.
//!
//! The commit's time rather than the clock's: the same sources build the same program. Only this crate is
//! compiled again after a commit.

use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    // A clone that belongs to another user than the one who builds is read all the same.
    let output = Command::new("git")
        .env("TZ", "UTC")
        .args(["-c", "safe.directory=*"])
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_string())
}

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    let mut watched = vec!["HEAD".to_string(), "packed-refs".to_string()];
    watched.extend(git(&["symbolic-ref", "-q", "HEAD"]));
    for name in watched {
        if let Some(path) =
            git(&["rev-parse", "--git-path", &name]).filter(|path| std::fs::exists(path).is_ok_and(|is| is))
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let commit = git(&["rev-parse", "HEAD"]).unwrap_or_default();
    let date =
        git(&["log", "-1", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%SZ"]).unwrap_or_default();
    println!("cargo::rustc-env=MINIK8S_COMMIT={commit}");
    println!("cargo::rustc-env=MINIK8S_COMMIT_DATE={date}");
}
