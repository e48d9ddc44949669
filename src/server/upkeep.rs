//! What goes on as long as the server runs: certificates that are renewed in time and follow the machine's
//! addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent::addresses::Addresses;
use agent::keys;
use agent::problem::chain;
use agent::{Problem, files};
use supervisor::{OnExit, Stage};
use tokio::sync::watch;

use crate::dialer::Dialer;
use crate::etcd::EtcdPki;
use crate::pki::{self, Pki, ServingNames};
use crate::run::client_certificate;

/// How often certificates are looked at; they are renewed 90 days before their end.
const LOOK_AT_CERTIFICATES: Duration = Duration::from_secs(12 * 3600);

/// The parts that use the server's certificates.
#[derive(Clone)]
pub(crate) struct Users {
    pub(crate) pki: Arc<Pki>,
    pub(crate) etcd: Option<Arc<EtcdPki>>,
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) tls_dir: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) kubeconfig_mode: u32,
    pub(crate) url: String,
}

impl Users {
    /// Renews what is due, and hands it to whoever uses it.
    fn renew(&self) -> Result<(), Problem> {
        let clients = self.pki.renew(keys::now())?;
        if let Err(error) =
            self.dialer.remote().replace_certificate(&client_certificate(&clients.kubelet_client))
        {
            tracing::warn!(error = chain(&error), "the renewed certificate towards kubelets cannot be used");
        }
        let text = pki::kubeconfig(&self.url, &self.pki.server_ca.certificate_pem, &clients.admin);
        if std::fs::read_to_string(&self.kubeconfig).is_ok_and(|old| old == text) {
            return Ok(());
        }
        files::write(&self.kubeconfig, text.as_bytes(), self.kubeconfig_mode)
    }

    fn renew_all(&self) {
        let etcd = self.etcd.as_ref().map_or(Ok(()), |pki| pki.renew(&self.tls_dir, keys::now()));
        for problem in [self.renew(), etcd].into_iter().filter_map(Result::err) {
            tracing::warn!(%problem, "certificates are not renewed");
        }
    }
}

/// Keeps certificates current in tasks of `stage`. `names` says what the serving certificate is for, given
/// the machine's addresses.
pub(crate) fn start(
    users: Users,
    mut addresses: watch::Receiver<Addresses>,
    names: impl Fn(&Addresses) -> Result<ServingNames, Problem> + Send + 'static,
    stage: &Stage,
) {
    let (renewing, mut clock) = (users.clone(), stage.clock());
    stage.spawn_cancellable("renewal of certificates", OnExit::Stop, async move {
        loop {
            clock.sleep(LOOK_AT_CERTIFICATES).await;
            renewing.renew_all();
        }
    });
    stage.spawn_cancellable("names of the serving certificate", OnExit::Done, async move {
        // What the certificate was made for at the start may be the past by now.
        addresses.mark_changed();
        let mut known: Option<BTreeSet<IpAddr>> = None;
        while addresses.changed().await.is_ok() {
            let now = addresses.borrow_and_update().clone();
            let all: BTreeSet<IpAddr> = now.all.iter().copied().chain([now.node]).collect();
            if known.as_ref() == Some(&all) {
                continue;
            }
            let outcome = names(&now).and_then(|names| {
                users.pki.set_names(names);
                users.renew()
            });
            match outcome {
                Ok(()) => known = Some(all),
                Err(problem) => {
                    tracing::warn!(%problem, "the serving certificate does not follow the machine's addresses");
                }
            }
        }
    });
}
