//! The API server: authentication, authorization, admission, registry, watch cache, discovery, tables, over
//! HTTPS and in process.
//!
//! [`ApiServer::start`] fills the watch cache from the store and creates what every cluster has; from then on
//! the server acts for any identity in process ([`client::ApiFor`]) and, with [`ApiServer::serve`], over TLS.
//! One generic path serves every row of [`api::kinds`]; what is special about a kind is its
//! [`strategy::Strategy`].

// The tests' fixtures name the crate as an integration test does.
#[cfg(test)]
extern crate self as apiserver;

pub mod admission;
pub mod authn;
pub mod authz;
mod bootstrap;
pub mod cache;
pub mod claims;
mod config;
mod definitions;
mod error;
mod fairness;
mod heavy;
mod http;
#[cfg(test)]
mod isolation;
mod limits;
mod local;
pub mod printers;
pub mod registry;
mod schemas;
mod server;
mod start;
pub mod strategy;
#[cfg(test)]
mod testing;

pub use config::{Config, ServiceAccountKeys, VersionInfo};
pub use error::StartError;
pub use limits::{Limits, Timeouts};
pub use server::ApiServer;
