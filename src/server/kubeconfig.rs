//! The administrator's kubeconfig: the file that the server keeps current, and fresh ones made on request.
//!
//! A certificate cannot be revoked, so it lives for 90 days: the file is renewed in time, copies are replaced
//! by `minik8s kubeconfig`.

use std::sync::Arc;

use agent::{Problem, files, keys};
use serde::{Deserialize, Serialize};

use crate::pki::{self, ADMIN_LIFE, ClientPairs, DAY, Pki};
use crate::plan::ServerPlan;

/// Writes the file, and notes where it is for uninstalling.
pub(crate) fn write(plan: &ServerPlan, url: &str, pki: &Pki, clients: &ClientPairs) -> Result<(), Problem> {
    let text = pki::kubeconfig(url, &pki.server_ca.certificate_pem, &clients.admin);
    if let Some(folder) = plan.kubeconfig.parent() {
        std::fs::create_dir_all(folder).map_err(|error| {
            Problem::new(
                format!("create {}", folder.display()),
                error,
                "choose a writable place with --write-kubeconfig",
            )
        })?;
    }
    files::write(&plan.kubeconfig, text.as_bytes(), plan.kubeconfig_mode)?;
    let note = plan.instance.server_dir().join("kubeconfig-path");
    let place = std::path::absolute(&plan.kubeconfig).unwrap_or_else(|_| plan.kubeconfig.clone());
    files::write(&note, place.as_os_str().as_encoded_bytes(), 0o600)
}

/// What is asked for on the admin socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KubeconfigRequest {
    /// Where its user finds the API; the machine's own URL if none is given.
    pub(crate) server: Option<String>,
    pub(crate) seconds: i64,
}

/// What makes them in the running server.
#[derive(Clone)]
pub(crate) struct Kubeconfigs {
    pub(crate) pki: Arc<Pki>,
    pub(crate) url: String,
}

impl Kubeconfigs {
    pub(crate) fn make(&self, request: &KubeconfigRequest) -> Result<String, Problem> {
        let life = check_life(request.seconds)?;
        let pair = self.pki.administrator(life, keys::now())?;
        tracing::info!(days = life / DAY, "a kubeconfig of the administrator is made");
        let url = request.server.as_deref().unwrap_or(&self.url);
        Ok(pki::kubeconfig(url, &self.pki.server_ca.certificate_pem, &pair))
    }
}

const SHORTEST_LIFE: i64 = 600;

pub(crate) fn check_life(seconds: i64) -> Result<i64, Problem> {
    if (SHORTEST_LIFE..=ADMIN_LIFE).contains(&seconds) {
        return Ok(seconds);
    }
    let why = format!("it can be good for ten minutes to {} days", ADMIN_LIFE / DAY);
    Err(Problem::new("make a kubeconfig", why, "correct --ttl"))
}
