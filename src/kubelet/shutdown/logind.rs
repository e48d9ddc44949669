//! logind, asked over the system bus to wait with a shutdown.

use std::path::Path;
use std::time::Duration;

use client::BoxFuture;
use futures::StreamExt;
use zbus::OwnedFd;

use super::{Lock, Power, PowerError};
use crate::files;

#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
trait Manager {
    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::Result<OwnedFd>;
    #[zbus(property(emits_changed_signal = "false"), name = "InhibitDelayMaxUSec")]
    fn inhibit_delay_max(&self) -> zbus::Result<u64>;
    #[zbus(signal)]
    fn prepare_for_shutdown(&self, start: bool) -> zbus::Result<()>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Units {
    fn reload_unit(&self, name: &str, mode: &str) -> zbus::Result<zbus::OwnedObjectPath>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
}

/// Upstream's name, so that whoever moves from its kubelet has one such file.
const OVERRIDE: &str = "/etc/systemd/logind.conf.d/99-kubelet.conf";
/// How often the reread configuration is looked for.
const LOOKS: u32 = 6;

pub(crate) struct Logind {
    bus: zbus::Connection,
    manager: ManagerProxy<'static>,
    announcements: PrepareForShutdownStream,
}

impl Logind {
    pub(crate) async fn connect() -> Result<Self, PowerError> {
        let bus = zbus::Connection::system().await?;
        let manager = ManagerProxy::new(&bus).await?;
        // Before anything is held back, so that no announcement is missed.
        let announcements = manager.receive_prepare_for_shutdown().await?;
        Ok(Logind { bus, manager, announcements })
    }

    async fn allowed(&self) -> Result<Duration, PowerError> {
        Ok(Duration::from_micros(self.manager.inhibit_delay_max().await?))
    }

    /// Has logind allow so much, if it does not yet.
    async fn allow(&self, wanted: Duration) -> Result<(), PowerError> {
        if self.allowed().await? >= wanted {
            return Ok(());
        }
        let seconds = wanted.as_secs_f64().ceil();
        let text = format!(
            "# The node's pods end while a shutdown waits.\n[Login]\nInhibitDelayMaxSec={seconds:.0}\n"
        );
        let written =
            files::blocking(move || files::replace(Path::new(OVERRIDE), text.as_bytes(), 0o644)).await;
        written.map_err(|source| PowerError::File { path: OVERRIDE, source })?;
        let units = UnitsProxy::new(&self.bus).await?;
        // Older ones cannot be reloaded, and read their configuration again for a signal.
        if units.reload_unit("systemd-logind.service", "replace").await.is_err() {
            units.kill_unit("systemd-logind.service", "all", nix::libc::SIGHUP).await?;
        }
        let mut allowed = Duration::ZERO;
        for look in 0..LOOKS {
            allowed = self.allowed().await?;
            if allowed >= wanted {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100) * 2u32.pow(look)).await;
        }
        Err(PowerError::TooShort { allowed, wanted })
    }
}

impl Power for Logind {
    fn hold(&mut self, most: Duration) -> BoxFuture<'_, Result<Lock, PowerError>> {
        Box::pin(async move {
            self.allow(most).await?;
            let why = "Kubelet needs time to handle node shutdown";
            let lock: OwnedFd = self.manager.inhibit("shutdown", "kubelet", why, "delay").await?;
            Ok(Box::new(lock) as Lock)
        })
    }

    fn announced(&mut self) -> BoxFuture<'_, Option<bool>> {
        Box::pin(async move {
            loop {
                let signal = self.announcements.next().await?;
                if let Ok(arguments) = signal.args() {
                    return Some(arguments.start);
                }
            }
        })
    }
}
