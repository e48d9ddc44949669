//! What etcd serves beside gRPC on the same port: `/metrics`, `/health` and `/version`, and a plain answer to
//! calls that are not offered.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tonic::{Code, Status};

use super::front::Front;

/// Adds them to the services.
pub(crate) fn with(services: Router, front: Arc<Front>) -> Router {
    let (metrics, health, version) = (Arc::clone(&front), Arc::clone(&front), front);
    services
        .route("/metrics", get(async move || text(metrics.metrics())))
        .route("/health", get(async move || health.health()))
        .route("/version", get(async move || version.version()))
        .fallback(unoffered)
}

fn text(body: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], body).into_response()
}

fn json(code: StatusCode, body: String) -> Response {
    (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

impl Front {
    /// The store's, and what dashboards for etcd ask of a member.
    fn metrics(&self) -> String {
        let mut out = self.store.render_metrics();
        let version = &self.options.version;
        let more = [
            ("etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.", 1),
            ("etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.", 1),
            ("process_resident_memory_bytes", "Resident memory size in bytes.", resident_bytes()),
        ];
        for (name, help, value) in more {
            out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"));
        }
        let name = "etcd_server_version";
        out.push_str(&format!(
            "# HELP {name} Which version is running. 1 for 'server_version' label with current version.\n\
             # TYPE {name} gauge\n{name}{{server_version=\"{version}\"}} 1\n"
        ));
        out
    }

    /// As etcd: well if writes are taken.
    fn health(&self) -> Response {
        let alarms = self.store.status().alarms;
        let reason = match (alarms.unwritable, alarms.no_space) {
            (Some(_), _) => "the log cannot be written",
            (None, Some(_)) => "ALARM NOSPACE",
            (None, None) => return json(StatusCode::OK, r#"{"health":"true","reason":""}"#.to_string()),
        };
        let body = format!(r#"{{"health":"false","reason":"{reason}"}}"#);
        json(StatusCode::SERVICE_UNAVAILABLE, body)
    }

    fn version(&self) -> Response {
        let version = &self.options.version;
        let body = format!(r#"{{"etcdserver":"{version}","etcdcluster":"{version}"}}"#);
        json(StatusCode::OK, body)
    }
}

fn resident_bytes() -> u64 {
    // In pages, the second of its numbers.
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages
        * nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
            .ok()
            .flatten()
            .map_or(4096, i64::cast_unsigned)
}

async fn unoffered(uri: Uri, headers: HeaderMap) -> Response {
    let grpc = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if !grpc {
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    }
    let status = match uri.path().trim_start_matches('/').split_once('/') {
        // Clients that are given a user go on without one when they are told this.
        Some(("etcdserverpb.Auth", "Authenticate")) => {
            Status::new(Code::FailedPrecondition, "etcdserver: authentication is not enabled")
        }
        Some(("etcdserverpb.Auth", _)) => Status::unimplemented(
            "users and roles are not offered: a client's certificate opens all of the store",
        ),
        _ => Status::unimplemented(format!("{} is not offered", uri.path())),
    };
    status.into_http::<axum::body::Body>()
}
