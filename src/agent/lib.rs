//! `minik8s agent`, and everything a server shares with it: flags and configuration files, logging, names of
//! what an instance leaves on a machine, keys and signing requests, the container runtime, the node, the
//! admin socket and status, uninstalling.
//!
//! A server runs [`node::start`] for its own node, over its in-process API; an agent runs the same over
//! HTTPS.

pub mod addresses;
pub mod admin;
pub mod args;
pub mod claim;
pub mod command;
pub mod containerd;
pub mod failure;
pub mod files;
pub mod flags;
pub mod follow;
pub mod image;
pub mod instance;
pub mod join;
pub mod keys;
pub mod logging;
pub mod machine;
pub mod node;
pub mod notify;
pub mod origin;
pub mod problem;
mod process;
mod servers;
pub mod service;
pub mod simulate;
pub mod status;
pub mod token;
pub mod uninstall;

pub use api::GIT_VERSION as VERSION;
pub use instance::Instance;
pub use problem::Problem;
