//! A store with nothing but the etcd API in front of it, for trying it out and for measuring.
//!
//!     cargo run --release -p minik8s-embedded-store --example serve -- DIRECTORY ADDRESS:PORT

use embedded_store::{Config, EmbeddedStore, etcd};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(dir), Some(address)) = (args.next(), args.next()) else {
        return Err("usage: serve DIRECTORY ADDRESS:PORT".into());
    };
    let (store, recovery) = tokio::task::spawn_blocking(|| EmbeddedStore::open(Config::new(dir))).await??;
    let listener = tokio::net::TcpListener::bind(address).await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("{recovery:?}\nserving {url}");
    let options = etcd::Options { client_urls: vec![url], ..etcd::Options::default() };
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    etcd::serve(store.clone(), listener, None, options, stop).await?;
    store.close();
    println!("{}", store.render_metrics());
    Ok(())
}
