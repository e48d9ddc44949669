//! A store with nothing but the etcd API in front of it, for trying it out and for measuring. With a number
//! of nodes it also renews a lease of each every 10 seconds, as an idle cluster does.
//!
//!     cargo run --release -p minik8s-embedded-store --example serve -- DIRECTORY ADDRESS:PORT [NODES]

use std::time::Duration;

use embedded_store::{Config, Durability, EmbeddedStore, Op, Store, Txn, etcd};

/// As in the executable.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the API server writes when a kubelet renews its lease; about the size of such an object.
async fn renew(store: &EmbeddedStore, nodes: usize) -> Result<(), embedded_store::StoreError> {
    let mut ticks = tokio::time::interval(Duration::from_secs(10));
    loop {
        ticks.tick().await;
        for node in 0..nodes {
            let key = format!("/registry/leases/kube-node-lease/node-{node}").into();
            let put = Op::Put { key, value: vec![b'x'; 500].into(), lease: 0 };
            store.txn(Txn { success: vec![put], durability: Durability::Lazy, ..Txn::default() }).await?;
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(dir), Some(address)) = (args.next(), args.next()) else {
        return Err("usage: serve DIRECTORY ADDRESS:PORT [NODES]".into());
    };
    let nodes: usize = args.next().map_or(Ok(0), |nodes| nodes.parse())?;
    let started = std::time::Instant::now();
    let (store, recovery) = tokio::task::spawn_blocking(|| EmbeddedStore::open(Config::new(dir))).await??;
    let took = started.elapsed();
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address.parse()?)?;
    // As many as may dial in the same moment.
    let listener = socket.listen(4096)?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("{recovery:?}\nopened in {took:?}, serving {url}");
    let options = etcd::Options { client_urls: vec![url], ..etcd::Options::default() };
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    tokio::select! {
        served = etcd::serve(store.clone(), listener, None, options, stop) => served?,
        renewed = renew(&store, nodes), if nodes > 0 => renewed?,
    }
    store.close();
    println!("{}", store.render_metrics());
    Ok(())
}
