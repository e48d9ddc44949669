//! Who is at the other end of a connection, and what the connection is doing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use api::identity::GROUP_MASTERS;
use api::{ApiError, Identity};
use supervisor::{Admission, CancellationToken, Standing};
use tokio::time::Instant;

use crate::authn::Certificate;
use crate::fairness::too_many;

pub(crate) struct Peer {
    /// If one was shown.
    pub(crate) certificate: Option<Certificate>,
    pub(crate) address: SocketAddr,
    /// Cancelled when the port closes: streams end then.
    pub(crate) stopping: CancellationToken,
    /// The connection's place; none in the process.
    pub(crate) admission: Option<Admission>,
    pub(crate) vitals: Arc<Vitals>,
}

impl Peer {
    /// A caller in the process, who has no connection.
    pub(crate) fn in_process(identity: Option<Identity>, stopping: CancellationToken) -> Self {
        Peer {
            certificate: identity.map(Certificate::lasting),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            stopping,
            admission: None,
            vitals: Arc::default(),
        }
    }

    /// The user of the connection's certificate, judged now: a connection may outlive its certificate.
    pub(crate) fn certified(&self) -> Option<Result<Arc<Identity>, ApiError>> {
        let certificate = self.certificate.as_ref()?;
        Some(match certificate.remaining(SystemTime::now()) {
            Some(_) => Ok(certificate.identity.clone()),
            None => {
                tracing::debug!(
                    peer = %self.address,
                    user = %certificate.identity.name,
                    "x509: certificate has expired or is not yet valid"
                );
                Err(ApiError::unauthorized())
            }
        })
    }

    /// Counts the connection as this user's, whose token has just been checked.
    pub(crate) fn identify(&self, identity: &Identity) -> Result<(), ApiError> {
        match &self.admission {
            Some(admission) if !admission.identify(&identity.name, standing(identity)) => Err(too_many()),
            _ => Ok(()),
        }
    }
}

/// Nodes and administrators get the places that are kept.
pub(super) fn standing(identity: &Identity) -> Standing {
    match identity.in_group(GROUP_MASTERS) || identity.node_name().is_some() {
        true => Standing::Reserved,
        false => Standing::Ordinary,
    }
}

/// Signs of life of a connection.
#[derive(Default)]
pub(crate) struct Vitals {
    in_flight: AtomicUsize,
    /// When the last request ended, as [`milliseconds`]; 0 before the first.
    quiet_since: AtomicU64,
    /// Answers under way whose reader may take its time.
    pub(super) unhurried: Arc<AtomicUsize>,
}

impl Vitals {
    /// Counts a request until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// For how long there has been no request; none while there is one.
    pub(super) fn idle_for(&self, since_begin: Duration) -> Option<Duration> {
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let quiet_since = self.quiet_since.load(Ordering::Relaxed);
        Some(match quiet_since {
            0 => since_begin,
            since => Duration::from_millis(milliseconds().saturating_sub(since)),
        })
    }
}

/// A request under way, to the last byte of its answer.
pub(super) struct InFlight(Arc<Vitals>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.quiet_since.store(milliseconds(), Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A coarse clock that fits into an atomic; never 0.
pub(super) fn milliseconds() -> u64 {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGIN.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
}
