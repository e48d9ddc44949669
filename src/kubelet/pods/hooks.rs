//! Lifecycle hooks: `postStart` and `preStop` by command, HTTP request or sleep.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::probes::hook_get;
use crate::runtime::Runtime;

/// Runs a hook to its end; the error is the text of upstream's event.
pub(crate) async fn run(
    runtime: &dyn Runtime,
    handler: &LifecycleHandler,
    container: &Container,
    id: &str,
    ip: Option<IpAddr>,
    limit: Duration,
) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        return match runtime.exec(id, &command, limit).await {
            Ok(reply) if reply.exit_code == 0 => Ok(()),
            Ok(reply) => {
                let mut output = reply.stdout;
                output.extend(reply.stderr);
                let output = String::from_utf8_lossy(&output);
                Err(format!("command '{}' exited with {}: {output}", command.join(" "), reply.exit_code))
            }
            Err(error) => Err(error.to_string()),
        };
    }
    if let Some(get) = &handler.http_get {
        return hook_get(get, container, id, ip, limit).await;
    }
    if let Some(sleep) = &handler.sleep {
        let time = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
        tokio::time::sleep(time.min(limit)).await;
        return Ok(());
    }
    Err("invalid handler: cannot run handler".to_string())
}
