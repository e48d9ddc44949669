//! Pods of this node: one serial worker each ([`worker`]), which plans ([`plan`], pure) and acts.

pub(crate) mod admit;
pub(crate) mod backoff;
pub(crate) mod execute;
pub(crate) mod hooks;
pub(crate) mod inputs;
pub(crate) mod kill;
pub(crate) mod manager;
pub(crate) mod plan;
pub(crate) mod resize;
pub(crate) mod statics;
pub(crate) mod turns;
pub(crate) mod worker;
