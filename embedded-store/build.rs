//! Generates the messages and services of etcd's API from `proto/`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let protos = ["proto/mvccpb.proto", "proto/etcdserverpb.proto"];
    // Values are passed on without being copied.
    tonic_prost_build::configure().bytes(".").compile_protos(&protos, &["proto"])?;
    Ok(())
}
