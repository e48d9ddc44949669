//! The commands that work beside a server, on its machine: most ask the running one over its admin socket.

pub mod kubeconfig;
mod reset;
pub mod secrets_encrypt;
pub(crate) mod servers;
pub mod snapshot;
pub mod token;
