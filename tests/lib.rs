//! The harness of the integration tests: clusters made of the real binary, cleaned up whatever happens.
//!
//! Every cluster has a temporary data directory and a network namespace of its own, so tests neither meet
//! each other nor change the machine's network. Tests wait on predicates with generous limits, never on time.

#[path = "harness/agent.rs"]
mod agent;
#[path = "harness/cluster.rs"]
mod cluster;
#[path = "harness/disk.rs"]
mod disk;
#[path = "harness/extension.rs"]
mod extension;
#[path = "harness/image.rs"]
mod image;
#[path = "harness/kubectl_proxy.rs"]
mod kubectl_proxy;
#[path = "harness/leftovers.rs"]
mod leftovers;
#[path = "harness/machine.rs"]
mod machine;
#[path = "harness/network.rs"]
mod network;
#[path = "harness/outcome.rs"]
mod outcome;
#[path = "harness/registry.rs"]
mod registry;
#[path = "harness/s3.rs"]
mod s3;
#[path = "harness/tools.rs"]
mod tools;
#[path = "harness/traces.rs"]
mod traces;
#[path = "harness/vm.rs"]
mod vm;

pub use agent::Agent;
pub use cluster::{Cluster, Options, binary};
pub use disk::SmallDisk;
pub use extension::{Extension, ExtensionRequest};
pub use image::{BUSYBOX, write_busybox_image};
pub use kubectl_proxy::KubectlProxy;
pub use machine::{Distribution, Machine};
pub use network::{Network, fetch, in_namespace};
pub use outcome::{CommandOutcome, eventually, run};
pub use registry::{REGISTRY_PASSWORD, REGISTRY_USER, Registry};
pub use s3::{ACCESS_KEY, S3Store, SECRET_KEY};
pub use tools::{helm, kubectls};
pub use traces::Traces;
pub use vm::VirtualMachine;
