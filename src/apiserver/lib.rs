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

mod admission;
mod aggregation;
mod audit;
mod authn;
mod authz;
mod bootstrap;
mod cache;
mod claims;
mod config;
mod definitions;
mod encryption;
mod error;
mod expressions;
mod fairness;
mod feature_gates;
mod heavy;
mod http;
#[cfg(test)]
mod isolation;
mod limits;
mod local;
mod outbound;
mod policies;
mod printers;
mod protocols;
mod registry;
mod runtime_config;
mod schemas;
mod server;
mod start;
mod strategy;
#[cfg(test)]
mod testing;
mod webhooks;

pub use admission::{ConfigurationError, ConfigurationFault, PluginError, Plugins};
pub use audit::{
    Audit, AuditError, LogFormat, LogOptions, Mode as AuditMode, PolicyError as AuditPolicyError, Post,
    SinkOptions, Throttle, Truncation, WebhookOptions,
};
pub use config::{Config, FrontProxy, OtherServers, ServiceAccountKeys, VersionInfo};
pub use encryption::{ChangeError, Encryption, EncryptionError, EncryptionStatus, Origin};
pub use error::StartError;
pub use feature_gates::{FeatureGateError, FeatureGates};
pub use limits::{Limits, Timeouts};
pub use protocols::{OtherProtocols, OtherStream};
pub use runtime_config::{RuntimeConfig, RuntimeConfigError};
pub use server::ApiServer;
