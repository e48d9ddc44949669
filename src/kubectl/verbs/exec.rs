//! `kubectl exec`.

use api::json::as_text;
use clap::Args;
use serde_json::Value;
use tokio::io::AsyncRead;

use client::ObjectRef;
use client::https::{encode_component, path_of};

use crate::env::{Env, tell};
use crate::error::{Error, Result};
use crate::manifest::FileArgs;
use crate::pods;
use crate::remote::{self, Output, Session};
use crate::terminal::{self, Raw};

/// The flags of `exec` and `attach`: whose end of a session is connected to what.
#[derive(Args)]
pub(crate) struct SessionArgs {
    #[arg(short = 'c', long)]
    pub(crate) container: Option<String>,
    /// Pass stdin to the container
    #[arg(short = 'i', long)]
    pub(crate) stdin: bool,
    /// Stdin is a TTY
    #[arg(short = 't', long)]
    pub(crate) tty: bool,
    /// Only print output from the remote session
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
    /// How long to wait until a pod runs
    #[arg(long, default_value = "1m0s")]
    pub(crate) pod_running_timeout: String,
}

/// Execute a command in a container
#[derive(Args)]
pub(crate) struct ExecArgs {
    /// POD | TYPE/NAME
    resources: Vec<String>,
    /// The command and its arguments, after --
    #[arg(last = true)]
    command: Vec<String>,
    /// File that says which pod
    #[arg(short = 'f', long = "filename", value_delimiter = ',')]
    files: Vec<String>,
    #[command(flatten)]
    session: SessionArgs,
}

/// How the user's end of a session is set up.
pub(crate) struct Local {
    pub(crate) stdin: bool,
    /// Given back when the session is over.
    pub(crate) raw: Option<Raw>,
}

impl Local {
    /// Standard input if it is wanted; raw if it is to be a terminal and is one.
    pub(crate) fn new(stdin: bool, tty: bool, quiet: bool) -> Result<Local> {
        if !stdin || !tty {
            return Ok(Local { stdin, raw: None });
        }
        if !terminal::is_input() {
            if !quiet {
                tell("Unable to use a TTY - input is not a terminal or the right kind of file");
            }
            return Ok(Local { stdin, raw: None });
        }
        Ok(Local { stdin, raw: Some(Raw::begin()?) })
    }

    pub(crate) fn input(&self) -> Option<Box<dyn AsyncRead + Unpin>> {
        if self.stdin { Some(Box::new(tokio::io::stdin())) } else { None }
    }
}

/// The path and the options of a session.
pub(crate) struct Request<'a> {
    pub(crate) verb: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) pod: &'a str,
    pub(crate) container: &'a str,
    pub(crate) command: &'a [String],
    pub(crate) stdin: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

impl Request<'_> {
    pub(crate) fn path(&self) -> String {
        let at = ObjectRef::new(Some(self.namespace), self.pod).sub(self.verb);
        let mut path =
            format!("{}?container={}", path_of(&api::kinds::POD, at), encode_component(self.container));
        for word in self.command {
            path.push_str(&format!("&command={}", encode_component(word)));
        }
        for (name, is_set) in
            [("stdin", self.stdin), ("stdout", true), ("stderr", self.stderr), ("tty", self.tty)]
        {
            if is_set {
                path.push_str(&format!("&{name}=true"));
            }
        }
        path
    }
}

/// Fails if a pod has ended; `doing` is what cannot be done with it.
pub(crate) fn refuse_ended(pod: &Value, doing: &str) -> Result<()> {
    match pod["status"]["phase"].as_str() {
        Some(phase @ ("Succeeded" | "Failed")) => Err(Error::message(format!(
            "cannot {doing} a container in a completed pod; current phase is {phase}"
        ))),
        _ => Ok(()),
    }
}

pub(crate) async fn run(env: &Env, args: ExecArgs) -> Result<()> {
    let mut resources = args.resources.clone();
    if !args.files.is_empty() {
        let files = FileArgs { files: args.files.clone(), ..FileArgs::default() };
        let of_file = env.objects_of(&files).await?;
        resources
            .splice(0..0, of_file.first().map(|target| format!("{}/{}", target.row.plural, target.name)));
    }
    let [reference, rest @ ..] = &resources[..] else {
        return Err(Error::message("pod, type/name or --filename must be specified"));
    };
    if !rest.is_empty() {
        let message = "exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead";
        return Err(Error::usage("kubectl exec", message));
    }
    if args.command.is_empty() {
        return Err(Error::message("you must specify at least one command for the container"));
    }
    let pod = pods::attachable(env, reference, &args.session.pod_running_timeout).await?;
    refuse_ended(&pod, "exec into")?;
    let container = pods::container_of(&pod, args.session.container.as_deref(), args.session.quiet)?;
    let local = Local::new(args.session.stdin, args.session.tty, args.session.quiet)?;
    let request = Request {
        verb: "exec",
        namespace: as_text(&pod["metadata"]["namespace"]),
        pod: as_text(&pod["metadata"]["name"]),
        container: &container,
        command: &args.command,
        stdin: args.session.stdin,
        stderr: local.raw.is_none(),
        tty: local.raw.is_some(),
    };
    let sizes = local.raw.as_ref().map(|_| terminal::size().into_iter().collect());
    let session = Session { input: local.input(), output: Output::Own, sizes, detach_keys: Vec::new() };
    let status = remote::status(env, &request.path(), session).await;
    // The last words are for a terminal that is as it was.
    drop(local);
    status?.as_ref().map_or(Ok(()), remote::outcome)
}
