//! The node's own containerd: configured, started, watched, restarted, adopted by the next start, stopped
//! last.
//!
//! It runs in its own session and outlives a server that is killed; pods belong to its shims and outlive
//! both. The name of its configuration file carries the content's hash, so a process's command line says
//! whether it is ours and up to date: a live one with the same configuration is adopted, one with another is
//! replaced.

mod config;
pub(crate) mod shims;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};
use supervisor::{Latch, OnExit, Stage};
use tokio::net::UnixStream;

pub use config::Settings;

use crate::problem::chain;
use crate::process::{self, Process};
use crate::{Problem, files};

/// A containerd that is being supervised.
#[derive(Clone, Debug)]
pub struct Handle {
    pub socket: PathBuf,
    /// Opens when it has answered for the first time.
    pub ready: Latch,
}

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// One that ran for this long had no trouble starting.
const SETTLED: Duration = Duration::from_secs(60);
const STOP_GRACE: Duration = Duration::from_secs(10);
/// A log larger than this is set aside at the next start.
const LOG_LIMIT: u64 = 10 << 20;

/// Starts or adopts it, in tasks of `stage`, and ends pods that it does not know; these have had addresses of
/// `network`. `program` is containerd.
pub fn start(
    program: PathBuf,
    settings: Settings,
    network: network::Config,
    stage: &Stage,
) -> Result<Handle, Problem> {
    for folder in [&settings.root, &settings.state, &settings.cni_conf_dir, &settings.registries] {
        files::private_directory(folder)?;
    }
    let text = settings.text();
    let hash: String = Sha256::digest(&text).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let config = settings.config_dir.join(format!("{CONFIG_PREFIX}{hash}.toml"));
    files::write(&config, text.as_bytes(), 0o600)?;
    remove_other_configs(&settings.config_dir, &config);
    let handle = Handle { socket: settings.socket.clone(), ready: Latch::new("containerd") };
    let ready = handle.ready.clone();
    let keeper = Keeper { program, config, settings, network, ready, stage: stage.clone() };
    stage.spawn("containerd", OnExit::Stop, keeper.run());
    Ok(handle)
}

const CONFIG_PREFIX: &str = "config-";

fn remove_other_configs(folder: &Path, current: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_config = entry.file_name().to_string_lossy().starts_with(CONFIG_PREFIX);
        if is_config && entry.path() != current {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The containerds that were started with a configuration of this directory.
pub(crate) fn processes_of(config_dir: &Path) -> Vec<i32> {
    let prefix = config_dir.join(CONFIG_PREFIX).display().to_string();
    process::find(config_dir, |arguments| {
        let is_containerd = arguments.first().is_some_and(|program| program.ends_with("containerd"));
        is_containerd && arguments.iter().any(|argument| argument.starts_with(&prefix))
    })
}

struct Keeper {
    program: PathBuf,
    config: PathBuf,
    settings: Settings,
    network: network::Config,
    ready: Latch,
    stage: Stage,
}

/// A running containerd: our child, or one that an earlier process of ours started.
struct Running {
    process: Process,
    child: Option<Child>,
}

impl Running {
    async fn ended(&mut self) {
        self.process.ended().await;
        if let Some(child) = &mut self.child {
            // It has ended, so this does not block; it takes the zombie away.
            let _ = child.wait();
        }
    }
}

impl Keeper {
    async fn run(self) {
        let stopping = self.stage.stopping();
        let mut delay = FIRST_DELAY;
        loop {
            let began = tokio::time::Instant::now();
            let mut running = tokio::select! {
                () = stopping.cancelled() => return,
                running = self.bring_up() => running,
            };
            if let Some(running) = &mut running {
                self.announce(running);
                tokio::select! {
                    () = stopping.cancelled() => {
                        running.process.stop(STOP_GRACE).await;
                        running.ended().await;
                        let _ = fs::remove_file(&self.settings.socket);
                        return;
                    }
                    () = running.ended() => {
                        let log = self.settings.log.display().to_string();
                        tracing::warn!(log, "containerd ended and is started again");
                    }
                }
            }
            if began.elapsed() > SETTLED {
                delay = FIRST_DELAY;
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
            delay = (delay * 2).min(LONGEST_DELAY);
        }
    }

    /// Opens the latch once it answers, and nothing runs that it does not know.
    fn announce(&self, running: &Running) {
        let (socket, ready, pid) = (self.settings.socket.clone(), self.ready.clone(), running.process.pid);
        let (run_dir, network) = (self.settings.run_dir.clone(), self.network.clone());
        self.stage.spawn_cancellable("containerd's first answer", OnExit::Done, async move {
            // Its socket has no other sign of life than accepting a connection.
            while UnixStream::connect(&socket).await.is_err() {
                if Process::open(pid).is_none() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            shims::end_unknown(&run_dir, &socket, &network).await;
            ready.open();
        });
    }

    async fn bring_up(&self) -> Option<Running> {
        let wanted = self.config.display().to_string();
        for pid in processes_of(&self.settings.config_dir) {
            let Some(process) = Process::open(pid) else { continue };
            // One whose records were moved away works on with those, wherever they are.
            let records = self.settings.root.join("io.containerd.metadata.v1.bolt/meta.db");
            let same = process::arguments(pid).contains(&wanted) && process::has_open(pid, &records);
            if same && UnixStream::connect(&self.settings.socket).await.is_ok() {
                tracing::info!(pid, "containerd is running already and is adopted");
                return Some(Running { process, child: None });
            }
            tracing::info!(pid, "containerd with another configuration or another's records is replaced");
            process.stop(STOP_GRACE).await;
        }
        match self.spawn() {
            Ok(running) => running,
            Err(error) => {
                tracing::error!(error = chain(&error), program = %self.program.display(), "containerd cannot be started");
                None
            }
        }
    }

    fn spawn(&self) -> std::io::Result<Option<Running>> {
        // A socket that nobody listens on any more must not look like a sign of life.
        let _ = fs::remove_file(&self.settings.socket);
        let log = &self.settings.log;
        if fs::metadata(log).is_ok_and(|metadata| metadata.len() > LOG_LIMIT) {
            fs::rename(log, log.with_extension("log.1"))?;
        }
        let log = File::options().create(true).append(true).open(log)?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(&self.program);
        command
            .arg("--config")
            .arg(&self.config)
            .env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"))
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // SAFETY: setsid is async-signal-safe and touches no memory of ours.
        unsafe {
            command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(std::io::Error::from));
        }
        let mut child = command.spawn()?;
        let pid = i32::try_from(child.id()).unwrap_or_default();
        let Some(process) = Process::open(pid) else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(std::io::Error::other("the kernel has no pidfd_open (Linux 5.3 or newer is needed)"));
        };
        tracing::info!(pid, "containerd is started");
        Ok(Some(Running { process, child: Some(child) }))
    }
}

/// Stops the containerds of a configuration directory: for uninstalling.
pub(crate) async fn stop_all(config_dir: &Path) {
    for pid in processes_of(config_dir) {
        if let Some(process) = Process::open(pid) {
            process.signal(Signal::SIGTERM);
            process.stop(STOP_GRACE).await;
        }
    }
}

#[cfg(test)]
mod tests;
