//! `kubectl attach`.

use api::json::as_text;
use clap::Args;
use serde_json::Value;

use crate::env::{Env, print_line, tell};
use crate::error::{Error, Result};
use crate::pods;
use crate::remote::{self, Output, Session};
use crate::terminal::{self, Size};
use crate::verbs::exec::{Local, Request, SessionArgs, refuse_ended};

pub(crate) const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// Attach to a running container
#[derive(Args)]
pub(crate) struct AttachArgs {
    /// POD | TYPE/NAME | TYPE NAME
    resources: Vec<String>,
    #[command(flatten)]
    session: SessionArgs,
    /// Keys that detach from the container
    #[arg(long, default_value = DETACH_KEYS)]
    detach_keys: String,
}

/// What is wanted of an attached container.
pub(crate) struct Wanted<'a> {
    pub(crate) container: Option<&'a str>,
    pub(crate) stdin: bool,
    pub(crate) tty: bool,
    pub(crate) quiet: bool,
    pub(crate) detach_keys: &'a str,
}

pub(crate) async fn run(env: &Env, args: AttachArgs) -> Result<()> {
    let reference = match &args.resources[..] {
        [] => return Err(Error::message("at least 1 argument is required for attach")),
        [one] => one.clone(),
        [kind, name] => format!("{kind}/{name}"),
        many => {
            return Err(Error::message(format!(
                "expected POD, TYPE/NAME, or TYPE NAME, (at most 2 arguments) saw {}: [{}]",
                many.len(),
                many.join(" ")
            )));
        }
    };
    let pod = pods::attachable(env, &reference, &args.session.pod_running_timeout).await?;
    refuse_ended(&pod, "attach")?;
    let wanted = Wanted {
        container: args.session.container.as_deref(),
        stdin: args.session.stdin,
        tty: args.session.tty,
        quiet: args.session.quiet,
        detach_keys: &args.detach_keys,
    };
    to_pod(env, &pod, wanted).await
}

/// Attaches to a container of a pod until either of them has enough.
pub(crate) async fn to_pod(env: &Env, pod: &Value, wanted: Wanted<'_>) -> Result<()> {
    let container = pods::container_of(pod, wanted.container, wanted.quiet)?;
    let has_tty = pods::container(pod, &container).is_some_and(|one| one["tty"] == true);
    if wanted.tty && !has_tty && !wanted.quiet {
        tell(&format!("error: Unable to use a TTY - container {container} did not allocate one"));
    }
    let detach_keys = remote::detach_keys(wanted.detach_keys)?;
    // What runs on a terminal is shown as one, whatever was asked for.
    let local = Local::new(wanted.stdin, has_tty, wanted.quiet)?;
    let is_raw = local.raw.is_some();
    if !wanted.quiet {
        let warning = "All commands and output from this session will be recorded in container logs, including credentials and sensitive information passed through the command prompt.";
        tell(&format!("{warning}{}", if is_raw { "\r" } else { "" }));
        tell(&format!(
            "If you don't see a command prompt, try pressing enter.{}",
            if is_raw { "\r" } else { "" }
        ));
    }
    let (namespace, name) = (as_text(&pod["metadata"]["namespace"]), as_text(&pod["metadata"]["name"]));
    let request = Request {
        verb: "attach",
        namespace,
        pod: name,
        container: &container,
        command: &[],
        stdin: wanted.stdin,
        stderr: !is_raw,
        tty: is_raw,
    };
    // Two sizes, so that whatever is on the screen is drawn anew.
    let sizes =
        terminal::size().map(|size| vec![Size { width: size.width + 1, height: size.height + 1 }, size]);
    let session = Session {
        input: local.input(),
        output: Output::Own,
        sizes: if is_raw { Some(sizes.unwrap_or_default()) } else { None },
        detach_keys: if is_raw { detach_keys } else { Vec::new() },
    };
    let status = remote::status(env, &request.path(), session).await;
    drop(local);
    status?.as_ref().map_or(Ok(()), remote::outcome)?;
    if is_raw && !wanted.quiet {
        let resume = format!("kubectl attach {name} -c {container} -n {namespace} -i -t");
        let is_ephemeral = pods::container_names(pod, "ephemeralContainers").contains(&container);
        print_line(&if is_ephemeral {
            format!(
                "Session ended, the ephemeral container will not be restarted but may be reattached using '{resume}' if it is still running"
            )
        } else {
            format!("Session ended, resume using '{resume}' command")
        })?;
    }
    Ok(())
}
