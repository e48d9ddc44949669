//! `minik8s kubeconfig`: has the running server make a fresh kubeconfig of the administrator.
//!
//! It reaches the server by its admin socket, so root on the server's machine needs neither network nor an
//! old certificate.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use agent::command::{print, run_command};
use agent::instance::DEFAULT_DATA_DIR;
use agent::{Instance, Problem, files};
use clap::{Args, Command};

use super::token::seconds;
use crate::admin::{Request, ask_server};
use crate::kubeconfig::{KubeconfigRequest, check_life};

#[derive(Args, Clone, Debug)]
struct KubeconfigArgs {
    /// The server's data directory
    #[arg(long, short = 'd', env = "MINIK8S_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// URL of the API in it [default: the one for this machine]
    #[arg(long, short = 's', value_name = "URL")]
    server: Option<String>,
    /// How long it is good for, at most 90 days
    #[arg(long, value_name = "DURATION", default_value = "90d")]
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
    run_command(clap_command("minik8s kubeconfig"), arguments, run)
}

async fn run(arguments: KubeconfigArgs) -> Result<(), Problem> {
    let instance = Instance::of(&arguments.data_dir)?;
    if let Some(server) = arguments.server.as_deref().filter(|server| !server.starts_with("https://")) {
        let advice = "give --server https://HOST:PORT";
        return Err(Problem::new(format!("use {server:?}"), "it is not a URL of https", advice));
    }
    let seconds = check_life(seconds(&arguments.ttl)?.unwrap_or(0))?;
    let request = KubeconfigRequest { server: arguments.server, seconds };
    let text: String = ask_server(&instance, &Request::Kubeconfig(request)).await?;
    match arguments.output {
        Some(path) => files::write(&path, text.as_bytes(), 0o600),
        None => print(&text),
    }
}
