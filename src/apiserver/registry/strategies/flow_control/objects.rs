//! Upstream's mandatory and suggested flow schemas and priority levels. The mandatory ones say what they say
//! here, whoever writes them; the others are what a cluster begins with.

use serde_json::{Value, json};

const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// Name, shares, lendable percent, then queues, hand size and length of levels whose requests wait.
type Level = (&'static str, i64, i64, Option<(i64, i64, i64)>);

const LEVELS: [Level; 7] = [
    ("catch-all", 5, 0, None),
    ("system", 30, 33, Some((64, 6, 50))),
    ("node-high", 40, 25, Some((64, 6, 50))),
    ("leader-election", 10, 0, Some((16, 4, 50))),
    ("workload-high", 40, 50, Some((128, 6, 50))),
    ("workload-low", 100, 90, Some((128, 6, 50))),
    ("global-default", 20, 50, Some((128, 6, 50))),
];

/// All levels, by name.
pub(crate) fn levels() -> Vec<(&'static str, Value)> {
    let exempt = json!({"type": "Exempt", "exempt": {"lendablePercent": 0, "nominalConcurrencyShares": 0}});
    let limited = LEVELS.map(|(name, shares, lendable, queuing)| {
        let response = match queuing {
            None => json!({"type": "Reject"}),
            Some((queues, hand, length)) => json!({
                "type": "Queue",
                "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length},
            }),
        };
        let limited = json!({
            "lendablePercent": lendable, "nominalConcurrencyShares": shares, "limitResponse": response,
        });
        (name, json!({"type": "Limited", "limited": limited}))
    });
    std::iter::once(("exempt", exempt)).chain(limited).collect()
}

fn groups(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "User", "user": {"name": name}})).collect()
}

/// All service accounts of the system's namespace.
fn system_accounts() -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}})
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster {
        rule["clusterScope"] = json!(true);
    }
    rule
}

/// Everything these callers ask for.
fn everything(subjects: Value) -> Value {
    json!([{
        "subjects": subjects,
        "resourceRules": [resources(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    }])
}

fn schema(level: &str, precedence: i64, method: &str, rules: Value) -> Value {
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": rules,
    });
    if !method.is_empty() {
        spec["distinguisherMethod"] = json!({"type": method});
    }
    spec
}

/// All schemas, by name.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    const BY_USER: &str = "ByUser";
    const BY_NAMESPACE: &str = "ByNamespace";
    let all = || groups(&["system:unauthenticated", "system:authenticated"]);
    let nodes = || groups(&["system:nodes"]);
    let manager = api::identity::USER_CONTROLLER_MANAGER;
    let scheduler = "system:kube-scheduler";
    let mut electors = users(&[manager, scheduler]);
    electors.push(system_accounts());
    let leases = |verbs: &[&str]| resources(verbs, "coordination.k8s.io", &["leases"], false);
    let probes = json!([{
        "subjects": all(),
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}],
    }]);
    let election = json!([{"subjects": electors, "resourceRules": [leases(&["get", "create", "update"])]}]);
    let health = json!([{
        "subjects": nodes(),
        "resourceRules": [resources(&["*"], "", &["nodes", "nodes/status"], true), leases(&["*"])],
    }]);
    let accounts = groups(&["system:serviceaccounts"]);
    vec![
        ("exempt", schema("exempt", 1, "", everything(groups(&["system:masters"])))),
        ("catch-all", schema("catch-all", 10_000, BY_USER, everything(all()))),
        ("system-nodes", schema("system", 500, BY_USER, everything(nodes()))),
        ("system-node-high", schema("node-high", 400, BY_USER, health)),
        ("probes", schema("exempt", 2, "", probes)),
        ("system-leader-election", schema("leader-election", 100, BY_USER, election)),
        (
            "kube-controller-manager",
            schema("workload-high", 800, BY_NAMESPACE, everything(json!(users(&[manager])))),
        ),
        (
            "kube-scheduler",
            schema("workload-high", 800, BY_NAMESPACE, everything(json!(users(&[scheduler])))),
        ),
        (
            "kube-system-service-accounts",
            schema("workload-high", 900, BY_NAMESPACE, everything(json!([system_accounts()]))),
        ),
        ("service-accounts", schema("workload-low", 9_000, BY_USER, everything(accounts))),
        ("global-default", schema("global-default", 9_900, BY_USER, everything(all()))),
    ]
}

fn find(list: Vec<(&'static str, Value)>, name: &str) -> Option<Value> {
    let mandatory = MANDATORY.contains(&name);
    list.into_iter().find(|(own, _)| mandatory && *own == name).map(|(_, spec)| spec)
}

/// What a mandatory schema must say; none for all others.
pub(super) fn fixed_schema(name: &str) -> Option<Value> {
    MANDATORY.contains(&name).then(schemas).and_then(|list| find(list, name))
}

/// What a mandatory level must say; none for all others.
pub(super) fn fixed_level(name: &str) -> Option<Value> {
    MANDATORY.contains(&name).then(levels).and_then(|list| find(list, name))
}
