//! Two servers over one store, everything at once: nothing is handed out twice, nothing is left behind.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use api::kinds::{IP_ADDRESS, LEASE, NODE, SERVICE};
use api::{ApiError, Cidr, CreateOptions, DeleteOptions, ListOptions, Object, Patch, UpdateOptions};
use bytes::Bytes;
use client::ObjectRef;
use client::leader::Fence;
use embedded_store::{MemoryStore, Op, Store, Txn};
use futures::future::join_all;
use rand::Rng;
use serde_json::{Value, json};

use super::Known;
use crate::claims::{CLAIMS, Record, Records};
use crate::registry::strategies::node::pod_ranges;
use crate::testing::{Harness, config};
use crate::{Config, claims};

const HERE: Option<&str> = Some("default");

/// Two servers over one store.
struct Pair {
    servers: [Harness; 2],
}

impl Pair {
    async fn start(config: Config) -> Pair {
        let store = Arc::new(MemoryStore::new());
        let first = Harness::over(store.clone(), config.clone()).await;
        Pair { servers: [first, Harness::over(store, config).await] }
    }

    fn server(&self, number: usize) -> &Harness {
        &self.servers[number % 2]
    }

    async fn create_services(&self, count: usize, spec: Value) -> Vec<Result<Arc<Object>, ApiError>> {
        let created = (0..count).map(|number| {
            let (h, spec) = (self.server(number), spec.clone());
            async move {
                let body = json!({"metadata": {"name": format!("s{number}")}, "spec": spec});
                h.api.create(&SERVICE, HERE, body, &CreateOptions::default()).await
            }
        });
        join_all(created).await
    }

    /// Deletes what was created, each through the server that did not create it.
    async fn delete_services(&self, created: &[Result<Arc<Object>, ApiError>]) {
        let deleted = created.iter().enumerate().filter(|(_, one)| one.is_ok()).map(|(number, _)| {
            let (h, name) = (self.server(number + 1), format!("s{number}"));
            async move {
                let at = ObjectRef::new(HERE, &name);
                h.api.delete(&SERVICE, at, &DeleteOptions::default()).await.unwrap();
            }
        });
        join_all(deleted).await;
    }

    /// Every address with the service that it belongs to, as each server has them.
    async fn addresses(&self) -> BTreeMap<String, String> {
        let mut told = Vec::new();
        for h in &self.servers {
            let list = h.api.list(&IP_ADDRESS, None, &ListOptions::default()).await.unwrap();
            let pair = |object: &Arc<Object>| {
                let tree = object.tree().unwrap();
                let parent = tree["spec"]["parentRef"]["name"].as_str().unwrap().to_string();
                (object.name().to_string(), parent)
            };
            told.push(list.items.iter().map(pair).collect::<BTreeMap<_, _>>());
        }
        assert_eq!(told[0], told[1]);
        told.swap_remove(0)
    }

    fn claims(&self) -> Vec<Record> {
        Known::new(&*self.servers[0].store).below(CLAIMS)
    }

    async fn stop(self) {
        for h in self.servers {
            h.stop().await;
        }
    }
}

fn spec_of(object: &Object) -> Value {
    object.tree().unwrap()["spec"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_servers_hand_out_a_thousand_addresses_once_each() {
    const COUNT: usize = 1000;
    let pair = Pair::start(config()).await;
    let mut watch = crate::testing::Events(
        pair.servers[1].api.watch(&IP_ADDRESS, None, &api::WatchOptions::default()).await.unwrap(),
    );
    let created = pair.create_services(COUNT, json!({"ports": [{"port": 80}]})).await;
    let mut wanted: BTreeMap<String, String> = BTreeMap::new();
    for object in created.iter().map(|one| one.as_ref().unwrap()) {
        let address = spec_of(object)["clusterIP"].as_str().unwrap().to_string();
        let twice = wanted.insert(address, object.name().to_string());
        assert_eq!(twice, None, "an address was handed out twice");
    }
    wanted.insert("10.43.0.1".into(), "kubernetes".into());
    assert_eq!(pair.addresses().await, wanted);
    // A watcher hears of each, whichever server wrote it.
    let mut told = HashSet::new();
    while told.len() < wanted.len() {
        let event = watch.next().await;
        let (kind, name) = event.split_once(' ').unwrap();
        assert_eq!(kind, "ADDED");
        assert!(told.insert(name.to_string()));
    }
    pair.delete_services(&created).await;
    assert_eq!(pair.addresses().await.len(), 1, "something is left behind");
    while told.len() > 1 {
        let event = watch.next().await;
        assert!(told.remove(event.strip_prefix("DELETED ").unwrap()));
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_gets_the_address_that_all_ask_for() {
    let pair = Pair::start(config()).await;
    let spec = json!({"clusterIP": "10.43.7.7", "ports": [{"port": 80}]});
    let created = pair.create_services(100, spec).await;
    let refused: Vec<&ApiError> = created.iter().filter_map(|one| one.as_ref().err()).collect();
    assert_eq!(refused.len(), 99);
    for error in refused {
        assert_eq!(error.code(), 422);
        let want = "failed to allocate IP 10.43.7.7: provided IP is already allocated";
        assert!(error.message().ends_with(want), "{error}");
    }
    assert_eq!(pair.addresses().await.len(), 2);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn node_ports_are_handed_out_until_there_are_none() {
    const PORTS: usize = 64;
    let mut config = config();
    config.node_ports = 30000..=30063;
    let pair = Pair::start(config).await;
    let created = pair.create_services(200, json!({"type": "NodePort", "ports": [{"port": 80}]})).await;
    let mut given = HashMap::new();
    for one in &created {
        match one {
            Ok(object) => {
                let port = spec_of(object)["ports"][0]["nodePort"].as_u64().unwrap();
                assert_eq!(
                    given.insert(port, object.name().to_string()),
                    None,
                    "{port} was handed out twice"
                );
            }
            Err(error) => {
                let want = "Internal error occurred: failed to allocate a nodePort: range is full";
                assert_eq!((error.code(), error.message()), (500, want));
            }
        }
    }
    assert_eq!((given.len(), pair.claims().len()), (PORTS, PORTS));
    assert_eq!(pair.addresses().await.len(), PORTS + 1, "those that got no port keep no address");
    pair.delete_services(&created).await;
    assert_eq!((pair.claims().len(), pair.addresses().await.len()), (0, 1));
    pair.stop().await;
}

/// Nodes ask for ranges of all sizes at random; whatever is granted does not overlap.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ranges_of_nodes_never_overlap() {
    const NODES: usize = 200;
    let pair = Pair::start(config()).await;
    let requests: Vec<Cidr> = (0..NODES)
        .map(|_| {
            let (part, prefix) = (rand::rng().random_range(0..64_u8), rand::rng().random_range(19..=26));
            Cidr::new([10, 42, part, rand::rng().random()].into(), prefix).unwrap()
        })
        .collect();
    let asked = requests.iter().enumerate().map(|(number, request)| {
        let h = pair.server(number);
        async move {
            let name = format!("n{number}");
            h.create(&NODE, None, json!({"metadata": {"name": name}})).await;
            let body = Patch::merge(
                json!({"spec": {"podCIDR": request.to_string(), "podCIDRs": [request.to_string()]}}),
            );
            let at = ObjectRef::new(None, &name);
            h.api.patch(&NODE, at, body, &UpdateOptions::default()).await
        }
    });
    let answers = join_all(asked).await;
    let mut granted: Vec<Cidr> = Vec::new();
    for (request, answer) in requests.iter().zip(&answers) {
        match answer {
            Ok(_) => {
                let other = granted.iter().find(|other| other.overlaps(request));
                assert_eq!(other, None, "{request} overlaps");
                granted.push(*request);
            }
            Err(error) => {
                assert_eq!(error.code(), 422, "{error}");
                assert!(error.message().contains("spec.podCIDRs[0]: Invalid value"), "{error}");
            }
        }
    }
    // Two ranges of the largest size fill everything that is asked for.
    assert!(granted.len() > 1, "{granted:?}");
    // Whatever was refused does overlap.
    for (request, _) in requests.iter().zip(&answers).filter(|(_, answer)| answer.is_err()) {
        assert!(granted.iter().any(|other| other.overlaps(request)), "{request} overlaps nothing");
    }
    let mut keys: Vec<String> = granted.iter().map(pod_ranges::key).collect();
    keys.sort();
    let found: Vec<Bytes> = pair.claims().into_iter().map(|record| record.key).collect();
    assert_eq!(found, keys);
    for number in 0..NODES {
        pair.server(number + 1).delete(&NODE, None, &format!("n{number}")).await.unwrap();
    }
    assert_eq!(pair.claims().len(), 0);
    pair.stop().await;
}

/// Writes under a term, while the term is renewed all the time: the Lease is one more compare, and neither
/// hides the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_under_a_term_claim_like_others() {
    let mut config = config();
    config.node_ports = 30000..=30039;
    let pair = Pair::start(config).await;
    let spec = json!({"holderIdentity": "h", "leaseTransitions": 3, "leaseDurationSeconds": 15});
    let lease = json!({"metadata": {"name": "l"}, "spec": spec});
    pair.server(0).create(&LEASE, HERE, lease).await;
    let fence = Fence { namespace: "default".into(), name: "l".into(), holder: "h".into(), transitions: 3 };
    let fence = Arc::new(fence);
    let fenced = [0, 1].map(|number| {
        client::ApiFor::as_user(&*pair.server(number).server.fenced(fence.clone()), crate::testing::master())
    });
    let created = (0..40).map(|number| {
        let api = fenced[number % 2].clone();
        async move {
            let body = json!({"metadata": {"name": format!("s{number}")},
                "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
            let made = api.create(&SERVICE, HERE, body, &CreateOptions::default()).await.unwrap();
            spec_of(&made)["ports"][0]["nodePort"].as_u64().unwrap()
        }
    });
    let renewed = async {
        for second in 0..40 {
            let patch =
                Patch::merge(json!({"spec": {"renewTime": format!("2026-01-01T00:00:{second:02}.000000Z")}}));
            let at = ObjectRef::new(HERE, "l");
            pair.server(second).api.patch(&LEASE, at, patch, &UpdateOptions::default()).await.unwrap();
        }
    };
    let (ports, ()) = futures::join!(join_all(created), renewed);
    assert_eq!(ports.into_iter().collect::<HashSet<_>>().len(), 40);
    // The term is over: nothing is written, and nothing is claimed.
    let taken = Patch::merge(json!({"spec": {"holderIdentity": "other", "leaseTransitions": 4}}));
    let at = ObjectRef::new(HERE, "l");
    pair.server(0).api.patch(&LEASE, at, taken, &UpdateOptions::default()).await.unwrap();
    let late = json!({"metadata": {"name": "late"}, "spec": {"ports": [{"port": 80}]}});
    let refused = fenced[0].create(&SERVICE, HERE, late, &CreateOptions::default()).await.unwrap_err();
    assert!(refused.is_conflict(), "{refused}");
    let at = ObjectRef::new(HERE, "s0");
    let refused = fenced[0].delete(&SERVICE, at, &DeleteOptions::default()).await.unwrap_err();
    assert!(refused.is_conflict(), "{refused}");
    assert_eq!((pair.claims().len(), pair.addresses().await.len()), (40, 41));
    pair.stop().await;
}

fn record(key: &str, value: &str, revision: u64) -> Record {
    Record { key: key.to_string().into(), value: value.to_string().into(), revision }
}

#[tokio::test]
async fn what_a_failed_transaction_found_counts_if_it_is_newer() {
    let store = MemoryStore::new();
    let put = |key: &'static str| Op::Put { key: key.into(), value: "old".into(), lease: 0 };
    let txn = Txn { success: ["a/1", "a/2", "a/3"].map(put).into(), ..Txn::default() };
    store.txn(txn).await.unwrap();
    let mut known = Known::new(&store);
    let all = |known: &Known<'_>| {
        known.below("a/").iter().map(|one| String::from_utf8_lossy(&one.key).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(all(&known), ["a/1", "a/2", "a/3"]);
    known.learn(vec![
        ("a/1".into(), None),
        ("a/2".into(), Some(record("a/2", "new", 100))),
        ("a/3".into(), Some(record("a/3", "older", 0))),
        ("a/4".into(), Some(record("a/4", "new", 100))),
        ("b/1".into(), Some(record("b/1", "new", 100))),
    ]);
    assert_eq!(all(&known), ["a/2", "a/3", "a/4"]);
    let value = |key: &str| known.get(key).map(|one| String::from_utf8_lossy(&one.value).into_owned());
    assert_eq!(
        ["a/1", "a/2", "a/3", "a/4", "a/5"].map(value),
        [None, Some("new".into()), Some("old".into()), Some("new".into()), None]
    );
    let owner = claims::Owner { resource: "nodes".into(), namespace: String::new(), name: "n".into() };
    let encoded = owner.encode().unwrap();
    assert_eq!(encoded, r#"{"resource":"nodes","name":"n"}"#);
    assert_eq!(claims::Owner::of(&Record { value: encoded, ..record("k", "", 1) }), Some(owner));
    assert_eq!(claims::Owner::of(&record("k", "?", 1)), None);
}
