//! `/healthz`, `/livez`, `/readyz`: one check each, all of them, `?verbose`, `?exclude=`.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use embedded_store::Store;
use http::Response;

use super::answer;
use super::query::Query;
use crate::server::ApiServer;

struct Check {
    name: Cow<'static, str>,
    ok: bool,
}

/// What the server begins with before it is ready, under upstream's names for it. All of it is behind one
/// latch; what upstream starts beside and there is none of here has no name.
const BOOT_SEQUENCE: [&str; 21] = [
    "start-apiserver-admission-initializer",
    "generic-apiserver-start-informers",
    "priority-and-fairness-config-consumer",
    "priority-and-fairness-filter",
    "storage-object-count-tracker-hook",
    "start-apiextensions-informers",
    "start-apiextensions-controllers",
    "crd-informer-synced",
    "start-system-namespaces-controller",
    "start-cluster-authentication-info-controller",
    "start-service-ip-repair-controllers",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "priority-and-fairness-config-producer",
    "bootstrap-controller",
    "start-kubernetes-service-cidr-controller",
    "start-kube-aggregator-informers",
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-registration-controller",
    "apiservice-discovery-controller",
];

/// The check that stands for those of the boot sequence.
const BOOTSTRAP: &str = "poststarthook/rbac/bootstrap-roles";

fn checks(server: &ApiServer, endpoint: &str) -> Vec<Check> {
    let bootstrapped = server.bootstrapped.is_open();
    let store = server.registry.store.revision() >= server.registry.store.compacted_revision();
    let check = |name: &'static str, ok| Check { name: name.into(), ok };
    let mut checks = vec![check("ping", true), check("etcd", store)];
    let is_readiness = endpoint == "readyz";
    if is_readiness {
        // A server that waits for others is not helped by a restart.
        checks.push(check("etcd-readiness", store && server.registry.store.is_led() != Some(false)));
    }
    if let Some(ok) = server.registry.config.encryption.plugins_are_well() {
        checks.push(check("kms-providers", ok));
    }
    if is_readiness {
        checks.push(check("informer-sync", server.registry.caches.revision() > 0));
    }
    let hook = |name: &&str| Check { name: format!("poststarthook/{name}").into(), ok: bootstrapped };
    checks.extend(BOOT_SEQUENCE.iter().map(hook));
    checks.push(check("autoregister-completion", bootstrapped));
    if is_readiness {
        checks.push(check("shutdown", !server.stage.stopping().is_cancelled()));
    }
    checks
}

/// What `/readyz` looks at; of what stands and falls together one.
pub(crate) fn readiness(server: &ApiServer) -> Vec<(Cow<'static, str>, bool)> {
    let checks = checks(server, "readyz").into_iter();
    let own = checks.filter(|check| check.name == BOOTSTRAP || !check.name.starts_with("poststarthook/"));
    own.map(|check| (check.name, check.ok)).collect()
}

/// Answers an endpoint (`readyz`) or one of its checks (`readyz/etcd`).
pub(super) fn answer(server: &Arc<ApiServer>, path: &str, query: &str) -> Response<Body> {
    let query = Query::parse(query).unwrap_or_default();
    let (endpoint, single) = path.split_once('/').unwrap_or((path, ""));
    let checks = checks(server, endpoint);
    if !single.is_empty() {
        return match checks.iter().find(|check| check.name == single) {
            Some(check) if check.ok => answer::text(200, "ok".into()),
            Some(check) => answer::text(500, format!("internal server error: {} failed\n", check.name)),
            None => answer::text(404, "404 page not found\n".into()),
        };
    }
    let mut excluded: BTreeSet<&str> = query.all("exclude").into_iter().collect();
    let (mut text, mut healthy) = (String::new(), true);
    let known = ["healthz", "livez", "readyz"].into_iter().find(|known| *known == endpoint);
    for check in &checks {
        let name = &check.name;
        if let Some(endpoint) = known.filter(|_| !excluded.contains(&**name)) {
            server.metrics.health(name, endpoint, check.ok);
        }
        text.push_str(&match check.ok {
            _ if excluded.remove(&**name) => format!("[+]{name} excluded: ok\n"),
            true => format!("[+]{name} ok\n"),
            false => format!("[-]{name} failed: reason withheld\n"),
        });
        healthy &= check.ok || text.ends_with("excluded: ok\n");
    }
    if !excluded.is_empty() {
        let names: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
        let names = names.join(",");
        text.push_str(&format!("warn: some health checks cannot be excluded: no matches for {names}\n"));
    }
    if healthy && !query.has("verbose") {
        return answer::text(200, "ok".into());
    }
    text.push_str(&format!("{endpoint} check {}\n", if healthy { "passed" } else { "failed" }));
    answer::text(if healthy { 200 } else { 500 }, text)
}
