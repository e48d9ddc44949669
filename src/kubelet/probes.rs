//! Startup, liveness and readiness probes: one task per probe of a running container instance; findings by
//! container id.

pub(crate) mod http;
mod manager;
mod outcome;
pub(crate) mod prober;

pub(crate) use manager::ProbeManager;
pub(crate) use outcome::{ProbeKind, ProbeOutcome, ProbeView};
pub(crate) use prober::{NodeProber, RequestError};
