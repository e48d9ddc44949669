//! Cgroups as systemd's slices, asked for on the system bus.
//!
//! A slice's name spells its place (`a-b.slice` is below `a.slice`), so a dash within a part is written as an
//! underscore, as upstream's kubelet does. systemd sets the limits. Absent: version 1, where directories are
//! used with systemd too.

use std::time::Duration;

use futures::StreamExt;
use tokio::sync::OnceCell;
use zbus::{OwnedObjectPath, Variant};

use super::tree::v2_weight;
use crate::spec::resources::PodLimits;

/// How long a job of systemd may take, as upstream has it.
const JOB_TIMEOUT: Duration = Duration::from_secs(30);
/// What systemd takes for "no limit".
const INFINITY: u64 = u64::MAX;
/// Quotas are per 100 ms; systemd wants microseconds a second.
const PERIODS_PER_SECOND: u64 = 10;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SystemdError {
    #[error("cannot reach systemd over D-Bus: {0}")]
    Bus(#[source] zbus::Error),
    #[error("systemd refused to {verb} {unit}: {source}")]
    Refused { verb: &'static str, unit: String, source: zbus::Error },
    #[error("systemd could not {verb} {unit}: the job ended as {result:?}")]
    Job { verb: &'static str, unit: String, result: String },
    #[error("systemd did not {verb} {unit} within {} s", JOB_TIMEOUT.as_secs())]
    Timeout { verb: &'static str, unit: String },
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        auxiliary: &[(&str, &[(&str, Variant<'_>)])],
    ) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn set_unit_properties(
        &self,
        name: &str,
        runtime: bool,
        properties: &[(&str, Variant<'_>)],
    ) -> zbus::Result<()>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

/// A part of a name as systemd's hierarchy takes it.
fn escaped(part: &str) -> String {
    part.replace('-', "_")
}

/// Name of the slice at a place.
pub(super) fn unit(parts: &[String]) -> String {
    let parts: Vec<String> = parts.iter().map(|part| escaped(part)).collect();
    format!("{}.slice", parts.join("-"))
}

/// Path of the slice at a place, in the cgroup file system.
pub(super) fn path(parts: &[String]) -> String {
    let units: Vec<String> = (1..=parts.len()).map(|end| unit(&parts[..end])).collect();
    units.join("/")
}

/// The pod a slice is of.
pub(super) fn pod_uid(unit: &str) -> Option<String> {
    let (_, last) = unit.strip_suffix(".slice")?.rsplit_once('-')?;
    Some(last.strip_prefix("pod")?.replace('_', "-"))
}

fn limits(of: PodLimits) -> Vec<(&'static str, Variant<'static>)> {
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    vec![
        ("CPUWeight", Variant::from(number(v2_weight(of.shares)))),
        (
            "CPUQuotaPerSecUSec",
            Variant::from(of.quota.map_or(INFINITY, |one| number(one) * PERIODS_PER_SECOND)),
        ),
        ("MemoryMax", Variant::from(of.memory.map_or(INFINITY, number))),
    ]
}

fn description_of_new(unit: &str, of: PodLimits) -> Vec<(&'static str, Variant<'static>)> {
    let mut properties = vec![
        ("Description", Variant::from(format!("minik8s: cgroup {unit}"))),
        // Without its dependencies the slice does not wait for, nor go with, the boot's targets.
        ("DefaultDependencies", Variant::from(false)),
        ("CPUAccounting", Variant::from(true)),
        ("MemoryAccounting", Variant::from(true)),
        ("IOAccounting", Variant::from(true)),
        ("TasksAccounting", Variant::from(true)),
    ];
    properties.extend(limits(of));
    properties
}

fn is_error(error: &zbus::Error, name: &str) -> bool {
    matches!(error, zbus::Error::MethodError(found, _, _) if found.as_str() == name)
}

/// systemd, reached when first needed.
#[derive(Default)]
pub(super) struct Slices {
    manager: OnceCell<ManagerProxy<'static>>,
}

impl Slices {
    async fn manager(&self) -> Result<&ManagerProxy<'static>, SystemdError> {
        let connect = async || {
            let manager = ManagerProxy::new(&zbus::Connection::system().await?).await?;
            // systemd tells of ended jobs only if somebody has asked for it.
            manager.subscribe().await?;
            Ok(manager)
        };
        self.manager.get_or_try_init(connect).await.map_err(SystemdError::Bus)
    }

    /// A started slice with these limits.
    pub(super) async fn ensure(&self, unit: &str, of: PodLimits) -> Result<(), SystemdError> {
        let manager = self.manager().await?;
        let properties = description_of_new(unit, of);
        let start = manager.start_transient_unit(unit, "replace", &properties, &[]);
        match self.finished("start", unit, start).await {
            Err(SystemdError::Refused { source, .. })
                if is_error(&source, "org.freedesktop.systemd1.UnitExists") =>
            {
                let set = manager.set_unit_properties(unit, true, &limits(of)).await;
                set.map_err(|source| SystemdError::Refused { verb: "limit", unit: unit.to_string(), source })
            }
            done => done,
        }
    }

    /// Stops a slice with all that is in it.
    pub(super) async fn remove(&self, unit: &str) -> Result<(), SystemdError> {
        let stop = self.manager().await?.stop_unit(unit, "replace");
        match self.finished("stop", unit, stop).await {
            Err(SystemdError::Refused { source, .. })
                if is_error(&source, "org.freedesktop.systemd1.NoSuchUnit") =>
            {
                Ok(())
            }
            done => done,
        }
    }

    /// Makes a call that begins a job, and waits for the job's end.
    async fn finished(
        &self,
        verb: &'static str,
        unit: &str,
        begin: impl Future<Output = zbus::Result<OwnedObjectPath>>,
    ) -> Result<(), SystemdError> {
        let unit = unit.to_string();
        // Listening begins before the job does, so its end cannot be missed.
        let mut ended = self.manager().await?.receive_job_removed().await.map_err(SystemdError::Bus)?;
        let job = match begin.await {
            Ok(job) => job,
            Err(source) => return Err(SystemdError::Refused { verb, unit, source }),
        };
        let result = async {
            while let Some(signal) = ended.next().await {
                let Ok(arguments) = signal.args() else { continue };
                if arguments.job == job {
                    return arguments.result;
                }
            }
            "the connection ended".to_string()
        };
        match tokio::time::timeout(JOB_TIMEOUT, result).await {
            Ok(result) if result == "done" || result == "skipped" => Ok(()),
            Ok(result) => Err(SystemdError::Job { verb, unit, result }),
            Err(_) => Err(SystemdError::Timeout { verb, unit }),
        }
    }
}
