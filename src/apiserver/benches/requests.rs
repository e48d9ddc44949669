//! The API server in process, over a store in memory: what a request costs the processor, without disk, TLS
//! and sockets.
//!
//!     cargo bench -p minik8s-apiserver
//!
//! `registry` is what components of the same process call; `http` is the same with parsing, negotiation and
//! the bytes of the answer, as a client's request takes it.

use std::sync::Arc;

use api::kinds::{CONFIG_MAP, DEPLOYMENT, POD, ROLE, ROLE_BINDING, SERVICE_ACCOUNT};
use api::{CreateOptions, Identity, ListOptions, Object, Patch, UpdateOptions, WatchOptions};
use apiserver::ApiServer;
use axum::body::Body;
use client::{ApiFor, ObjectApi, ObjectRef};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use embedded_store::MemoryStore;
use futures::StreamExt;
use futures::future::join_all;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use supervisor::Supervisor;
use tokio::runtime::Runtime;

#[path = "../testing/fixture.rs"]
mod fixture;

const HERE: Option<&str> = Some("default");
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

struct Bench {
    runtime: Runtime,
    server: Arc<ApiServer>,
    api: Arc<dyn ObjectApi>,
}

impl Bench {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let stage = Supervisor::new().stage("API server");
        let started = ApiServer::start(fixture::config(), Arc::new(MemoryStore::new()), &stage);
        let server = runtime.block_on(started).expect("a server");
        let api = server.as_user(admin());
        let bench = Bench { runtime, server, api };
        // A controller's work elsewhere; pods are not admitted without.
        let account =
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
        bench.create(&SERVICE_ACCOUNT, account);
        bench
    }

    fn create(&self, row: &api::KindRow, body: Value) -> Arc<Object> {
        let options = CreateOptions::default();
        self.runtime.block_on(self.api.create(row, HERE, body, &options)).expect("created")
    }

    /// Bytes of an answer.
    fn get(&self, path: &str, accept: &str) -> usize {
        let request = Request::get(path).header("accept", accept).body(Body::empty()).expect("a request");
        self.runtime.block_on(async {
            let response = self.server.answer(admin(), request).await;
            assert_eq!(response.status(), 200);
            let mut body = response.into_body();
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                bytes += frame.expect("a frame").into_data().map_or(0, |data| data.len());
            }
            bytes
        })
    }
}

fn admin() -> Identity {
    Identity::user("admin", [api::identity::GROUP_MASTERS])
}

fn config_map(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "labels": { "app": "bench" } },
        "data": { "v": "1", "payload": "x".repeat(900) },
    })
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": "bench" } },
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{ "name": "c", "image": "image:1", "resources": { "requests": { "cpu": "100m" } } }],
        },
    })
}

/// A Deployment of 2 KB, as a chart makes it.
fn deployment(image: &str) -> Value {
    let variables: Vec<Value> =
        (0..12).map(|n| json!({ "name": format!("VARIABLE_{n}"), "value": "x".repeat(40) })).collect();
    let labels = json!({ "app.kubernetes.io/name": "bench", "app.kubernetes.io/instance": "bench" });
    let probe = json!({ "httpGet": { "path": "/healthz", "port": "http" } });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "applied", "labels": labels },
        "spec": {
            "replicas": 2, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [{
                "name": "web", "image": image, "env": variables, "livenessProbe": probe, "readinessProbe": probe,
                "ports": [{ "name": "http", "containerPort": 80, "protocol": "TCP" }],
                "resources": { "limits": { "cpu": "500m", "memory": "128Mi" } },
            }] } },
        },
    })
}

fn registry(c: &mut Criterion) {
    let bench = Bench::start();
    bench.create(&CONFIG_MAP, config_map("one"));
    let mut number = 0;
    let mut group = c.benchmark_group("registry");
    group.bench_function("create a ConfigMap of 1 KB", |b| {
        b.iter_batched(
            || {
                number += 1;
                config_map(&format!("c{number}"))
            },
            |body| bench.create(&CONFIG_MAP, body),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("get", |b| {
        b.iter(|| bench.runtime.block_on(bench.api.get(&CONFIG_MAP, ObjectRef::new(HERE, "one"))));
    });
    bench.create(&POD, pod("patched"));
    let at = ObjectRef::new(HERE, "patched").sub("status");
    group.bench_function("patch a pod's status (strategic merge)", |b| {
        let mut ready = false;
        b.iter(|| {
            ready = !ready;
            let status = if ready { "True" } else { "False" };
            let patch = json!({ "status": { "conditions": [{ "type": "Ready", "status": status }] } });
            let options = UpdateOptions::default();
            let patched = bench.api.patch(&POD, at, Patch::strategic(patch), &options);
            bench.runtime.block_on(patched).expect("patched")
        });
    });
    group.bench_function("apply a Deployment of 2 KB", |b| {
        let options = UpdateOptions { field_manager: Some("bench".into()), ..UpdateOptions::default() };
        let (mut number, at) = (0, ObjectRef::new(HERE, "applied"));
        b.iter_batched(
            || {
                number += 1;
                Patch::apply(deployment(&format!("image:{}", number % 2)))
            },
            |patch| {
                bench.runtime.block_on(bench.api.patch(&DEPLOYMENT, at, patch, &options)).expect("applied")
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn watch(c: &mut Criterion) {
    const WATCHERS: usize = 300;
    let bench = Bench::start();
    let options = WatchOptions { send_initial_events: Some(false), ..WatchOptions::default() };
    let opened = join_all((0..WATCHERS).map(|_| bench.api.watch(&CONFIG_MAP, HERE, &options)));
    let mut watches: Vec<_> =
        bench.runtime.block_on(opened).into_iter().map(|one| one.expect("a watch")).collect();
    let mut number = 0;
    let mut group = c.benchmark_group("watch");
    group.throughput(Throughput::Elements(WATCHERS as u64));
    group.bench_function("a change told to 300 watchers", |b| {
        b.iter(|| {
            number += 1;
            bench.create(&CONFIG_MAP, config_map(&format!("w{number}")));
            bench.runtime.block_on(join_all(watches.iter_mut().map(StreamExt::next)))
        });
    });
    group.finish();
}

fn http(c: &mut Criterion) {
    let bench = Bench::start();
    for number in 0..5000 {
        bench.create(&CONFIG_MAP, config_map(&format!("c{number}")));
    }
    for number in 0..500 {
        bench.create(&POD, pod(&format!("p{number}")));
    }
    let all = "/api/v1/namespaces/default/configmaps";
    let mut group = c.benchmark_group("http");
    group.bench_function("get", |b| b.iter(|| bench.get(&format!("{all}/c1"), "application/json")));
    group.bench_function("list of 500 pods as a table", |b| {
        b.iter(|| bench.get("/api/v1/namespaces/default/pods", TABLE));
    });
    group.throughput(Throughput::Bytes(bench.get(all, "application/json") as u64));
    group.bench_function("list of 5,000 ConfigMaps", |b| b.iter(|| bench.get(all, "application/json")));
    group.finish();
    let options = ListOptions::default();
    c.bench_function("registry/list of 5,000 ConfigMaps", |b| {
        b.iter(|| bench.runtime.block_on(bench.api.list(&CONFIG_MAP, HERE, &options)).expect("a list"));
    });
}

/// What one small write of a binding costs its namespace, decision included, beside ten of 15,000 subjects.
fn rbac(c: &mut Criterion) {
    let bench = Bench::start();
    let binding = |name: &str, subjects: usize| {
        let subjects: Vec<Value> =
            (0..subjects).map(|n| json!({ "kind": "User", "name": format!("user-{n}") })).collect();
        let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" });
        json!({ "metadata": { "name": name }, "roleRef": role, "subjects": subjects })
    };
    let rules = json!([{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"] }]);
    bench.create(&ROLE, json!({ "metadata": { "name": "reader" }, "rules": rules }));
    bench.create(&CONFIG_MAP, config_map("one"));
    for number in 0..10 {
        bench.create(&ROLE_BINDING, binding(&format!("large-{number}"), 15_000));
    }
    bench.create(&ROLE_BINDING, binding("small", 1));
    let user = bench.server.as_user(Identity::user("user-0", []));
    let get = || bench.runtime.block_on(user.get(&CONFIG_MAP, ObjectRef::new(HERE, "one"))).expect("allowed");
    let mut group = c.benchmark_group("rbac");
    group.bench_function("get by a user with eleven bindings", |b| b.iter(get));
    let mut number = 0;
    group.bench_function("change a small binding and get", |b| {
        b.iter(|| {
            number += 1;
            let patch = json!({ "metadata": { "labels": { "number": number.to_string() } } });
            let at = ObjectRef::new(HERE, "small");
            let options = UpdateOptions::default();
            let patched = bench.api.patch(&ROLE_BINDING, at, Patch::merge(patch), &options);
            bench.runtime.block_on(patched).expect("patched");
            get()
        });
    });
    group.finish();
}

fn object(c: &mut Criterion) {
    let bench = Bench::start();
    let created = bench.create(&POD, pod("one"));
    let tree = created.tree().expect("a tree");
    let mut group = c.benchmark_group("object");
    group.throughput(Throughput::Bytes(created.stored_bytes().len() as u64));
    group.bench_function("encode a pod", |b| {
        b.iter_batched(
            || tree.clone(),
            |tree| api::object::encode(tree).expect("bytes"),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("write a pod with its resourceVersion", |b| {
        let mut out = Vec::with_capacity(created.json_len());
        b.iter(|| {
            out.clear();
            created.write_json(&mut out);
            out.len()
        });
    });
    group.finish();
}

criterion_group!(benches, registry, watch, http, rbac, object);
criterion_main!(benches);
