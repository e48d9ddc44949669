//! `/healthz`, `/livez`, `/readyz`: one check each, all of them, `?verbose`, `?exclude=`.

use std::sync::Arc;

use axum::body::Body;
use embedded_store::Store;
use http::Response;

use super::answer;
use super::query::Query;
use crate::server::ApiServer;

struct Check {
    name: &'static str,
    ok: bool,
}

fn checks(server: &ApiServer, endpoint: &str) -> Vec<Check> {
    let bootstrapped = server.bootstrapped.is_open();
    let store = server.registry.store.revision() >= server.registry.store.compacted_revision()
        // Only readiness: a server that waits for others is not helped by a restart.
        && (endpoint != "readyz" || server.registry.store.is_led() != Some(false));
    let mut checks = vec![Check { name: "ping", ok: true }, Check { name: "etcd", ok: store }];
    if let Some(ok) = server.registry.config.encryption.plugins_are_well() {
        checks.push(Check { name: "kms-providers", ok });
    }
    if endpoint == "readyz" {
        let caught_up = server.registry.caches.revision() > 0;
        checks.push(Check { name: "informer-sync", ok: caught_up });
    }
    checks.push(Check { name: "poststarthook/start-system-namespaces-controller", ok: bootstrapped });
    checks.push(Check { name: "poststarthook/rbac/bootstrap-roles", ok: bootstrapped });
    if endpoint == "readyz" {
        checks.push(Check { name: "shutdown", ok: !server.stage.stopping().is_cancelled() });
    }
    checks
}

/// What `/readyz` looks at.
pub(crate) fn readiness(server: &ApiServer) -> Vec<(&'static str, bool)> {
    checks(server, "readyz").into_iter().map(|check| (check.name, check.ok)).collect()
}

/// Answers an endpoint (`readyz`) or one of its checks (`readyz/etcd`).
pub(super) fn answer(server: &Arc<ApiServer>, path: &str, query: &str) -> Response<Body> {
    let query = Query::parse(query).unwrap_or_default();
    let (endpoint, single) = path.split_once('/').unwrap_or((path, ""));
    let mut checks = checks(server, endpoint);
    if !single.is_empty() {
        return match checks.iter().find(|check| check.name == single) {
            Some(check) if check.ok => answer::text(200, "ok".into()),
            Some(check) => answer::text(500, format!("internal server error: {} failed\n", check.name)),
            None => answer::text(404, "404 page not found\n".into()),
        };
    }
    let excluded = query.all("exclude");
    checks.retain(|check| !excluded.contains(&check.name));
    let healthy = checks.iter().all(|check| check.ok);
    if healthy && !query.has("verbose") {
        return answer::text(200, "ok".into());
    }
    let mut text = String::new();
    for check in &checks {
        text.push_str(&match check.ok {
            true => format!("[+]{} ok\n", check.name),
            false => format!("[-]{} failed: reason withheld\n", check.name),
        });
    }
    text.push_str(&format!("{endpoint} check {}\n", if healthy { "passed" } else { "failed" }));
    answer::text(if healthy { 200 } else { 500 }, text)
}
