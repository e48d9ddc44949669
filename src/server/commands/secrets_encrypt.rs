//! `minik8s secrets-encrypt status | enable | rotate | reencrypt | disable`: asks the running server, on its
//! machine.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use agent::admin::ask;
use agent::command::{print, print_line, run_command};
use agent::instance::DEFAULT_DATA_DIR;
use agent::{Instance, Problem};
use apiserver::{EncryptionStatus, Origin};
use clap::{Args, Command, Subcommand};

use crate::admin::{Request, unreached};
use crate::encryption::{Done, EncryptionRequest};

/// Every Secret is written anew, and the store's files as a whole.
const TIMEOUT: Duration = Duration::from_secs(1800);

#[derive(Args, Clone, Debug)]
struct EncryptArgs {
    #[command(subcommand)]
    verb: Verb,
    /// The server's data directory
    #[arg(long, short = 'd', global = true, env = "MINIK8S_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
}

#[derive(Subcommand, Clone, Copy, Debug)]
enum Verb {
    /// Say whether Secrets are encrypted in the store, with which keys, and what is still written otherwise
    Status,
    /// Encrypt Secrets from now on, and those that are there
    Enable,
    /// Encrypt with a new key from now on, and what is there
    #[command(visible_alias = "rotate-keys")]
    Rotate,
    /// Write anew what is still in an older form: after an interruption, or after the file has changed
    Reencrypt,
    /// Write Secrets in plain text from now on, and those that are there
    Disable,
}

/// The command's description, for parsing, help and completion.
pub fn clap_command(name: &'static str) -> Command {
    EncryptArgs::augment_args(Command::new(name))
        .about("Turn encryption of Secrets in the store on, over and off")
}

/// Runs `minik8s secrets-encrypt`.
pub fn main(arguments: &[OsString]) -> ExitCode {
    run_command(clap_command("minik8s secrets-encrypt"), arguments, run)
}

async fn run(arguments: EncryptArgs) -> Result<(), Problem> {
    let instance = Instance::of(&arguments.data_dir)?;
    let request = match arguments.verb {
        Verb::Status => EncryptionRequest::Status,
        Verb::Enable => EncryptionRequest::Enable,
        Verb::Rotate => EncryptionRequest::Rotate,
        Verb::Reencrypt => EncryptionRequest::Reencrypt,
        Verb::Disable => EncryptionRequest::Disable,
    };
    let done: Done = match ask(&instance.server_dir(), &Request::Encryption(request), TIMEOUT).await {
        Ok(done) => done,
        Err(error) => return Err(unreached(&instance, error).await),
    };
    if request != EncryptionRequest::Status {
        print_line(&format!("{} values were written anew", done.rewritten))?;
    }
    print(&text(&done.status))
}

fn text(status: &EncryptionStatus) -> String {
    let by = match status.origin {
        Origin::Nobody => "",
        Origin::File => ", as the file of --encryption-provider-config says",
        Origin::Cluster => ", with keys that the cluster keeps",
    };
    let mut lines = vec![format!("Encryption: {}{by}", if status.enabled { "enabled" } else { "disabled" })];
    for (at, key) in status.keys.iter().enumerate() {
        let mark =
            if at == 0 && status.enabled && status.origin == Origin::Cluster { " (active)" } else { "" };
        lines.push(format!("Key: {key}{mark}"));
    }
    lines.push(format!("Encrypted values: {}", status.encrypted));
    lines.push(format!("Values in an older form: {}", status.stale));
    if status.stale > 0 {
        lines.push("  'minik8s secrets-encrypt reencrypt' writes them anew".to_string());
    }
    lines.extend(status.unreadable.iter().map(|why| format!("Unreadable: {why}")));
    lines.extend(status.ailing.iter().map(|(name, why)| format!("KMS plugin {name}: {why}")));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests;
