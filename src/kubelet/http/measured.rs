//! What the kubelet tells of itself and of what runs: summary, metrics, configuration.

use std::fmt::Write;

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::body::{Body, full, text};
use super::{Service, query};
use crate::Config;
use crate::stats::{Measured, cadvisor, everybody, nobody, resource, summary};

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

fn typed(body: String, kind: &'static str) -> Response<Body> {
    let mut response = Response::new(full(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

pub(super) fn json_answer(value: &Value) -> Response<Body> {
    typed(value.to_string(), "application/json")
}

pub(super) async fn summary(service: &Service, query_text: &str) -> Response<Body> {
    let brief = query::parse(query_text)
        .into_iter()
        .any(|(name, value)| name == "only_cpu_and_memory" && matches!(value.as_str(), "true" | "1"));
    let settings = &service.stats.settings;
    match service.stats.measure(if brief { nobody } else { everybody }).await {
        Ok(measured) => json_answer(&summary::of(&measured, &settings.node_name, settings.started, brief)),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("Internal Error: {error}")),
    }
}

/// One of the pages of metrics below `/metrics`.
pub(super) async fn metrics(service: &Service, page: &str) -> Response<Body> {
    let make: fn(&Measured) -> String = match page {
        "" => return own(service).await,
        "probes" => return typed(service.probes.metrics(), PROMETHEUS),
        "resource" => resource::of,
        "cadvisor" => cadvisor::of,
        _ => return text(StatusCode::NOT_FOUND, "404 page not found\n"),
    };
    match service.stats.measure_once(nobody).await {
        Ok(measured) => typed(make(&measured), PROMETHEUS),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// The kubelet's own.
async fn own(service: &Service) -> Response<Body> {
    let mut out = String::new();
    let node = &service.stats.settings.node_name;
    let _ = writeln!(
        out,
        "# HELP kubelet_node_name [ALPHA] The node's name. The count is always 1.\n# TYPE kubelet_node_name gauge\n\
         kubelet_node_name{{node=\"{node}\"}} 1"
    );
    if let Ok(measured) = service.stats.measure_once(nobody).await {
        let containers: usize = measured.pods.iter().map(|pod| pod.containers.len()).sum();
        let _ = writeln!(
            out,
            "# HELP kubelet_running_containers [ALPHA] Number of containers currently running\n\
             # TYPE kubelet_running_containers gauge\n\
             kubelet_running_containers{{container_state=\"running\"}} {containers}\n\
             # HELP kubelet_running_pods [ALPHA] Number of pods that have a running pod sandbox\n\
             # TYPE kubelet_running_pods gauge\nkubelet_running_pods {}",
            measured.pods.len()
        );
    }
    out.extend(service.more_metrics.as_ref().map(|more| more()));
    typed(out, PROMETHEUS)
}

/// The settings as upstream's `KubeletConfiguration` names them.
pub(crate) fn configuration(config: &Config) -> Value {
    let dns: Vec<String> = config.cluster_dns.iter().map(ToString::to_string).collect();
    json!({"kubeletconfig": {
        "enableServer": config.endpoint.is_some(),
        "address": config.endpoint.as_ref().map(|one| one.bind_address.to_string()),
        "port": config.endpoint.as_ref().map(|one| one.port),
        "authentication": {"webhook": {"enabled": true, "cacheTTL": "1m0s"}, "anonymous": {"enabled": false}},
        "authorization": {"mode": "Webhook", "webhook": {"cacheAuthorizedTTL": "1m0s", "cacheUnauthorizedTTL": "1m0s"}},
        "clusterDomain": config.cluster_domain,
        "clusterDNS": dns,
        "maxPods": config.tuning.max_pods,
        "seccompDefault": config.seccomp_default,
        "containerRuntimeEndpoint": format!("unix://{}", config.cri_socket.display()),
        "cgroupRoot": "/",
        "cgroupsPerQOS": true,
        "nodeStatusUpdateFrequency": "10s",
        "nodeStatusReportFrequency": "5m0s",
        "nodeLeaseDurationSeconds": 40,
        "imageGCHighThresholdPercent": 85,
        "imageGCLowThresholdPercent": 80,
        "imageMinimumGCAge": "2m0s",
        "containerLogMaxSize": config.tuning.logs.largest.to_string(),
        "containerLogMaxFiles": config.tuning.logs.files,
        "shutdownGracePeriod": format!("{}s", config.tuning.shutdown.total.as_secs()),
        "shutdownGracePeriodCriticalPods": format!("{}s", config.tuning.shutdown.critical.as_secs()),
        "evictionHard": {
            "memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%", "pid.available": "10%",
        },
    }})
}
