//! The store in process, on a real disk: durable puts by one and by many writers, lazy puts, ranges, opening.
//!
//!     cargo bench -p minik8s-embedded-store
//!
//! The directory is the system's temporary one; set `TMPDIR` to the disk that is to be measured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use embedded_store::{Config, Durability, EmbeddedStore, Op, RangeRequest, Store, Txn};
use tokio::runtime::Runtime;

const VALUE: usize = 1024;

fn put(number: u64, durability: Durability) -> Txn {
    let key = format!("/bench/{number:08}").into();
    let op = Op::Put { key, value: Bytes::from(vec![b'x'; VALUE]), lease: 0 };
    Txn { success: vec![op], durability, ..Txn::default() }
}

/// Time that `writers` take for `count` puts between them, each waiting for its answer.
fn puts(runtime: &Runtime, store: &Arc<EmbeddedStore>, writers: u64, count: u64) -> Duration {
    let started = Instant::now();
    let tasks = (0..writers).map(|writer| {
        let store = Arc::clone(store);
        runtime.spawn(async move {
            for number in (writer..count).step_by(writers as usize) {
                store.txn(put(number % 100_000, Durability::Synced)).await.expect("written");
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.expect("a writer");
        }
    });
    started.elapsed()
}

fn store(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let (store, _) = EmbeddedStore::open(Config::new(dir.path())).expect("a store");
    let mut group = c.benchmark_group("durable puts of 1 KiB");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for writers in [1, 64, 256] {
        group.bench_function(format!("{writers} writers"), |b| {
            b.iter_custom(|count| puts(&runtime, &store, writers, count));
        });
    }
    group.bench_function("lazy", |b| {
        b.iter(|| runtime.block_on(store.txn(put(1, Durability::Lazy))).expect("written"));
    });
    group.finish();
    puts(&runtime, &store, 64, 100_000);
    let page = RangeRequest {
        key: "/bench/".into(),
        range_end: Some("/bench0".into()),
        limit: 2000,
        ..RangeRequest::default()
    };
    c.bench_function("page of 2,000 of 100,000 keys", |b| b.iter(|| store.range(&page).expect("a page")));
    store.close();
    c.bench_function("open 100,000 keys of 1 KiB", |b| {
        b.iter_custom(|count| {
            let mut total = Duration::ZERO;
            for _ in 0..count {
                let started = Instant::now();
                let (store, _) = EmbeddedStore::open(Config::new(dir.path())).expect("a store");
                total += started.elapsed();
                store.close();
            }
            total
        });
    });
}

criterion_group!(benches, store);
criterion_main!(benches);
