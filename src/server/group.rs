//! Several servers: how they find each other, who may join, and what a member of the group does.
//!
//! Servers speak to each other on the port of the API, in a protocol of their own that is chosen by ALPN. Who
//! has a certificate of the servers' authority for this purpose is a server; who has only the server's token
//! may ask for the cluster's keys, sealed by the token. The agreement itself is `embedded_store::group`.

mod etcd;
pub(crate) mod frames;
mod join;
mod members;
mod peers;
mod port;
mod tls;
mod watching;

use std::collections::BTreeMap;

use agent::Problem;
use serde::{Deserialize, Serialize};

pub(crate) use join::{Coming, NotJoined, join, own_secret};
pub(crate) use members::Servers;
pub(crate) use peers::Peers;
pub(crate) use port::Port;

/// The protocol between servers.
pub(super) const GROUP_PROTOCOL: &[u8] = b"minik8s-group/1";
/// The protocol of a machine that wants to become a server.
pub(super) const JOIN_PROTOCOL: &[u8] = b"minik8s-join/1";

/// Settings that must be the same on all servers, by their flags.
pub(crate) type Flags = BTreeMap<String, String>;

/// What a server is asked by another one, beside the messages of the group.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Request {
    /// The sender runs as a member and is to be one, or is one whose address has changed.
    Join {
        member: String,
        address: String,
    },
    Remove {
        member: String,
    },
    Promote {
        member: String,
    },
    /// Whether it is there.
    Ping,
    /// Where clients reach its etcd API.
    EtcdUrl,
}

/// The answer to it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer {
    Done,
    /// Only the leader can do it: its identity and address.
    NotLeader {
        leader: Option<(String, String)>,
    },
    Refused(String),
    EtcdUrl(Option<String>),
}

/// What is asked about several servers. A server is named by its identity or its name.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ServersRequest {
    List,
    Remove(String),
    Promote(String),
}

/// Names a member: the identity of its store.
pub(crate) fn identity_text(member: u64) -> String {
    format!("{member:016x}")
}

pub(crate) fn parse_identity(text: &str) -> Result<u64, Problem> {
    let parsed = if text.len() == 16 { u64::from_str_radix(text, 16).ok() } else { None };
    parsed.ok_or_else(|| {
        let why = "an identity has 16 hexadecimal digits";
        Problem::new(format!("find the server {text:?}"), why, "see 'minik8s server list'")
    })
}

/// Where a member is reached, and its name: `ADDRESS:PORT/NAME` in the group's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: String,
    pub(crate) name: String,
}

impl Place {
    pub(crate) fn parse(text: &str) -> Place {
        let (address, name) = text.split_once('/').unwrap_or((text, ""));
        Place { address: address.to_string(), name: name.to_string() }
    }

    pub(crate) fn text(&self) -> String {
        format!("{}/{}", self.address, self.name)
    }
}

#[cfg(test)]
mod tests;
