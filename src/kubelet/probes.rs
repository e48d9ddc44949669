//! Startup, liveness and readiness probes: one task per probe of a running container instance; findings by
//! container id.

mod manager;
mod outcome;
pub(crate) mod prober;

pub(crate) use manager::ProbeManager;
pub(crate) use outcome::{ProbeKind, ProbeOutcome, ProbeView};
pub(crate) use prober::NodeProber;

/// The HTTP request of a lifecycle hook: any answer below 400 is good.
pub(crate) async fn hook_get(
    get: &k8s_openapi::api::core::v1::HTTPGetAction,
    container: &k8s_openapi::api::core::v1::Container,
    id: &str,
    ip: Option<std::net::IpAddr>,
    limit: std::time::Duration,
) -> Result<(), String> {
    let target = prober::Target { container: container.clone(), id: id.to_string(), ip };
    match prober::http_get(get, &target, limit).await {
        Ok((status, _)) if status < 400 => Ok(()),
        Ok((status, body)) => Err(format!("HTTP status {status}: {body}")),
        Err(error) => Err(error),
    }
}
