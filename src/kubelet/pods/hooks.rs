//! Lifecycle hooks: `postStart` and `preStop` by command, HTTP request or sleep.
//!
//! Absent: upstream's second try by HTTP where an HTTPS hook meets a server that speaks HTTP.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::probes::prober::Target;
use crate::probes::{RequestError, http};
use crate::runtime::{Runtime, RuntimeError};

/// How a hook failed; the text ends in upstream's event.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    #[error("command '{command}' exited with {code}: {output}")]
    Command { command: String, code: i32, output: String },
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the grace period is over")]
    Timeout,
    #[error("invalid handler: cannot run handler")]
    NoHandler,
}

/// Runs a hook to its end, or for no longer than a limit if there is one.
pub(crate) async fn run(
    runtime: &dyn Runtime,
    handler: &LifecycleHandler,
    container: &Container,
    id: &str,
    ip: Option<IpAddr>,
    limit: Option<Duration>,
) -> Result<(), HookError> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        // To the runtime zero means without an end.
        let reply = runtime.exec(id, &command, limit.unwrap_or_default()).await?;
        if reply.exit_code == 0 {
            return Ok(());
        }
        let mut output = reply.stdout;
        output.extend(reply.stderr);
        let output = String::from_utf8_lossy(&output).into_owned();
        return Err(HookError::Command { command: command.join(" "), code: reply.exit_code, output });
    }
    if let Some(get) = &handler.http_get {
        let target = Target { container: container.clone(), id: id.to_string(), ip };
        // The request is the hook: as upstream, nobody looks at how it is answered.
        http::get(get, &target, "kube-lifecycle", limit.unwrap_or(Duration::MAX)).await?;
        return Ok(());
    }
    if let Some(sleep) = &handler.sleep {
        let time = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
        tokio::time::sleep(limit.map_or(time, |limit| time.min(limit))).await;
        return Ok(());
    }
    Err(HookError::NoHandler)
}

#[cfg(test)]
mod tests;
