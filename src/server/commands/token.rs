//! `minik8s token create | list | delete | rotate`: asks the running server, on its machine.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use agent::command::{print, print_line, run_command};
use agent::instance::DEFAULT_DATA_DIR;
use agent::{Instance, Problem};
use clap::{Args, Command, Subcommand};
use jiff::Timestamp;

use crate::admin::{Request, ask_server};
use crate::tokens::{Done, Entry, TokenRequest};

#[derive(Args, Clone, Debug)]
struct TokenArgs {
    #[command(subcommand)]
    verb: Verb,
    /// The server's data directory
    #[arg(long, short = 'd', global = true, env = "MINIK8S_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
}

#[derive(Subcommand, Clone, Debug)]
enum Verb {
    /// Make a token that lets machines join for a while, and print it
    Create {
        /// A token of one's own, as abcdef.0123456789abcdef
        token: Option<String>,
        /// How long it lets machines join; 0 for ever
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        ttl: String,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
        /// Further group of whoever shows it, which must begin with system:bootstrappers:; may be repeated
        #[arg(long, value_name = "GROUP", value_delimiter = ',')]
        groups: Vec<String>,
    },
    /// List such tokens, without their secret halves
    List,
    /// Delete such tokens, by their first halves
    Delete {
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Replace the token in DATA/server/agent-token, and print the new one; the old one lets no machine join
    /// from then on
    Rotate,
}

/// The command's description, for parsing, help and completion.
pub fn clap_command(name: &'static str) -> Command {
    TokenArgs::augment_args(Command::new(name))
        .about("Make, list, delete and rotate tokens that let machines join")
}

/// Runs `minik8s token`.
pub fn main(arguments: &[OsString]) -> ExitCode {
    run_command(clap_command("minik8s token"), arguments, run)
}

/// A length of time such as `24h`, `1h30m` or `7d`; none for `0`.
pub(crate) fn seconds(text: &str) -> Result<Option<i64>, Problem> {
    if text == "0" || text == "0s" {
        return Ok(None);
    }
    let wrong = |why: &dyn std::fmt::Display| {
        Problem::new(format!("use {text:?} as a length of time"), why, "correct --ttl, such as 24h")
    };
    let malformed = |_: jiff::Error| wrong(&"it is not of the form 30m, 24h or 7d");
    let span: jiff::Span = text.parse().map_err(malformed)?;
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(malformed)?;
    match length.as_secs() {
        1.. => Ok(Some(length.as_secs())),
        _ => Err(wrong(&"it is less than a second")),
    }
}

async fn run(arguments: TokenArgs) -> Result<(), Problem> {
    let instance = Instance::of(&arguments.data_dir)?;
    let request = match arguments.verb {
        Verb::Create { token, ttl, description, groups } => {
            TokenRequest::Create { token, seconds: seconds(&ttl)?, description, groups }
        }
        Verb::List => TokenRequest::List,
        Verb::Delete { ids } => TokenRequest::Delete(ids),
        Verb::Rotate => TokenRequest::Rotate,
    };
    match ask_server(&instance, &Request::Token(request)).await? {
        Done::Created { token, url } => {
            print_line(&token)?;
            // Beside the token itself, which scripts read.
            eprintln!("On the new machine, as root: MINIK8S_URL={url} MINIK8S_TOKEN={token} ./install.sh");
            Ok(())
        }
        Done::Token(token) => print_line(&token),
        Done::Deleted(ids) => ids.iter().try_for_each(|id| print_line(&format!("deleted {id}"))),
        Done::List(entries) => print(&list(&entries)),
    }
}

fn list(entries: &[Entry]) -> String {
    let mut text = format!("{:<8} {:<21} {:<8} {:<40} DESCRIPTION\n", "ID", "EXPIRES", "VALID", "GROUPS");
    for Entry { id, expires, description, groups } in entries {
        let over = |end: &String| !end.parse::<Timestamp>().is_ok_and(|end| Timestamp::now() < end);
        let valid = if expires.as_ref().is_some_and(over) { "no" } else { "yes" };
        let expires = expires.as_deref().unwrap_or("never");
        text.push_str(&format!("{id:<8} {expires:<21} {valid:<8} {groups:<40} {description}\n"));
    }
    text
}

#[cfg(test)]
mod tests;
