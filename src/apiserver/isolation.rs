//! Who may do what, all of it: two nodes, three tenants, and every kind of caller there is ask for every verb
//! on every resource and subresource that is served, over HTTP, and the answers are compared with upstream's
//! policy.
//!
//! The policy is written down (`policy.txt`), not computed: what the server works out from its own manifests
//! is what is on trial. A kind that is added without a line there belongs to the administrator alone, and the
//! suite says so if not. Requests are rehearsals (`dryRun`) on objects that exist, so that one answer does
//! not depend on another. Cast, objects and questions are one file, because none makes sense without the
//! others.

use std::collections::{BTreeMap, BTreeSet};

use api::kinds::{NAMESPACE, NODE, POD, ROLE_BINDING, SECRET, SERVICE_ACCOUNT};
use api::{CreateOptions, Identity, KindRow};
use axum::body::Body;
use client::ObjectRef;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::testing::{Harness, config, deployment, pod};

const POLICY: &str = include_str!("isolation/policy.txt");
const TENANTS: [&str; 3] = ["tenant-a", "tenant-b", "tenant-c"];
const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const ON_PARTS: [&str; 5] = ["create", "delete", "get", "patch", "update"];
const ON_COLLECTIONS: [&str; 4] = ["create", "deletecollection", "list", "watch"];
const SCOPES: [&str; 3] = ["own", "other", "cluster"];
/// The token of all agents, and one that was made for a machine.
const JOIN_TOKEN: &str = "the token of the agents";
const BOOTSTRAP_TOKEN: &str = "abcdef.0123456789abcdef";
/// The name of an object of each kind in each tenant.
const THING: &str = "thing";
/// Paths that are no resources, and who may not read them.
const PATHS: [(&str, &[&str]); 11] = [
    ("/", ALL),
    ("/api", &["anonymous"]),
    ("/apis", &["anonymous"]),
    ("/openapi/v3", &["anonymous"]),
    ("/version", &[]),
    ("/healthz", &[]),
    ("/livez", &[]),
    ("/readyz", &[]),
    ("/metrics", ALL),
    ("/.well-known/openid-configuration", NO_ACCOUNTS),
    ("/openid/v1/jwks", NO_ACCOUNTS),
];
/// The keys of the tokens are for those who have such tokens.
const NO_ACCOUNTS: &[&str] = &["admin", "editor", "viewer", "agent", "anonymous", "node"];
const ALL: &[&str] = &["admin", "editor", "viewer", "account", "agent", "anonymous", "node"];

/// How a request fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallOutcome {
    /// Authorized and admitted; what the request came to then is another matter.
    Let,
    /// Authorized, and refused by admission.
    Refused,
    Denied,
}

struct Caller {
    /// As the policy calls it.
    who: &'static str,
    identity: Identity,
    own: &'static str,
    other: &'static str,
    /// The node that is the caller, and another.
    nodes: [&'static str; 2],
}

type Policy = BTreeMap<(String, String, String), BTreeMap<&'static str, CallOutcome>>;

fn policy() -> Policy {
    let mut policy = Policy::new();
    for line in POLICY.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let mut words = line.split_whitespace();
        let mut word = || words.next().unwrap_or_else(|| panic!("too few words: {line}")).to_string();
        let (resource, who, scope) = (word(), word(), word());
        let scopes: &[&str] = if scope == "any" { &["own", "other"] } else { &[scope.as_str()] };
        let verbs: Vec<&str> = words.collect();
        for scope in scopes {
            let cell = policy.entry((resource.clone(), who.clone(), scope.to_string())).or_default();
            for verb in VERBS {
                let reads = matches!(verb, "get" | "list" | "watch");
                let named = |one: &&&str| match **one {
                    "all" => true,
                    "read" => reads,
                    "write" => !reads,
                    own => own == verb,
                };
                if verbs.iter().any(|one| one.strip_prefix('!') == Some(verb)) {
                    cell.insert(verb, CallOutcome::Refused);
                } else if verbs.iter().find(named).is_some() {
                    cell.insert(verb, CallOutcome::Let);
                }
            }
        }
    }
    policy
}

fn job(name: &str) -> Value {
    let mut template = deployment(name)["spec"]["template"].take();
    template["spec"]["restartPolicy"] = json!("Never");
    json!({"template": template})
}

/// A body that names its object and nothing else, but for kinds that could not exist so.
fn body(row: &KindRow, name: &str) -> Value {
    let mut body = match &*row.kind {
        "Deployment" => deployment(name),
        "ReplicaSet" | "StatefulSet" => deployment(name),
        "DaemonSet" => {
            let mut body = deployment(name);
            body["spec"].as_object_mut().unwrap().remove("replicas");
            body
        }
        "ReplicationController" => {
            json!({"spec": {"template": deployment(name)["spec"]["template"]}})
        }
        "PodTemplate" => json!({"template": deployment(name)["spec"]["template"]}),
        "ControllerRevision" => json!({"revision": 1, "data": {}}),
        "Job" => json!({"spec": job(name)}),
        "CronJob" => json!({"spec": {"schedule": "@daily", "jobTemplate": {"spec": job(name)}}}),
        "HorizontalPodAutoscaler" => json!({"spec": {"maxReplicas": 2,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}}}),
        // As it is there: a node may not take its own taints away.
        "Node" => {
            json!({"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}})
        }
        "Service" => json!({"spec": {"ports": [{"port": 80}]}}),
        "PersistentVolumeClaim" => json!({
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }),
        "CSIStorageCapacity" => json!({"storageClassName": "thing"}),
        "Ingress" => {
            json!({"spec": {"defaultBackend": {"service": {"name": "thing", "port": {"number": 80}}}}})
        }
        "EndpointSlice" => json!({"addressType": "IPv4", "endpoints": []}),
        "RoleBinding" | "ClusterRoleBinding" => json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        }),
        _ => json!({}),
    };
    body["apiVersion"] = json!(row.api_version());
    body["kind"] = json!(row.kind);
    body["metadata"] = json!({"name": name});
    body
}

/// Tenants with an object of each kind, a pod of the first two on a node of its own, and the callers.
async fn cluster() -> (Harness, Vec<Caller>) {
    let mut config = config();
    config.join_token = Some(tokio::sync::watch::channel(JOIN_TOKEN.to_string()).1);
    let h = Harness::with(config).await;
    for node in ["n1", "n2"] {
        h.create(&NODE, None, json!({"metadata": {"name": node}})).await;
    }
    for (tenant, node) in TENANTS.into_iter().zip(["n1", "n2", ""]) {
        let here = Some(tenant);
        h.create(&NAMESPACE, None, json!({"metadata": {"name": tenant}})).await;
        for account in ["default", THING] {
            h.create(&SERVICE_ACCOUNT, here, json!({"metadata": {"name": account}})).await;
        }
        let mut thing = pod(THING);
        thing["spec"]["nodeName"] = json!(node);
        thing["spec"]["serviceAccountName"] = json!(THING);
        thing["spec"]["volumes"] = json!([
            {"name": "s", "secret": {"secretName": THING}},
            {"name": "c", "configMap": {"name": THING}},
            {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        ]);
        h.create(&POD, here, thing).await;
        for row in api::kinds::ALL {
            let done = matches!(&*row.kind, "Pod" | "ServiceAccount") || row.stored_as.is_some();
            if row.namespaced() && row.storage.is_some() && !done {
                let mut thing = body(row, THING);
                if row.kind == "Event" {
                    thing["involvedObject"] = json!({"namespace": tenant});
                }
                h.create(row, here, thing).await;
            }
        }
    }
    let mut callers = Vec::new();
    for (who, role, own, other) in [
        ("admin", "admin", TENANTS[0], TENANTS[1]),
        ("editor", "edit", TENANTS[1], TENANTS[2]),
        ("viewer", "view", TENANTS[2], TENANTS[0]),
    ] {
        let binding = json!({"metadata": {"name": who},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": who}]});
        h.create(&ROLE_BINDING, Some(own), binding).await;
        callers.push(Caller { who, identity: Identity::user(who, []), own, other, nodes: ["n1", "n2"] });
    }
    let (id, secret) = BOOTSTRAP_TOKEN.split_once('.').unwrap();
    let data = json!({"token-id": id, "token-secret": secret, "usage-bootstrap-authentication": "true"});
    let name = format!("bootstrap-token-{id}");
    let secret =
        json!({"metadata": {"name": name}, "type": "bootstrap.kubernetes.io/token", "stringData": data});
    h.create(&SECRET, Some("kube-system"), secret).await;
    // These come with a token, so that what is on trial is what authentication makes of it.
    let at = ObjectRef::new(Some(TENANTS[0]), "default").sub("token");
    let token = h.api.create_sub(&SERVICE_ACCOUNT, at, json!({}), &CreateOptions::default()).await.unwrap();
    let token = token["status"]["token"].as_str().unwrap();
    for (who, token) in [("account", token), ("agent", JOIN_TOKEN), ("agent", BOOTSTRAP_TOKEN)] {
        let identity = h.server.registry.authenticator.authorization(&format!("Bearer {token}")).unwrap();
        let [own, other, _] = TENANTS;
        callers.push(Caller { who, identity, own, other, nodes: ["n1", "n2"] });
    }
    let [own, other, _] = TENANTS;
    callers.push(Caller {
        who: "anonymous",
        identity: Identity::anonymous(),
        own,
        other,
        nodes: ["n1", "n2"],
    });
    callers.push(Caller { who: "node", identity: Identity::node("n1"), own, other, nodes: ["n1", "n2"] });
    let (own, other) = (other, own);
    callers.push(Caller { who: "node", identity: Identity::node("n2"), own, other, nodes: ["n2", "n1"] });
    (h, callers)
}

type Place = (Option<&'static str>, Option<&'static str>);

/// Where a verb on a resource goes in a scope: the namespace and the name; none where it makes no sense.
fn place(caller: &Caller, row: &KindRow, part: Option<&str>, verb: &str, scope: &str) -> Option<Place> {
    let collective = ON_COLLECTIONS.contains(&verb) && part.is_none();
    let index = usize::from(scope == "other");
    let tenant = [caller.own, caller.other][index];
    let named = |name: &'static str| Some(name).filter(|_| !collective);
    match (&*row.plural, scope) {
        (_, "cluster") if row.namespaced() => collective.then_some((None, None)),
        _ if row.namespaced() => Some((Some(tenant), named(THING))),
        // These are in a scope themselves, and their collections are everybody's.
        ("nodes" | "namespaces", "cluster") => collective.then_some((None, None)),
        ("nodes" | "namespaces", _) if collective => None,
        ("nodes", _) => Some((None, Some(caller.nodes[index]))),
        ("namespaces", _) => Some((None, Some(tenant))),
        (_, "cluster") => Some((None, named(THING))),
        _ => None,
    }
}

async fn ask(h: &Harness, caller: &Caller, method: &str, path: &str, body: Option<Value>) -> (u16, String) {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let body = body.map_or(Body::empty(), |body| Body::from(body.to_string()));
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    let response = h.server.answer(caller.identity.clone(), request.body(body).unwrap()).await;
    let code = response.status().as_u16();
    if code < 400 {
        // A watch's body does not end, and what is in it is not judged here.
        return (code, String::new());
    }
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8_lossy(&bytes).into_owned())
}

async fn outcome(
    h: &Harness,
    caller: &Caller,
    row: &KindRow,
    part: Option<&str>,
    verb: &str,
    (namespace, name): Place,
) -> (CallOutcome, String) {
    let mut path = row.collection_path(namespace);
    for piece in name.into_iter().chain(part) {
        path.push('/');
        path.push_str(piece);
    }
    let (method, query) = match verb {
        "create" => ("POST", "?dryRun=All"),
        "delete" | "deletecollection" => ("DELETE", "?dryRun=All"),
        "patch" => ("PATCH", "?dryRun=All"),
        "update" => ("PUT", "?dryRun=All"),
        "watch" => ("GET", "?watch=true"),
        _ => ("GET", ""),
    };
    let body = match verb {
        "patch" => Some(json!({})),
        "create" | "update" if part.is_none() => Some(body(row, name.unwrap_or("new"))),
        "create" | "update" => {
            Some(part_body(row, part.unwrap_or(""), name.unwrap_or(""), h, namespace).await)
        }
        _ => None,
    };
    let (code, text) = ask(h, caller, method, &format!("{path}{query}"), body).await;
    let denied = format!("cannot {verb} resource");
    let outcome = match code {
        403 if text.contains(&denied) => CallOutcome::Denied,
        403 => CallOutcome::Refused,
        _ => CallOutcome::Let,
    };
    (outcome, format!("{method} {path}: {code} {text}"))
}

/// A body for a subresource, so far as admission would refuse an empty one.
async fn part_body(row: &KindRow, part: &str, name: &str, h: &Harness, namespace: Option<&str>) -> Value {
    match part {
        "token" => {
            let uid = h.api.get(&POD, ObjectRef::new(namespace, THING)).await.unwrap().uid().to_string();
            let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": THING, "uid": uid});
            json!({"spec": {"audiences": [], "boundObjectRef": bound}})
        }
        "eviction" | "binding" => json!({"metadata": {"name": name}}),
        _ => body(row, name),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_caller_may_do_what_upstreams_policy_says_and_nothing_else() {
    let (h, callers) = cluster().await;
    let policy = policy();
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut asked = 0;
    for row in api::kinds::ALL {
        let parts = row.subresources.iter().map(|sub| Some(&*sub.name));
        for part in std::iter::once(None).chain(parts) {
            let mut resource =
                format!("{}/{}", if row.group.is_empty() { "core" } else { &row.group }, row.version);
            for piece in std::iter::once(&*row.plural).chain(part) {
                resource.push('/');
                resource.push_str(piece);
            }
            let verbs: &[&str] = if part.is_some() { &ON_PARTS } else { &VERBS };
            for caller in &callers {
                for scope in SCOPES {
                    let key = (resource.clone(), caller.who.to_string(), scope.to_string());
                    let cell = policy.get(&key);
                    for verb in verbs {
                        let Some(at) = place(caller, row, part, verb, scope) else { continue };
                        let want =
                            cell.and_then(|cell| cell.get(verb)).copied().unwrap_or(CallOutcome::Denied);
                        let (found, answer) = outcome(&h, caller, row, part, verb, at).await;
                        asked += 1;
                        if found != want {
                            let (user, who) = (&caller.identity.name, caller.who);
                            wrong.push(format!(
                                "{user} ({who}, {scope}) {verb} {resource}: {found:?}, not {want:?}: {answer}"
                            ));
                        }
                    }
                    used.insert(key);
                }
            }
        }
    }
    let unused: Vec<_> = policy.keys().filter(|key| !used.contains(*key)).collect();
    assert!(unused.is_empty(), "the policy speaks of what is not served: {unused:?}");
    assert!(wrong.is_empty(), "{} of {asked} requests:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked > 5000, "only {asked} requests were made");
    h.stop().await;
}

#[tokio::test]
async fn paths_that_are_no_resources_are_open_to_whom_upstream_opens_them() {
    let (h, callers) = cluster().await;
    for (path, closed_to) in PATHS {
        for caller in &callers {
            let (code, text) = ask(&h, caller, "GET", path, None).await;
            let want = if closed_to.contains(&caller.who) { 403 } else { 200 };
            assert_eq!(code, want, "{} {path}: {text}", caller.who);
        }
    }
    h.stop().await;
}

/// What a node may read follows its pods, one by one and by selector.
#[tokio::test]
async fn a_node_reads_what_its_own_pods_name() {
    let (h, callers) = cluster().await;
    let [n1, n2] = ["n1", "n2"].map(|name| {
        let user = format!("system:node:{name}");
        callers.iter().find(|caller| caller.identity.name == user).unwrap()
    });
    let stranger = Caller { who: "node", identity: Identity::node(""), own: "", other: "", nodes: ["", ""] };
    for (path, for_n1, for_n2) in [
        ("namespaces/tenant-a/pods/thing", 200, 403),
        ("namespaces/tenant-b/pods/thing", 403, 200),
        ("namespaces/tenant-c/pods/thing", 403, 403),
        ("pods?fieldSelector=spec.nodeName%3Dn1", 200, 403),
        ("pods?fieldSelector=spec.nodeName%3Dn2", 403, 200),
        ("pods?fieldSelector=spec.nodeName!%3Dn1", 403, 403),
        ("pods?fieldSelector=spec.nodeName%3D", 403, 403),
        ("namespaces/tenant-a/pods?fieldSelector=metadata.name%3Dthing", 200, 403),
        ("namespaces/tenant-a/secrets/thing", 200, 403),
        ("namespaces/tenant-a/secrets?fieldSelector=metadata.name%3Dthing", 200, 403),
        ("namespaces/tenant-a/secrets?fieldSelector=metadata.name!%3Dthing", 403, 403),
        ("namespaces/tenant-a/secrets/other", 403, 403),
        ("secrets?fieldSelector=metadata.name%3Dthing", 403, 403),
        ("namespaces/tenant-c/secrets/thing", 403, 403),
        ("namespaces/tenant-a/configmaps/thing", 200, 403),
        ("watch/namespaces/tenant-a/secrets/thing", 200, 403),
        ("watch/namespaces/tenant-a/secrets", 403, 403),
        ("nodes/n1", 200, 403),
        ("nodes?fieldSelector=metadata.name%3Dn1", 200, 403),
        ("nodes/n1/status", 403, 403),
        ("nodes/n1/proxy/pods", 403, 403),
    ] {
        for (caller, want) in [(n1, for_n1), (n2, for_n2), (&stranger, 403)] {
            let (code, text) = ask(&h, caller, "GET", &format!("/api/v1/{path}"), None).await;
            assert_eq!(code, want, "{} {path}: {text}", caller.identity.name);
        }
    }
    let lease = |node: &str| json!({"metadata": {"name": node}, "spec": {"holderIdentity": node}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    for (caller, node, want) in [(n1, "n1", 201), (n1, "n2", 403), (n2, "n2", 201), (n2, "n1", 403)] {
        let (code, text) = ask(&h, caller, "POST", leases, Some(lease(node))).await;
        assert_eq!(code, want, "{} {node}: {text}", caller.identity.name);
    }
    for (method, node, want) in
        [("GET", "n1", 200), ("GET", "n2", 403), ("DELETE", "n2", 403), ("DELETE", "n1", 200)]
    {
        let (code, text) = ask(&h, n1, method, &format!("{leases}/{node}"), None).await;
        assert_eq!(code, want, "{method} {node}: {text}");
    }
    h.stop().await;
}
