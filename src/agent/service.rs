//! `minik8s start | stop | restart`: what the installer has set up, by whatever keeps services on this
//! machine.
//!
//! systemd and openrc know what they run. Where there is neither, the program is started in the background as
//! the installer's files say: its environment, and the flags in it. Starting waits until the node is Ready
//! (the API, where there is none), and says why it is not.

mod wait;

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::{Args, FromArgMatches};
use nix::sys::signal::Signal;

use crate::command::{finish, print_line, run_to_end};
use crate::flags;
use crate::instance::DEFAULT_DATA_DIR;
use crate::process::Process;
use crate::token::{ENVIRONMENT_FILE, unquoted};
use crate::uninstall::service::{installed_data_dir, noted};
use crate::{Instance, Problem, failure, machine};

/// What is to be done with the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Start,
    Stop,
    Restart,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Restart => "restart",
        }
    }

    fn full_name(self) -> &'static str {
        match self {
            Verb::Start => "minik8s start",
            Verb::Stop => "minik8s stop",
            Verb::Restart => "minik8s restart",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Verb::Start => "Start what is installed, and wait until it is ready",
            Verb::Stop => "Stop what runs; its pods stay",
            Verb::Restart => "Stop and start again; pods stay",
        }
    }
}

#[derive(Args, Clone, Debug)]
struct ServiceArgs {
    /// The instance [default: the one that is installed]
    #[arg(long, short = 'd', env = "MINIK8S_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
struct WaitArgs {
    /// How many seconds to wait for the node to be Ready; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    wait: u64,
}

/// The command's description, for parsing, help and completion.
pub fn clap_command(verb: Verb) -> clap::Command {
    let command = ServiceArgs::augment_args(clap::Command::new(verb.name()));
    let command = if verb == Verb::Stop { command } else { WaitArgs::augment_args(command) };
    command.about(verb.about())
}

/// Runs one of the commands.
pub fn main(verb: Verb, arguments: &[OsString]) -> ExitCode {
    let name = verb.full_name();
    let command = clap_command(verb).name(name);
    let outcome = flags::parse(command, arguments, Path::new("/nonexistent")).and_then(|matches| {
        let unusable = |error: clap::Error| Problem::plain(error.to_string());
        let given = ServiceArgs::from_arg_matches(&matches).map_err(unusable)?.data_dir;
        let wait = match verb {
            Verb::Stop => 0,
            _ => WaitArgs::from_arg_matches(&matches).map_err(unusable)?.wait,
        };
        machine::require_root_to(verb.name(), name)?;
        let folder = given.or_else(installed_data_dir).unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR));
        let instance = Instance::of(&folder)?;
        Ok(run_to_end(carry_out(verb, &instance, Duration::from_secs(wait)))?)
    });
    finish(name, outcome)
}

async fn carry_out(verb: Verb, instance: &Instance, patience: Duration) -> Result<(), Problem> {
    let keeper = keeper(instance);
    if verb == Verb::Stop {
        return stop(&keeper, instance).await;
    }
    if verb == Verb::Start
        && let Some(pid) = instance.running_process()
    {
        return print_line(&format!("it runs already (process {pid})"));
    }
    if matches!(keeper, Keeper::Nobody) {
        let why = "it is not installed as a service, so nobody knows its flags";
        return Err(Problem::new(verb.name(), why, format!("run {}", by_hand(instance))));
    }
    if !matches!(keeper, Keeper::Systemd(_) | Keeper::OpenRc(_)) {
        stop(&keeper, instance).await?;
    }
    failure::forget(instance);
    let before = instance.running_process();
    let child = match &keeper {
        // Not to be waited for: a unit of this kind has started when the node is Ready.
        Keeper::Systemd(unit) => manage("systemctl", &["--no-block", verb.name(), unit]).map(|()| None)?,
        Keeper::OpenRc(name) => manage("rc-service", &[name, verb.name()]).map(|()| None)?,
        Keeper::Background(program) => Some(in_background(program)?),
        Keeper::Nobody => None,
    };
    if patience.is_zero() {
        return Ok(());
    }
    wait::until_ready(instance, &keeper, wait::Started { child, before }, patience).await
}

/// Who keeps the process of an instance running.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Keeper {
    /// Name of the unit.
    Systemd(String),
    /// Name of the script.
    OpenRc(String),
    /// Nobody, but the installer has put the program here.
    Background(PathBuf),
    Nobody,
}

fn keeper(instance: &Instance) -> Keeper {
    let runs = |place: &str| Path::new(place).is_dir();
    keeper_of(&noted(instance), runs("/run/systemd/system"), runs("/run/openrc"))
}

/// Decides by the files that the installer has noted, and by what runs.
fn keeper_of(noted: &[PathBuf], systemd: bool, openrc: bool) -> Keeper {
    let in_folder = |folder: &str| noted.iter().find(|path| path.starts_with(folder));
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let program = noted.iter().find(|path| path.ends_with("minik8s") && !path.starts_with("/etc"));
    match (in_folder("/etc/systemd"), in_folder("/etc/init.d"), program) {
        (Some(unit), ..) if systemd => Keeper::Systemd(name(unit)),
        (_, Some(script), _) if openrc => Keeper::OpenRc(name(script)),
        (.., Some(program)) => Keeper::Background(program.clone()),
        _ => Keeper::Nobody,
    }
}

fn by_hand(instance: &Instance) -> String {
    let place = match instance.is_default() {
        true => String::new(),
        false => format!(" --data-dir {}", instance.data_dir().display()),
    };
    let is_agent = !instance.server_dir().is_dir() && instance.agent_dir().is_dir();
    let command = if is_agent { "agent --server URL" } else { "server" };
    format!("'minik8s {command}{place}' with the flags that it had")
}

/// How an instance is started that does not run, for messages.
pub fn start_hint(instance: &Instance) -> String {
    match keeper(instance) {
        Keeper::Nobody => format!("start it with {}", by_hand(instance)),
        _ => "start it with 'minik8s start'".to_string(),
    }
}

/// Where its messages are.
pub(crate) fn log_hint(instance: &Instance) -> String {
    match keeper(instance) {
        Keeper::Systemd(unit) => format!("see 'journalctl -u {unit}'"),
        Keeper::OpenRc(_) | Keeper::Background(_) => format!("see {LOG}"),
        Keeper::Nobody => "see what it has printed".to_string(),
    }
}

fn manage(program: &str, arguments: &[&str]) -> Result<(), Problem> {
    let what = format!("run '{program} {}'", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| Problem::new(&what, error, "check the service manager"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Problem::new(
        what,
        if said.trim().is_empty() { "it fails" } else { &said },
        "check the service manager",
    ))
}

/// Longer than a server with many connections takes.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

async fn stop(keeper: &Keeper, instance: &Instance) -> Result<(), Problem> {
    match keeper {
        Keeper::Systemd(unit) => manage("systemctl", &["stop", unit])?,
        Keeper::OpenRc(name) => manage("rc-service", &[name, "stop"])?,
        Keeper::Background(_) | Keeper::Nobody => {}
    }
    // Nobody keeps it, or it was started beside who does.
    let Some(process) = instance.holder().and_then(Process::open) else { return Ok(()) };
    process.signal(Signal::SIGTERM);
    if tokio::time::timeout(STOP_PATIENCE, process.ended()).await.is_err() {
        let why = format!("process {} goes on after {} s", process.pid, STOP_PATIENCE.as_secs());
        return Err(Problem::new("stop it", why, log_hint(instance)));
    }
    Ok(())
}

/// Where a process of no service manager writes its messages.
const LOG: &str = "/var/log/minik8s.log";

/// Starts the program in a session of its own, as the installer's environment says.
fn in_background(program: &Path) -> Result<std::process::Child, Problem> {
    let text = fs::read_to_string(ENVIRONMENT_FILE).unwrap_or_default();
    let launch = Launch::of(&text);
    let failed = |error: std::io::Error| {
        Problem::new(format!("start {}", program.display()), error, format!("check it and {LOG}"))
    };
    let log = File::options().create(true).append(true).open(LOG).map_err(failed)?;
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command.args(&launch.arguments).envs(launch.variables).current_dir("/").stdin(Stdio::null());
    command.stdout(log.try_clone().map_err(failed)?).stderr(log);
    // SAFETY: setsid is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(std::io::Error::from));
    }
    command.spawn().map_err(failed)
}

fn is_ours(name: &str) -> bool {
    name.starts_with("MINIK8S_") || name.starts_with("INSTALL_MINIK8S_")
}

/// What the program is started with.
#[derive(Debug, PartialEq, Eq)]
struct Launch {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Launch {
    /// By the installer's environment: a server's URL makes it an agent, and further flags are in a variable.
    fn of(environment: &str) -> Self {
        let lines = environment.lines().filter_map(|line| line.split_once('='));
        let (installer, variables): (Vec<_>, Vec<_>) = lines
            .map(|(name, value)| (name.trim().to_string(), unquoted(value)))
            .partition(|(name, _)| name.starts_with("INSTALL_"));
        let is_agent = variables.iter().any(|(name, value)| name == "MINIK8S_URL" && !value.is_empty());
        let mut arguments = vec![if is_agent { "agent" } else { "server" }.to_string()];
        let flags = installer.iter().find(|(name, _)| name == "INSTALL_MINIK8S_EXEC");
        arguments.extend(flags.iter().flat_map(|(_, flags)| flags.split_whitespace().map(str::to_string)));
        Launch { arguments, variables }
    }
}

#[cfg(test)]
mod tests;
