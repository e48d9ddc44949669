//! `minik8s status`: what runs on this machine, how it is, and what wants attention.
//!
//! Asks the running process through its admin socket. Where none runs, says so in one line, tells what can be
//! seen on disk, and ends with systemctl's exit codes: 0 running, 3 not running, 4 no such instance; 1 if it
//! cannot be told.

pub mod collect;
mod dns;
pub mod outlook;
pub mod report;
mod text;

pub use text::servers_table;

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, FromArgMatches};

use crate::admin::{AskError, ask};
use crate::command::{finish, print, run_to_end};
use crate::flags;
use crate::instance::DEFAULT_DATA_DIR;
use crate::{Instance, Problem, VERSION, failure, service};
use report::{Report, Request, Snapshot, Snapshots, State};

#[derive(Args, Clone, Debug)]
struct StatusArgs {
    /// The instance to look at
    #[arg(long, short = 'd', env = "MINIK8S_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// text, json or yaml
    #[arg(long, short = 'o', value_name = "FORMAT", default_value = "text", value_parser = ["text", "json", "yaml"])]
    output: String,
    /// All that is known: checks, certificates, tasks
    #[arg(long, short = 'a')]
    all: bool,
}

/// The command's description, for parsing, help and completion.
pub fn clap_command(name: &'static str) -> clap::Command {
    StatusArgs::augment_args(clap::Command::new(name))
        .about("Show what runs on this machine, how it is, and what wants attention")
        .after_help("Exit status: 0 running, 3 not running, 4 no such instance, 1 if it cannot be told.")
}

const NOT_RUNNING: u8 = 3;
const NO_INSTANCE: u8 = 4;

/// Runs `minik8s status`.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let parsed = flags::parse(clap_command("minik8s status"), arguments, Path::new("/nonexistent"));
    let outcome = parsed.and_then(|matches| {
        let arguments =
            StatusArgs::from_arg_matches(&matches).map_err(|error| Problem::plain(error.to_string()))?;
        Ok(run(&arguments)?)
    });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(stop) => finish("minik8s status", Err(stop)),
    }
}

fn run(arguments: &StatusArgs) -> Result<u8, Problem> {
    let instance = Instance::of(&arguments.data_dir)?;
    let place = instance.data_dir().display();
    match fs::metadata(instance.data_dir()) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("minik8s status: there is no instance at {place}; give its --data-dir");
            return Ok(NO_INSTANCE);
        }
        _ => {}
    }
    let mut asked = None;
    run_to_end(async {
        asked = Some(ask_any(&instance).await);
        Ok(())
    })?;
    let report = match asked.unwrap_or(Err(AskError::NotRunning)) {
        Ok(report) => report,
        Err(AskError::NotRunning) => from_disk(&instance),
        Err(error) => {
            let advice = "run this as root, with the version of minik8s that runs there";
            return Err(Problem::new(format!("ask what runs on {place}"), error, advice));
        }
    };
    match (report.state, report.pid) {
        (State::Stopped, _) => {
            let failed = report.last_failure.as_ref();
            let why =
                failed.map_or(String::new(), |failure| format!(" since {}: {}", failure.at, failure.why));
            eprintln!("minik8s status: nothing runs on {place}{why}; {}", service::start_hint(&instance));
        }
        (State::Unresponsive, Some(pid)) => {
            eprintln!(
                "minik8s status: process {pid} holds {place} but does not answer: it is starting or stopping; try again"
            );
        }
        _ => {}
    }
    show(&report, arguments)?;
    Ok(if matches!(report.state, State::Running | State::Degraded) { 0 } else { NOT_RUNNING })
}

/// A process that does not answer for so long is stuck.
const STATUS_TIMEOUT: Duration = Duration::from_secs(15);

/// Asks the server of the data directory, else the agent.
pub(crate) async fn ask_any(instance: &Instance) -> Result<Report, AskError> {
    match ask(&instance.server_dir(), &Request::Status, STATUS_TIMEOUT).await {
        Err(AskError::NotRunning) => ask(&instance.agent_dir(), &Request::Status, STATUS_TIMEOUT).await,
        other => other,
    }
}

fn show(report: &Report, arguments: &StatusArgs) -> Result<(), Problem> {
    let failed = |error: &dyn std::fmt::Display| Problem::new("print the status", error, "try -o text");
    let text = match arguments.output.as_str() {
        "json" => serde_json::to_string_pretty(report).map_err(|error| failed(&error))? + "\n",
        "yaml" => serde_yaml::to_string(report).map_err(|error| failed(&error))?,
        _ if arguments.all => text::all(report),
        _ => text::brief(report),
    };
    print(&text)
}

/// What can be said of an instance that does not answer.
fn from_disk(instance: &Instance) -> Report {
    let role = |name: &str| instance.data_dir().join(name).is_dir().then(|| name.to_string());
    let holder = instance.running_process();
    Report {
        version: VERSION.to_string(),
        state: if holder.is_some() { State::Unresponsive } else { State::Stopped },
        role: role("server").or_else(|| role("agent")),
        data_dir: instance.data_dir().to_path_buf(),
        pid: holder,
        last_failure: failure::last(instance),
        certificates: collect::certificates(instance),
        snapshots: snapshots(&instance.server_dir().join("snapshots")),
        ..Report::default()
    }
}

/// The agent that runs on the data directory, by the server that it belongs to: for commands that need a
/// server.
pub async fn agent_of(instance: &Instance) -> Option<String> {
    let asked = ask::<_, Report>(&instance.agent_dir(), &Request::Status, STATUS_TIMEOUT).await;
    asked
        .ok()
        .filter(|report| report.role.as_deref() == Some("agent"))
        .and_then(|report| Some(report.api?.url))
}

/// The usual folder; another one, and the schedule, are known to the server only.
fn snapshots(folder: &Path) -> Option<Snapshots> {
    let mut found: Vec<(std::time::SystemTime, Snapshot)> = Vec::new();
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(metadata) = entry.metadata() else { continue };
        let (true, Ok(at)) = (name.ends_with(".db"), metadata.modified()) else { continue };
        let time = jiff::Timestamp::try_from(at).map(collect::second).unwrap_or_default();
        found.push((at, Snapshot { name, at: time, size: metadata.len() }));
    }
    found.sort_by_key(|(at, _)| *at);
    let count = found.len();
    let last = found.pop().map(|(_, snapshot)| snapshot);
    Some(Snapshots { folder: folder.to_path_buf(), count, last, ..Snapshots::default() })
}
