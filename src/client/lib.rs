//! How components reach the API, whether it is a function call or across the network.
//!
//! [`ObjectApi`] is the one untyped, object-safe interface: the API server's registry implements it in
//! process, the HTTPS client over the network. [`Api`] is its typed face. [`Informer`] and [`WorkQueue`] are
//! what controllers are made of. [`NodeDialer`] is the one door to a node. [`HttpsApi`] is the client for
//! other processes and machines.

mod dialer;
pub mod events;
pub mod https;
mod informer;
pub mod kubeconfig;
pub mod leader;
mod object_api;
mod queue;
mod served;
pub mod streams;
mod typed;

pub use dialer::{ByteStream, NodeDialer};
pub use https::{HttpsApi, HttpsConfig, TlsNodeDialer};
pub use informer::{Change, Informer, Informers, Subscription};
pub use object_api::{ApiFor, BoxFuture, EventStream, ExtensionApi, ObjectApi, ObjectList, ObjectRef};
pub use queue::{QueueConfig, WorkQueue};
pub use served::{Served, ServedKinds};
pub use typed::{Api, ApiStatus};
