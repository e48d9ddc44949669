//! The kubectl-compatible command: `minik8s kubectl …`, and the binary under the name `kubectl`.
//!
//! One file a verb, in `verbs`; printers in `output`, `table` and `describe`; `kustomize` builds what `-k`
//! names; `jsonpath`, the three-way merge and the other arithmetic are pure. Objects
//! are JSON trees here, as in kubectl, so that kinds nobody compiled in work like any other.

mod age;
mod change;
mod cli;
mod command_line;
mod complete;
mod discovery;
mod env;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod global;
mod kustomize;
mod local;
mod manifest;
mod metadata_change;
mod output;
mod paths;
mod pods;
mod preferences;
mod remote;
mod remote_file;
mod rest;
mod selection;
mod sort;
mod table;
mod terminal;
mod trace;
mod verbs;

use std::ffi::OsString;
use std::io::Write;

use cli::Cli;
use env::Env;
use error::{Error, Result};
use verbs::{
    Verb, annotate, api_resources, apply, attach, auth, autoscale, certificate, cluster_info, completion,
    config, cordon, cp, create, debug, delete, describe, diff, drain, edit, events, exec, explain, expose,
    get, label, logs, patch, plugin, port_forward, proxy, replace, rollout, run_pod, scale, set, taint, top,
    version, wait,
};

/// Runs a command line, `args[0]` being the program's name, and gives its exit code.
pub fn run(args: Vec<OsString>) -> i32 {
    let command_line = cli::command();
    let (args, plugin_policy) = match preferences::apply(args, &command_line) {
        Ok(applied) => applied,
        Err(error) => {
            env::tell(&error.to_string());
            return error.exit_code();
        }
    };
    if let Some(error) = plugin::become_named(&args, &command_line) {
        env::tell(&error.to_string());
        return error.exit_code();
    }
    if let Some(line) = complete::line_of(&args) {
        return complete::run(&command_line, &line);
    }
    let cli = match cli::parse_with(args, command_line) {
        Ok(mut cli) => {
            cli.global.plugin_policy = plugin_policy;
            cli
        }
        Err(stop) if stop.code == 0 => {
            let _ = std::io::stdout().lock().write_all(stop.text.as_bytes());
            return 0;
        }
        Err(stop) => {
            env::tell(&stop.text);
            return stop.code;
        }
    };
    // One thread is enough, and starts fastest: a command waits more than it computes.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            env::tell(&format!("error: the async runtime cannot be started: {error}"));
            return 1;
        }
    };
    let outcome = runtime.block_on(command(cli));
    runtime.shutdown_background();
    match outcome {
        Ok(()) => 0,
        Err(error) if error.is_broken_pipe() => 1,
        Err(error) => {
            let text = error.to_string();
            if !text.is_empty() {
                env::tell(&text);
            }
            error.exit_code()
        }
    }
}

async fn command(cli: Cli) -> Result<()> {
    if let Verb::Completion(args) = &cli.verb {
        return completion::run(args);
    }
    if let Verb::Plugin(args) = &cli.verb {
        return plugin::run(args, &cli::command());
    }
    if let Verb::Kustomize(args) = &cli.verb {
        return verbs::kustomize::run(args);
    }
    if let Verb::Kuberc(args) = cli.verb {
        return verbs::kuberc::run(&cli.global, args);
    }
    if let Verb::Options(_) = cli.verb {
        return verbs::alpha::options(&cli::command());
    }
    if let Verb::Config(args) = cli.verb {
        return config::run(cli.global, args);
    }
    let env = Env::new(cli.global)?;
    dispatch(&env, cli.verb).await?;
    let warnings = match env.rest_if_used() {
        Some(rest) => rest.warnings_count(),
        None => 0,
    };
    match warnings {
        0 => Ok(()),
        1 => Err(Error::message("1 warning received")),
        many => Err(Error::message(format!("{many} warnings received"))),
    }
}

async fn dispatch(env: &Env, verb: Verb) -> Result<()> {
    match verb {
        Verb::Annotate(args) => annotate::run(env, args).await,
        Verb::ApiResources(args) => api_resources::run(env, args).await,
        Verb::ApiVersions(args) => api_resources::versions(env, args).await,
        Verb::Apply(args) => apply::run(env, args).await,
        Verb::Auth(args) => auth::run(env, args).await,
        Verb::Certificate(args) => certificate::run(env, args).await,
        Verb::ClusterInfo(args) => cluster_info::run(env, args).await,
        Verb::Completion(args) => completion::run(&args),
        Verb::Config(args) => config::run(env.global.clone(), args),
        Verb::Cordon(args) => cordon::run(env, args, true).await,
        Verb::Uncordon(args) => cordon::run(env, args, false).await,
        Verb::Create(args) => create::run(env, *args).await,
        Verb::Delete(args) => delete::run(env, args).await,
        Verb::Describe(args) => describe::run(env, args).await,
        Verb::Drain(args) => drain::run(env, args).await,
        Verb::Edit(args) => edit::run(env, args).await,
        Verb::Events(args) => events::run(env, args).await,
        Verb::Explain(args) => explain::run(env, args).await,
        Verb::Expose(args) => expose::run(env, args).await,
        Verb::Get(args) => get::run(env, args).await,
        Verb::Label(args) => label::run(env, args).await,
        Verb::Logs(args) => logs::run(env, args).await,
        Verb::Patch(args) => patch::run(env, args).await,
        Verb::Proxy(args) => proxy::run(env, args).await,
        Verb::Replace(args) => replace::run(env, args).await,
        Verb::Rollout(args) => rollout::run(env, *args).await,
        Verb::Run(args) => run_pod::run(env, args).await,
        Verb::Scale(args) => scale::run(env, args).await,
        Verb::Set(args) => set::run(env, args).await,
        Verb::Taint(args) => taint::run(env, args).await,
        Verb::Version(args) => version::run(env, args).await,
        Verb::Wait(args) => wait::run(env, args).await,
        Verb::Exec(args) => exec::run(env, args).await,
        Verb::Attach(args) => attach::run(env, args).await,
        Verb::PortForward(args) => port_forward::run(env, args).await,
        Verb::Cp(args) => cp::run(env, args).await,
        Verb::Top(args) => top::run(env, args).await,
        Verb::Debug(args) => debug::run(env, *args).await,
        Verb::Diff(args) => diff::run(env, args).await,
        Verb::Autoscale(args) => autoscale::run(env, args).await,
        Verb::Plugin(args) => plugin::run(&args, &cli::command()),
        Verb::Kustomize(args) => verbs::kustomize::run(&args),
        Verb::Kuberc(args) => verbs::kuberc::run(&env.global, args),
        Verb::Alpha(_) => verbs::alpha::run(),
        Verb::Options(_) => verbs::alpha::options(&cli::command()),
    }
}
