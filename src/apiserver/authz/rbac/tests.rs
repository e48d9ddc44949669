//! The index against what the objects say, what keeping it costs, and when changes count.

use std::collections::BTreeSet;
use std::time::Duration;

use api::KindRow;
use api::kinds::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING};
use bytes::Bytes;
use embedded_store::{MemoryStore, Op, Store, Txn};
use serde_json::{Value, json};

use super::scope::Cost;
use super::*;
use crate::registry::Resources;

/// Longer than anything here takes.
const TIMEOUT: Duration = Duration::from_secs(20);

struct World {
    store: Arc<MemoryStore>,
    caches: Arc<Caches>,
    rbac: Rbac,
}

impl World {
    fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new()))
    }

    fn over(store: Arc<MemoryStore>) -> Self {
        let caches = Caches::new();
        let _ = Resources::built_in(&caches, &[]);
        caches.fill(store.as_ref()).unwrap();
        World { rbac: Rbac::new(&caches), store, caches }
    }

    /// As by another server: nobody here takes it in before somebody asks.
    async fn write(&self, row: &KindRow, namespace: Option<&str>, name: &str, body: Option<Value>) {
        let key = Bytes::from(row.storage_key(namespace, name).unwrap());
        let op = match body {
            Some(mut tree) => {
                tree["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
                tree["kind"] = json!(row.kind);
                tree["metadata"]["name"] = json!(name);
                if let Some(namespace) = namespace {
                    tree["metadata"]["namespace"] = json!(namespace);
                }
                Op::Put { key, value: api::object::encode(tree).unwrap(), lease: 0 }
            }
            None => Op::Delete { key, range_end: None },
        };
        self.store.txn(Txn { success: vec![op], ..Txn::default() }).await.unwrap();
    }

    fn may_get(&self, user: &str, resource: &str, namespace: &str) -> bool {
        let user = Identity::user(user, []);
        let attributes = Attributes {
            user: &user,
            verb: "get",
            group: "",
            resource,
            subresource: None,
            namespace: Some(namespace),
            name: None,
            fields: None,
            path: "",
        };
        self.rbac.authorize(&attributes).is_ok()
    }

    /// What was done since `before`, once everything that a decision in a namespace needs is there.
    fn work_since(&self, before: Cost, namespace: &str) -> Cost {
        self.may_get("nobody", "pods", namespace);
        let after = self.rbac.index.cost();
        Cost {
            objects: after.objects - before.objects,
            subjects: after.subjects - before.subjects,
            roles: after.roles - before.roles,
        }
    }
}

fn held(rbac: &Rbac, user: &Identity, namespace: Option<&str>) -> BTreeSet<Vec<String>> {
    let found = rbac.index.grants(user, namespace).into_iter();
    found
        .map(|found| match found {
            Found::Rules(rules) => oracle::printed(&rules),
            Found::Nothing(why) => vec![why],
        })
        .collect()
}

fn binding(role: (&str, &str), users: &[String]) -> Value {
    let subject = |name: &String| match name.strip_prefix("sa-") {
        Some(name) => json!({ "kind": "ServiceAccount", "name": name }),
        None if name.starts_with("group-") => json!({ "kind": "Group", "name": name }),
        None => json!({ "kind": "User", "name": name }),
    };
    let subjects: Vec<Value> = users.iter().map(subject).collect();
    let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1 });
    json!({ "roleRef": role, "subjects": subjects })
}

fn reading(resource: &str) -> Value {
    json!({ "rules": [{ "apiGroups": [""], "resources": [resource], "verbs": ["get"] }] })
}

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}

async fn change(world: &World, numbers: &mut Numbers) {
    let namespace = format!("ns-{}", numbers.below(3));
    let name = format!("x-{}", numbers.below(4));
    let mut body = reading(&format!("r{}", numbers.below(9)));
    let label = |n: u64| json!({ format!("take-{n}"): "true" });
    let goes = numbers.below(4) == 0;
    let users: Vec<String> = (0..numbers.below(4))
        .map(|_| format!("{}{}", ["user-", "group-", "sa-"][numbers.below(3) as usize], numbers.below(3)))
        .collect();
    let role = format!("x-{}", numbers.below(5));
    let kind = ["Role", "ClusterRole"][numbers.below(2) as usize];
    let (row, namespace, body) = match numbers.below(4) {
        0 => (&ROLE, Some(&*namespace), body),
        1 => {
            body["metadata"] = json!({ "labels": label(numbers.below(3)) });
            if numbers.below(2) == 0 {
                let selector = json!({ "matchLabels": label(numbers.below(3)) });
                body["aggregationRule"] = json!({ "clusterRoleSelectors": [selector] });
            }
            (&CLUSTER_ROLE, None, body)
        }
        2 => (&CLUSTER_ROLE_BINDING, None, binding(("ClusterRole", &role), &users)),
        _ => (&ROLE_BINDING, Some(&*namespace), binding((kind, &role), &users)),
    };
    world.write(row, namespace, &name, (!goes).then_some(body)).await;
}

#[tokio::test]
async fn an_index_that_takes_changes_in_decides_as_one_made_anew_and_as_the_objects_say() {
    let mut numbers = Numbers(7);
    let world = World::new();
    let users: Vec<Identity> = (0..3)
        .flat_map(|n| {
            let accounts = (0..3).map(move |ns| format!("system:serviceaccount:ns-{ns}:{n}"));
            let people = [Identity::user(&format!("user-{n}"), ["group-0", "group-2"])];
            people.into_iter().chain(accounts.map(|name| Identity::user(&name, ["group-1"])))
        })
        .collect();
    let mut granted = 0;
    for round in 0..400 {
        for _ in 0..=numbers.below(5) {
            change(&world, &mut numbers).await;
        }
        // Nobody asks about some scopes for a while.
        let namespaces = [None, Some("ns-0"), Some("ns-1"), Some("ns-2"), Some("ns-3")];
        let asked = &namespaces[numbers.below(5) as usize..];
        if numbers.below(8) == 0 {
            world.rbac.sweep();
        }
        let anew = (round % 8 == 0).then(|| Rbac::new_of(&world));
        for user in &users {
            for &namespace in asked {
                let want = oracle::grants(&world.caches, user, namespace);
                granted += want.len();
                let at = format!("round {round}: {user:?} {namespace:?}");
                assert_eq!(held(&world.rbac, user, namespace), want, "{at}");
                if let Some(anew) = &anew {
                    assert_eq!(held(anew, user, namespace), want, "anew, {at}");
                }
            }
        }
    }
    assert!(granted > 1000, "{granted} grants are too few to compare");
    world.rbac.sweep();
    let anew = Rbac::new_of(&world);
    anew.sweep();
    assert_eq!(world.rbac.index.namespaces(), anew.index.namespaces(), "empty scopes are forgotten");
}

impl Rbac {
    /// A second one over the same store, as after a restart.
    fn new_of(world: &World) -> Rbac {
        World::over(world.store.clone()).rbac
    }
}

#[tokio::test]
async fn a_write_costs_what_has_changed_whatever_else_there_is() {
    let world = World::new();
    let crowd: Vec<String> = (0..2000).map(|n| format!("user-{n}")).collect();
    for n in 0..10 {
        let name = format!("x-{n}");
        world.write(&ROLE_BINDING, Some("full"), &name, Some(binding(("ClusterRole", "view"), &crowd))).await;
        let labels = json!({ "metadata": { "labels": { "n": name } }, "rules": [] });
        world.write(&CLUSTER_ROLE, None, &name, Some(labels)).await;
    }
    let one = ["sa-a".to_string(), "sa-b".to_string()];
    let small = || Some(binding(("Role", "r"), &one));
    world.write(&ROLE_BINDING, Some("mine"), "b", small()).await;
    // Nobody pays for the crowd of a namespace that he does not ask about.
    let mut before = Cost::default();
    let mut work = |namespace: &str| {
        let work = world.work_since(before, namespace);
        before = world.rbac.index.cost();
        work
    };
    assert_eq!(work("mine"), Cost { objects: 11, subjects: 2, roles: 10 });
    assert_eq!(work("full"), Cost { objects: 10, subjects: 20_000, roles: 0 });
    world.write(&ROLE_BINDING, Some("mine"), "b", small()).await;
    world.write(&ROLE_BINDING, Some("mine"), "c", small()).await;
    assert_eq!(work("mine"), Cost { objects: 2, subjects: 2 + 2 + 2, roles: 0 });
    // A small binding beside the large ones.
    world.write(&ROLE_BINDING, Some("full"), "b", small()).await;
    assert_eq!(work("full"), Cost { objects: 1, subjects: 2, roles: 0 });
    // A large one: as much as it holds.
    world.write(&ROLE_BINDING, Some("full"), "x-0", None).await;
    assert_eq!(work("full"), Cost { objects: 1, subjects: 2000, roles: 0 });
    // A hundred changes of one object that nobody has asked for are one.
    for _ in 0..100 {
        world.write(&ROLE_BINDING, Some("mine"), "b", small()).await;
    }
    assert_eq!(work("mine"), Cost { objects: 1, subjects: 4, roles: 0 });
    // A role is replaced in one place, however many are bound to it.
    world.write(&CLUSTER_ROLE, None, "view", Some(reading("pods"))).await;
    assert_eq!(work("full"), Cost { objects: 1, subjects: 0, roles: 1 });
    assert!(world.may_get("user-7", "pods", "full"));
    // Aggregation costs the roles that are taken in, and a role that nobody takes in itself.
    let selector = json!({ "clusterRoleSelectors": [{ "matchLabels": { "n": "x-7" } }] });
    world.write(&CLUSTER_ROLE, None, "sum", Some(json!({ "aggregationRule": selector }))).await;
    assert_eq!(work("full"), Cost { objects: 1, subjects: 0, roles: 2 });
    world.write(&CLUSTER_ROLE, None, "x-8", Some(reading("pods"))).await;
    assert_eq!(work("full"), Cost { objects: 1, subjects: 0, roles: 1 });
    world.write(&CLUSTER_ROLE, None, "x-7", None).await;
    assert_eq!(work("full"), Cost { objects: 1, subjects: 0, roles: 1 });
}

#[tokio::test]
async fn what_can_be_read_counts() {
    let h = crate::testing::Harness::start().await;
    let user = Identity::user("u", []);
    let of_user = client::ApiFor::as_user(&*h.server, user.clone());
    let get = || of_user.get(&api::kinds::CONFIG_MAP, client::ObjectRef::new(Some("default"), "a"));
    h.config_map("a").await;
    assert_eq!(get().await.unwrap_err().code(), 403);
    let mut watch = h.watch(&ROLE_BINDING, &api::WatchOptions::default()).await;
    h.create(
        &ROLE,
        Some("default"),
        json!({ "metadata": { "name": "r" }, "rules": reading("configmaps")["rules"] }),
    )
    .await;
    let mut body = binding(("Role", "r"), &["u".to_string()]);
    body["metadata"] = json!({ "name": "b" });
    // A write takes its change in before it is answered, so that nobody else need.
    let before = h.server.registry.authorizer.rbac().index.cost();
    h.create(&ROLE_BINDING, Some("default"), body).await;
    let after = h.server.registry.authorizer.rbac().index.cost();
    assert_eq!(after.subjects - before.subjects, 1);
    get().await.unwrap();
    assert_eq!(watch.next().await, "ADDED b");
    // What comes past this server's own writes counts as soon as it is in the caches.
    let key = Bytes::from(ROLE_BINDING.storage_key(Some("default"), "b").unwrap());
    let gone = Txn { success: vec![Op::Delete { key, range_end: None }], ..Txn::default() };
    h.store.txn(gone).await.unwrap();
    assert_eq!(watch.next().await, "DELETED b");
    assert_eq!(get().await.unwrap_err().code(), 403);
    h.stop().await;
}

#[tokio::test]
async fn a_server_that_has_just_started_knows_all_bindings() {
    let world = World::new();
    world.write(&ROLE, Some("a"), "reader", Some(reading("pods"))).await;
    world.write(&ROLE_BINDING, Some("a"), "b", Some(binding(("Role", "reader"), &["u".into()]))).await;
    let again = World::over(world.store.clone());
    assert!(again.may_get("u", "pods", "a"));
    assert!(!again.may_get("u", "pods", "b"));
}

#[tokio::test]
async fn what_nobody_asks_for_does_not_gather() {
    let world = World::new();
    world.write(&ROLE_BINDING, Some("a"), "kept", Some(binding(("Role", "r"), &["u".into()]))).await;
    world.may_get("u", "pods", "a");
    for n in 0..500 {
        let name = format!("x-{n}");
        world.write(&ROLE_BINDING, Some("a"), &name, Some(binding(("Role", "r"), &["u".into()]))).await;
        world.write(&ROLE_BINDING, Some("a"), &name, None).await;
        world.write(&ROLE_BINDING, Some("a"), "kept", Some(binding(("Role", "r"), &["v".into()]))).await;
        world.write(&ROLE, Some(&name), "r", Some(reading("pods"))).await;
        world.write(&ROLE, Some(&name), "r", None).await;
    }
    assert_eq!(world.rbac.index.at(Some("a")).pending_changes(), 1);
    world.write(&ROLE_BINDING, Some("a"), "kept", None).await;
    world.rbac.sweep();
    assert_eq!(world.rbac.index.namespaces(), 0, "nothing is left of namespaces without roles and bindings");
}

#[test]
fn decisions_that_wait_for_a_large_binding_hold_nobody_up() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let crowd: Vec<String> = (0..3000).map(|n| format!("user-{n}")).collect();
    let world = Arc::new(World::new());
    runtime.block_on(async {
        world.write(&ROLE, Some("full"), "r", Some(reading("pods"))).await;
        world.write(&ROLE_BINDING, Some("full"), "b", Some(binding(("Role", "r"), &crowd))).await;
        world.write(&ROLE_BINDING, Some("mine"), "b", Some(binding(("Role", "r"), &crowd[..1]))).await;
    });
    let place = world.rbac.index.at(Some("full"));
    let working = place.stall();
    let asking = world.clone();
    let decision = runtime.spawn(async move { asking.may_get("user-7", "pods", "full") });
    let others = world.clone();
    // On the only thread of the reactor, behind the one that waits.
    let other = runtime.spawn(async move { others.may_get("user-7", "pods", "mine") });
    let other = runtime.block_on(async { tokio::time::timeout(TIMEOUT, other).await });
    assert!(!other.expect("nobody else waits").unwrap());
    assert!(!decision.is_finished(), "what is on its way is waited for");
    drop(working);
    assert!(runtime.block_on(decision).unwrap());
}

#[test]
fn what_is_acknowledged_counts_whoever_else_is_at_work() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let world = Arc::new(World::new());
    let writers = (0..6).map(|n| {
        let world = world.clone();
        runtime.spawn(async move {
            let (namespace, user, role) = (format!("ns-{}", n / 2), format!("u-{n}"), format!("role-{n}"));
            for round in 0..100 {
                let body = binding(("ClusterRole", &role), std::slice::from_ref(&user));
                world.write(&CLUSTER_ROLE, None, &role, Some(reading("pods"))).await;
                world.write(&ROLE_BINDING, Some(&namespace), &user, Some(body)).await;
                assert!(world.may_get(&user, "pods", &namespace), "{user} {round}");
                // What was taken away first is not seen with what came after.
                match round % 2 {
                    0 => world.write(&ROLE_BINDING, Some(&namespace), &user, None).await,
                    _ => world.write(&CLUSTER_ROLE, None, &role, Some(reading("secrets"))).await,
                }
                assert!(!world.may_get(&user, "pods", &namespace), "{user} {round}");
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    for writer in writers {
        runtime.block_on(writer).unwrap();
    }
}

#[test]
fn a_refusal_names_ten_bindings_and_counts_the_rest() {
    let missing: Vec<String> = (0..12).map(|number| format!("role {number} not found")).collect();
    assert_eq!(refusal(&[]), "");
    assert_eq!(refusal(&missing[..1]), "RBAC: role 0 not found");
    assert_eq!(refusal(&missing[..2]), "RBAC: [role 0 not found, role 1 not found]");
    assert!(refusal(&missing[..10]).ends_with("role 9 not found]"));
    assert!(refusal(&missing).ends_with("role 9 not found, and 2 more]"), "{}", refusal(&missing));
}
