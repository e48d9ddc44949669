//! Looks at what servers and agents have in common: the process, its tasks, its certificates, its node.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{ApiError, FieldSelector, ListOptions};
use client::{Api, ObjectApi};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use supervisor::{Latch, Supervisor};
use tokio::net::UnixStream;

use super::dns;
use super::report::{Certificate, Component, Dns, Finding, Node, Report, Runtime, State};
use crate::{Instance, VERSION, containerd, keys};

/// The process that is asked, and its tasks.
#[derive(Clone)]
pub struct ProcessSource {
    pub role: &'static str,
    pub instance: Instance,
    pub began: Instant,
    pub supervisor: Supervisor,
}

impl ProcessSource {
    /// A report with what every process can tell; [`settle`] completes it.
    pub fn report(&self) -> Report {
        let uptime = self.began.elapsed();
        let started = jiff::SignedDuration::try_from(uptime).map(|uptime| Timestamp::now() - uptime);
        let components: Vec<Component> = self.supervisor.report().into_iter().map(component).collect();
        let mut problems = Vec::new();
        for component in &components {
            for (task, count) in &component.panicked {
                problems.push(Finding::new(
                    format!("task {task:?} of {} is broken", component.name),
                    format!("it panicked {count} times since the start"),
                    "see the log, restart minik8s, and report the bug",
                ));
            }
        }
        let certificates = certificates(&self.instance);
        problems.extend(certificates.iter().filter_map(expiry_finding));
        Report {
            version: VERSION.to_string(),
            role: Some(self.role.to_string()),
            data_dir: self.instance.data_dir().to_path_buf(),
            pid: Some(std::process::id()),
            started_at: started.ok().map(second),
            uptime_seconds: Some(uptime.as_secs()),
            certificates,
            components,
            problems,
            ..Report::default()
        }
    }
}

/// Draws the conclusion from what was found.
pub fn settle(report: &mut Report) {
    report.state = if report.problems.is_empty() { State::Running } else { State::Degraded };
}

/// RFC 3339 in UTC without fractions.
pub fn second(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn component(stage: supervisor::StageReport) -> Component {
    let mut component = Component { name: stage.name, ..Component::default() };
    for (name, tasks) in stage.tasks {
        if tasks.panicked > 0 {
            component.panicked.insert(name.clone(), tasks.panicked);
        }
        if tasks.running > 0 {
            component.tasks.insert(name, tasks.running);
        }
    }
    component
}

/// Everything named `*.crt` in the places where servers and agents keep certificates.
pub fn certificates(instance: &Instance) -> Vec<Certificate> {
    let mut found = Vec::new();
    for folder in ["server/tls", "server/tls/etcd", "agent"] {
        let entries = fs::read_dir(instance.data_dir().join(folder)).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "crt"));
        files.sort();
        found.extend(files.iter().filter_map(|path| certificate(instance.data_dir(), path)));
    }
    found
}

fn certificate(data_dir: &Path, path: &Path) -> Option<Certificate> {
    let der = keys::first_certificate(&fs::read_to_string(path).ok()?).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok()?;
    let not_after = parsed.validity().not_after.timestamp();
    Some(Certificate {
        file: path.strip_prefix(data_dir).unwrap_or(path).to_path_buf(),
        subject: parsed.subject().to_string(),
        expires: Timestamp::from_second(not_after).map(second).unwrap_or_default(),
        days_left: (not_after - keys::now()).div_euclid(24 * 3600),
    })
}

/// Renewal begins long before this; a certificate that gets here is not being renewed.
const SHORT_LIFE_DAYS: i64 = 30;

fn expiry_finding(certificate: &Certificate) -> Option<Finding> {
    if certificate.days_left >= SHORT_LIFE_DAYS {
        return None;
    }
    let what = format!("certificate {}", certificate.file.display());
    let why = match certificate.days_left {
        ..0 => format!("it has expired on {}", certificate.expires),
        days => format!("it expires in {days} days and is not renewed"),
    };
    Some(Finding::new(what, why, "check the clock and the log's warnings about renewal, then restart"))
}

/// The node of this process, and how to look at it.
#[derive(Clone)]
pub struct NodeSource {
    pub(crate) name: String,
    pub(crate) api: Arc<dyn ObjectApi>,
    pub(crate) kubelet_port: u16,
    pub(crate) ready: Latch,
    pub(crate) socket: PathBuf,
    pub(crate) images: kubelet::Images,
    /// Where the kubelet keeps what it knows of image archives, and where those are.
    pub(crate) kubelet_dir: PathBuf,
    pub(crate) images_dir: PathBuf,
    pub(crate) registries_dir: PathBuf,
    /// The cluster's DNS and its domain; none if somebody else answers names.
    pub(crate) dns: Option<(IpAddr, String)>,
    /// Nodes are looked at on servers.
    pub(crate) on_server: bool,
    /// Where the configuration and the log of our own containerd are.
    pub(crate) own_containerd: Option<(PathBuf, PathBuf)>,
}

/// An API that does not answer must not keep a status from being shown.
const API_TIMEOUT: Duration = Duration::from_secs(3);
const SOCKET_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the API did not tell of the node.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    #[error("no answer within {} s", API_TIMEOUT.as_secs())]
    Late,
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl NodeSource {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn images(&self) -> &kubelet::Images {
        &self.images
    }

    /// The node, and whether the API answered.
    pub async fn report(&self, problems: &mut Vec<Finding>) -> (Node, Result<(), NoAnswer>) {
        let answers = tokio::time::timeout(SOCKET_TIMEOUT, UnixStream::connect(&self.socket)).await;
        let answers = matches!(answers, Ok(Ok(_)));
        let pid = self
            .own_containerd
            .as_ref()
            .and_then(|(folder, _)| containerd::processes_of(folder).into_iter().next());
        let log = self.own_containerd.as_ref().map(|(_, log)| log.clone());
        let runtime = Runtime { version: String::new(), socket: self.socket.clone(), answers, pid, log };
        let mut node =
            Node { name: self.name.clone(), kubelet_port: self.kubelet_port, runtime, ..Node::default() };
        if !answers {
            let place =
                node.runtime.log.clone().map_or("its log".to_string(), |log| log.display().to_string());
            problems.push(Finding::new(
                "the container runtime is down",
                format!("nothing answers on {}", self.socket.display()),
                format!("see {place}"),
            ));
        }
        node.dns = self.dns(problems).await;
        for (file, why) in kubelet::failed_imports(&self.kubelet_dir, &self.images_dir) {
            let advice = "save it again ('docker save NAME', 'skopeo copy'), or remove it";
            problems.push(Finding::new(format!("the image archive {file:?} is not imported"), why, advice));
        }
        for (file, why) in kubelet::registry_faults(&self.registries_dir) {
            let what = format!("images of the registry cannot be pulled: {} cannot be used", file.display());
            problems.push(Finding::new(what, why, "correct the file; it is read at each pull"));
        }
        let told = tokio::time::timeout(API_TIMEOUT, self.ask(&mut node)).await;
        let told = told.unwrap_or(Err(NoAnswer::Late));
        match told {
            Ok(not_ready) => {
                problems.extend(not_ready);
                (node, Ok(()))
            }
            Err(why) => {
                problems.push(Finding::new(
                    "the node's state is not known",
                    format!("the API does not answer: {why}"),
                    "check that the server runs and can be reached from here",
                ));
                (node, Err(why))
            }
        }
    }

    async fn dns(&self, problems: &mut Vec<Finding>) -> Option<Dns> {
        let (address, domain) = self.dns.as_ref()?;
        let asked = dns::ask(*address, domain).await;
        if let Err(why) = &asked {
            let advice = "see the log's messages about DNS; 'minik8s restart' sets it up again";
            problems.push(Finding::new("DNS does not work for pods of this node", why.to_string(), advice));
        }
        Some(Dns { address: *address, answers: asked.is_ok() })
    }

    async fn ask(&self, node: &mut Node) -> Result<Option<Finding>, NoAnswer> {
        let nodes: Api<core::Node> = Api::all(self.api.clone());
        let object = match nodes.find(&self.name).await? {
            Some(object) => object,
            None if self.ready.is_open() => return Ok(Some(self.gone())),
            None => return Ok(Some(self.not_ready("it has not registered yet"))),
        };
        let status = object.status.clone().unwrap_or_default();
        node.addresses = status.addresses.into_iter().flatten().map(|one| one.address).collect();
        node.runtime.version =
            status.node_info.map(|info| info.container_runtime_version).unwrap_or_default();
        let mut finding = None;
        for condition in status.conditions.into_iter().flatten() {
            let good = if condition.type_ == "Ready" { "True" } else { "False" };
            if condition.status != good {
                let message = condition.message.as_deref().unwrap_or("it does not say why");
                finding =
                    Some(self.not_ready(&format!("{}={}: {message}", condition.type_, condition.status)));
            }
            // What an earlier process said of itself does not count.
            node.ready |= condition.type_ == "Ready" && condition.status == "True" && self.ready.is_open();
            node.conditions.insert(condition.type_, condition.status);
        }
        let fields = FieldSelector::equals("spec.nodeName", &self.name);
        let pods: Api<core::Pod> = Api::all(self.api.clone());
        let options = ListOptions { fields, ..ListOptions::default() };
        for pod in pods.list(&options).await? {
            let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
            *node.pods.entry(phase.unwrap_or_else(|| "Pending".to_string())).or_default() += 1;
        }
        Ok(finding)
    }

    fn not_ready(&self, why: &str) -> Finding {
        let what = format!("node {} is not well", self.name);
        let place = if self.on_server { "" } else { " where kubectl has a kubeconfig" };
        Finding::new(what, why, format!("see 'kubectl describe node {}'{place}", self.name))
    }

    fn gone(&self) -> Finding {
        let what = format!("node {} is not in the cluster any more", self.name);
        let advice = "it registers again by itself; if it does not, 'minik8s restart'";
        Finding::new(what, "its Node object is gone (deleted, or an older snapshot was restored)", advice)
    }
}
