//! Running programs and waiting for things to become true.

use std::fmt::{self, Display};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What a program printed and how it ended.
#[derive(Clone, Debug)]
pub struct CommandOutcome {
    pub command: String,
    pub success: bool,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl fmt::Display for CommandOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\nstatus {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}

impl CommandOutcome {
    /// The output, if the program succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.success, "failed: {self}");
        self.stdout
    }

    /// What it said on standard error, if it failed.
    #[track_caller]
    pub fn failed(self) -> String {
        assert!(!self.success, "should have failed: {self}");
        self.stderr
    }

    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.clone().ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON ({error}): {self}"))
    }
}

/// Runs a program to its end, with `input` on its standard input.
pub fn run(command: &mut Command, input: &str) -> CommandOutcome {
    use std::io::Write;
    let text = format!("{command:?}");
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("{text} cannot be run: {error}"));
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input is free not to.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("{text}: {error}"));
    CommandOutcome {
        command: text,
        success: output.status.success(),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits until `attempt` gives a value; panics with its last complaint if it does not within `limit`.
#[track_caller]
pub fn eventually<T, E: Display>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> T {
    let began = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(why) if began.elapsed() > limit => panic!("{what}: not within {limit:?}: {why}"),
            Err(_) => pause(),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that waits between two looks at another process"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}
