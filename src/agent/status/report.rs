//! What an operator is told: plain data, the same in text, JSON and YAML.
//!
//! Times are RFC 3339 in UTC, sizes are bytes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a minik8s process may be asked through its admin socket, beside what is a server's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    Status,
    Images(ImageRequest),
}

/// What is asked about the images of its node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ImageRequest {
    /// An absolute path.
    Import(PathBuf),
    List,
    Remove(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It runs and nothing is wrong.
    Running,
    /// It runs, and something wants attention: see [`Report::problems`].
    Degraded,
    /// A process holds the data directory and does not answer yet, or not any more.
    Unresponsive,
    /// Nothing runs.
    #[default]
    Stopped,
}

/// Something that wants attention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub what: String,
    pub why: String,
    /// What to do about it.
    pub advice: String,
}

impl Finding {
    pub fn new(what: impl Into<String>, why: impl Into<String>, advice: impl Into<String>) -> Self {
        Finding { what: what.into(), why: why.into(), advice: advice.into() }
    }
}

/// One instance: what runs on its data directory, or what is left there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub version: String,
    pub state: State,
    /// `server` or `agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    pub data_dir: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<u64>,
    /// The process answers, and its node is not there yet.
    #[serde(default)]
    pub starting: bool,
    /// Why that does not come by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Finding>,
    /// With what the last process on the data directory ended, if it could not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Failure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<Api>,
    /// Nodes and pods, as a server sees them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
    /// The members of a group of several servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Server>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<Etcd>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<Snapshots>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
    /// In the order of their start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
}

/// The API: a server's own, or the one that an agent has joined.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Api {
    pub url: String,
    /// Where nodes and pods reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertised: Option<String>,
    pub ready: bool,
    /// The checks of `/readyz`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
}

/// The whole cluster in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    pub nodes: usize,
    pub nodes_ready: usize,
    /// Phase to number.
    pub pods: BTreeMap<String, usize>,
}

/// One of several servers, as the one knows it that was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    pub id: String,
    pub name: String,
    pub address: String,
    /// `leader`, `voter` or `learner`.
    pub role: String,
    /// Whether it answers; unknown to servers that do not lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<bool>,
    /// Records that it lacks; unknown to servers that do not lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
    /// It is the server that was asked.
    pub own: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Store {
    pub revision: u64,
    pub compacted_revision: u64,
    pub keys: u64,
    /// Bytes of keys and values.
    pub size_in_use: u64,
    pub size_on_disk: u64,
    /// The part of it that is the log.
    pub log_size: u64,
    pub free_on_disk: u64,
    /// Below this much free space writes are refused.
    pub min_free_on_disk: u64,
    /// Beyond this many bytes of keys and values new objects are refused.
    #[serde(default)]
    pub quota: u64,
    pub watchers: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checkpoint: Option<String>,
    pub recovery: Recovery,
    /// etcd's names: `NOSPACE`, `CORRUPT`.
    #[serde(default)]
    pub alarms: Vec<String>,
}

/// What the last start found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    pub replayed_records: u64,
    /// A write that a crash had cut short: nothing acknowledged was in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torn_tail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuilt: Option<String>,
}

/// etcd's API in front of the store.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Etcd {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Why it is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshots {
    /// Five fields of cron, or `off`.
    pub schedule: String,
    pub retention: usize,
    pub folder: PathBuf,
    /// How many are there.
    pub count: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Snapshot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The last one since the start that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Failure>,
    /// Where they are uploaded to, such as `s3://BUCKET/FOLDER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_upload: Option<Snapshot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_upload_failure: Option<Failure>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Snapshot {
    pub name: String,
    pub at: String,
    pub size: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub at: String,
    pub why: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub name: String,
    /// As the API has them.
    #[serde(default)]
    pub addresses: Vec<String>,
    pub ready: bool,
    /// Type to status.
    #[serde(default)]
    pub conditions: BTreeMap<String, String>,
    pub kubelet_port: u16,
    /// Phase to number.
    #[serde(default)]
    pub pods: BTreeMap<String, usize>,
    pub runtime: Runtime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
}

/// The cluster's DNS, as this machine reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dns {
    pub address: IpAddr,
    pub answers: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// Such as `containerd://1.6.20~ds1`; empty while nobody knows.
    pub version: String,
    pub socket: PathBuf,
    /// Whether it accepts connections.
    pub answers: bool,
    /// The process id of our own containerd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Below the data directory.
    pub file: PathBuf,
    pub subject: String,
    pub expires: String,
    /// Negative once it has expired.
    pub days_left: i64,
}

/// Tasks that stop together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Component {
    pub name: String,
    /// Running tasks by name.
    pub tasks: BTreeMap<String, usize>,
    /// Tasks that panicked since the start, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub panicked: BTreeMap<String, usize>,
}
