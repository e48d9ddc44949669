//! The administrator's kubeconfig: the file that the server keeps current, and `minik8s kubeconfig`, which has a fresh one made.
//!
//! A certificate cannot be called back, so it lives for 90 days: the file is renewed in time, copies are replaced by the command.
//! It reaches the server by its admin socket, so root on the server's machine needs neither network nor an old certificate.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use agent::command::{DEFAULT_CONFIG, finish, run_to_end};
use agent::flags::{self, Stop};
use agent::instance::DEFAULT_DATA_DIR;
use agent::{Instance, Problem, files, keys};
use clap::{Args, Command, FromArgMatches};
use serde::{Deserialize, Serialize};

use crate::admin::{Request, ask_server};
use crate::pki::{self, ADMIN_LIFE, ClientPairs, DAY, Pki};
use crate::plan::Plan;
use crate::token_command::seconds;

/// Writes the file, and notes where it is for uninstalling.
pub(crate) fn write(plan: &Plan, url: &str, pki: &Pki, clients: &ClientPairs) -> Result<(), Problem> {
    let text = pki::kubeconfig(url, &pki.server_ca.certificate_pem, &clients.admin);
    if let Some(folder) = plan.kubeconfig.parent() {
        std::fs::create_dir_all(folder).map_err(|error| {
            Problem::new(
                format!("create {}", folder.display()),
                error,
                "choose a writable place with --write-kubeconfig",
            )
        })?;
    }
    files::write(&plan.kubeconfig, text.as_bytes(), plan.kubeconfig_mode)?;
    let note = plan.instance.server_dir().join("kubeconfig-path");
    let place = std::path::absolute(&plan.kubeconfig).unwrap_or_else(|_| plan.kubeconfig.clone());
    files::write(&note, place.as_os_str().as_encoded_bytes(), 0o600)
}

/// What is asked for on the admin socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Wish {
    /// Where its user finds the API; the machine's own URL if none is given.
    server: Option<String>,
    seconds: i64,
}

/// What makes them in the running server.
#[derive(Clone)]
pub(crate) struct Kubeconfigs {
    pub(crate) pki: Arc<Pki>,
    pub(crate) url: String,
}

impl Kubeconfigs {
    pub(crate) fn make(&self, wish: &Wish) -> Result<String, Problem> {
        let life = check_life(wish.seconds)?;
        let pair = self.pki.administrator(life, keys::now())?;
        tracing::info!(days = life / DAY, "a kubeconfig of the administrator is made");
        let url = wish.server.as_deref().unwrap_or(&self.url);
        Ok(pki::kubeconfig(url, &self.pki.server_ca.certificate_pem, &pair))
    }
}

const SHORTEST_LIFE: i64 = 600;

fn check_life(seconds: i64) -> Result<i64, Problem> {
    if (SHORTEST_LIFE..=ADMIN_LIFE).contains(&seconds) {
        return Ok(seconds);
    }
    let why = format!("it can be good for ten minutes to {} days", ADMIN_LIFE / DAY);
    Err(Problem::new("make a kubeconfig", why, "correct --ttl"))
}

#[derive(Args, Clone, Debug)]
struct KubeconfigArgs {
    /// The server's data directory
    #[arg(long, short = 'd', env = "MINIK8S_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// URL of the API in it [default: the one for this machine]
    #[arg(long, short = 's', value_name = "URL")]
    server: Option<String>,
    /// How long it is good for, at most 90 days
    #[arg(long, value_name = "DURATION", default_value = "2160h")]
    ttl: String,
    /// Where to write it (mode 600) instead of printing it
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The command's description, for parsing, help and completion.
pub fn clap_command(name: &'static str) -> Command {
    KubeconfigArgs::augment_args(Command::new(name)).about("Make a fresh kubeconfig of the administrator")
}

/// Runs `minik8s kubeconfig`.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let parsed = flags::parse(clap_command("minik8s kubeconfig"), arguments, Path::new(DEFAULT_CONFIG));
    let outcome = parsed.and_then(|matches| {
        let arguments =
            KubeconfigArgs::from_arg_matches(&matches).map_err(|error| Problem::plain(error.to_string()))?;
        run_to_end(run(arguments)).map_err(Stop::from)
    });
    finish("minik8s kubeconfig", outcome)
}

async fn run(arguments: KubeconfigArgs) -> Result<(), Problem> {
    let instance = Instance::of(&arguments.data_dir)?;
    if let Some(server) = arguments.server.as_deref().filter(|server| !server.starts_with("https://")) {
        let advice = "give --server https://HOST:PORT";
        return Err(Problem::new(format!("use {server:?}"), "it is not a URL of https", advice));
    }
    let seconds = check_life(seconds(&arguments.ttl)?.unwrap_or(0))?;
    let wish = Wish { server: arguments.server, seconds };
    let text: String = ask_server(&instance, &Request::Kubeconfig(wish)).await?;
    match arguments.output {
        Some(path) => files::write(&path, text.as_bytes(), 0o600),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}
