//! The node itself: what the machine is ([`machine`]), its object and status ([`status`]), its lease
//! ([`lease`]).

mod lease;
pub(crate) mod machine;
mod register;
mod status;

pub(crate) use status::{NodeAgent, run};
