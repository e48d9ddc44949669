//! The entry point: arguments to a subcommand to an exit code.
//!
//! Called as `kubectl` (by a link), it is kubectl. Absent: everything else; each command is a library of its
//! own.

mod allocator;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use agent::service::Verb;
use clap::builder::PossibleValuesParser;
use clap::{Arg, Command};
use clap_complete::Shell;

fn main() -> ExitCode {
    agent::origin::set(env!("MINIK8S_COMMIT"), env!("MINIK8S_COMMIT_DATE"));
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let program =
        arguments.first().map(|name| Path::new(name).file_name().unwrap_or_default().to_os_string());
    if program.as_deref() == Some(OsStr::new("kubectl")) {
        return kubectl(arguments.split_off(1));
    }
    let rest = if arguments.len() > 2 { arguments.split_off(2) } else { Vec::new() };
    match arguments.get(1).and_then(|name| name.to_str()) {
        Some("server") => server::main(&rest),
        Some("agent") => agent::command::main(&rest),
        Some("snapshot") => server::commands::snapshot::main(&rest),
        Some("token") => server::commands::token::main(&rest),
        Some("secrets-encrypt") => server::commands::secrets_encrypt::main(&rest),
        Some("kubeconfig") => server::commands::kubeconfig::main(&rest),
        Some("image") => agent::image::main(&rest),
        Some("status") => agent::status::main(&rest),
        Some("start") => agent::service::main(Verb::Start, &rest),
        Some("stop") => agent::service::main(Verb::Stop, &rest),
        Some("restart") => agent::service::main(Verb::Restart, &rest),
        Some("simulate") => agent::simulate::main(&rest),
        Some("uninstall") => agent::uninstall::main(&rest),
        Some("kubectl") => kubectl(rest),
        Some("completion") => completion(&rest),
        Some("version" | "--version" | "-V") => say(&format!("minik8s {}\n", agent::origin::version())),
        Some("help" | "--help" | "-h") => say(&command().render_help().to_string()),
        other => {
            let what = match other {
                Some(name) => format!("unknown command {name:?}"),
                None => "no command is given".to_string(),
            };
            eprintln!("minik8s: {what}; see 'minik8s --help'");
            ExitCode::from(2)
        }
    }
}

/// The whole command line, for help and completion.
fn command() -> Command {
    let shells = PossibleValuesParser::new(["bash", "elvish", "fish", "powershell", "zsh"]);
    Command::new("minik8s")
        .about("A whole Kubernetes cluster in one executable")
        .subcommand_required(true)
        .subcommand(server::clap_command("server"))
        .subcommand(agent::command::clap_command("agent"))
        .subcommand(Command::new("kubectl").about("A kubectl-compatible command"))
        .subcommand(server::commands::snapshot::clap_command("snapshot"))
        .subcommand(server::commands::token::clap_command("token"))
        .subcommand(server::commands::secrets_encrypt::clap_command("secrets-encrypt"))
        .subcommand(server::commands::kubeconfig::clap_command("kubeconfig"))
        .subcommand(agent::image::clap_command("image"))
        .subcommand(agent::status::clap_command("status"))
        .subcommands([Verb::Start, Verb::Stop, Verb::Restart].map(agent::service::clap_command))
        .subcommand(agent::simulate::clap_command("simulate"))
        .subcommand(agent::uninstall::clap_command("uninstall"))
        .subcommand(Command::new("version").about("Print the version"))
        .subcommand(
            Command::new("completion")
                .about("Print a shell's completion script")
                .arg(Arg::new("shell").required(true).value_parser(shells)),
        )
}

fn kubectl(arguments: Vec<OsString>) -> ExitCode {
    let code = kubectl::run(std::iter::once(OsString::from("kubectl")).chain(arguments).collect());
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn completion(arguments: &[OsString]) -> ExitCode {
    let shell = arguments.first().and_then(|name| name.to_str()).and_then(|name| name.parse::<Shell>().ok());
    let Some(shell) = shell else {
        eprintln!("minik8s completion: name a shell: bash, elvish, fish, powershell or zsh");
        return ExitCode::from(2);
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "minik8s", &mut script);
    say(&String::from_utf8_lossy(&script))
}

fn say(text: &str) -> ExitCode {
    match agent::command::print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
