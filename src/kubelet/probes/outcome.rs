//! What a probe can find, and where everyone else asks for it.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeOutcome {
    Success,
    Failure,
}

/// What probes found so far.
pub(crate) trait ProbeView: Sync {
    /// `None` while nothing is known, or where there is no such probe.
    fn outcome(&self, kind: ProbeKind, container: &str) -> Option<ProbeOutcome>;
}
