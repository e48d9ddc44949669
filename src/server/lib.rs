//! `minik8s server`: the composition root of a whole cluster in one process.
//!
//! Knows how the parts are put together and in which order they start and stop, and keeps the cluster's keys.
//! What the parts do is theirs: they meet only through the API, as their own users.

mod admin;
mod args;
mod audit;
pub mod commands;
mod dialer;
mod encryption;
mod etcd;
mod group;
mod kubeconfig;
mod listen;
mod loops;
mod name_service;
mod pki;
mod plan;
mod publish;
mod role;
mod run;
mod secrets;
mod shared_token;
mod snapshot;
mod status;
mod tokens;
mod upkeep;

pub use args::clap_command;
pub use run::main;
