//! `minik8s server list | remove | promote`: asks a running server of a group, on its machine; and
//! `minik8s server reset`, for one that is stopped.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use agent::command::{print_line, run_command};
use agent::instance::DEFAULT_DATA_DIR;
use agent::status::report::Server;
use agent::{Instance, Problem};
use clap::{Args, Command, Subcommand};

use super::reset::reset;
use super::snapshot::Given;
use crate::admin::{Request, ask_server};
use crate::group::ServersRequest;

#[derive(Args, Clone, Debug)]
struct ServersArgs {
    #[command(subcommand)]
    verb: Verb,
    /// The server's data directory
    #[arg(long, short = 'd', global = true, env = "MINIK8S_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
}

#[derive(Subcommand, Clone, Debug)]
enum Verb {
    /// List the servers of the cluster
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a server out of the cluster for good
    Remove {
        /// Its name or identity
        #[arg(value_name = "SERVER")]
        server: String,
    },
    /// Give a server a vote that has none yet
    Promote {
        /// Its name or identity
        #[arg(value_name = "SERVER")]
        server: String,
    },
    /// Make this server, which is stopped, a cluster of its own, because too few of the others are left
    Reset {
        /// Begin with this snapshot instead of what the server has
        #[arg(long, value_name = "FILE")]
        snapshot: Option<PathBuf>,
        /// Seal key of the server that saved it [default: those in the data directory]
        #[arg(long, env = "MINIK8S_SEAL_KEY", value_name = "KEY", hide_env_values = true)]
        seal_key: Option<String>,
        /// File whose first line is the passphrase it was sealed with
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
}

/// Whether `minik8s server` is followed by a verb of these.
pub(crate) fn is_verb(first: Option<&OsString>) -> bool {
    first
        .and_then(|first| first.to_str())
        .is_some_and(|first| ["list", "remove", "promote", "reset"].contains(&first))
}

/// Runs one of the verbs.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let command = ServersArgs::augment_args(Command::new("minik8s server"));
    run_command(command, arguments, run)
}

async fn run(arguments: ServersArgs) -> Result<(), Problem> {
    let instance = Instance::of(&arguments.data_dir)?;
    let (request, json) = match arguments.verb {
        Verb::List { json } => (ServersRequest::List, json),
        Verb::Remove { server } => (ServersRequest::Remove(server), false),
        Verb::Promote { server } => (ServersRequest::Promote(server), false),
        Verb::Reset { snapshot, seal_key, passphrase_file } => {
            let given = Given { seal_key, passphrase_file, ..Given::default() };
            return reset(&instance, snapshot.as_deref(), &given);
        }
    };
    let servers: Vec<Server> = ask_server(&instance, &Request::Servers(request)).await?;
    if json {
        let text = serde_json::to_string(&servers);
        print_line(&text.map_err(|error| Problem::new("print the servers", error, "try again"))?)
    } else if servers.is_empty() {
        print_line("this server is the only one")
    } else {
        agent::status::servers_table(&servers).iter().try_for_each(|line| print_line(line))
    }
}
