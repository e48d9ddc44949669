//! Values of Kubernetes' own types: they have functions and no fields.

use std::net::IpAddr;

use api::quantity::Quantity;
use http::Uri;

use crate::authorizer::{Check, Decision};

#[derive(Clone, Debug)]
pub enum Opaque {
    Quantity(Quantity),
    Url {
        text: String,
        uri: Uri,
    },
    Ip(IpAddr),
    Cidr {
        address: IpAddr,
        prefix: u8,
    },
    Semver([u64; 3], Vec<String>),
    /// The name of a format.
    Format(&'static str),
    /// A question to the authorizer, as far as it has been put.
    Check(Check),
    Decision(Decision),
}

impl Opaque {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Opaque::Quantity(_) => "kubernetes.Quantity",
            Opaque::Url { .. } => "kubernetes.URL",
            Opaque::Ip(_) => "net.IP",
            Opaque::Cidr { .. } => "net.CIDR",
            Opaque::Semver(..) => "kubernetes.Semver",
            Opaque::Format(_) => "kubernetes.NamedFormat",
            Opaque::Check(_) => "kubernetes.authorization.Authorizer",
            Opaque::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    /// How long its texts are.
    pub(crate) fn size(&self) -> u64 {
        let size = match self {
            Opaque::Url { text, .. } => text.len(),
            Opaque::Semver(_, marks) => marks.iter().map(String::len).sum(),
            Opaque::Check(check) => check.size(),
            Opaque::Decision(decision) => decision.reason.len(),
            _ => 0,
        };
        u64::try_from(size).unwrap_or(u64::MAX).saturating_add(1)
    }

    pub(crate) fn equals(&self, other: &Opaque) -> bool {
        match (self, other) {
            (Opaque::Quantity(one), Opaque::Quantity(two)) => one == two,
            (Opaque::Url { text: one, .. }, Opaque::Url { text: two, .. }) => one == two,
            (Opaque::Ip(one), Opaque::Ip(two)) => one == two,
            (Opaque::Cidr { address: a, prefix: p }, Opaque::Cidr { address: b, prefix: q }) => {
                a == b && p == q
            }
            (Opaque::Semver(a, p), Opaque::Semver(b, q)) => a == b && p == q,
            (Opaque::Format(one), Opaque::Format(two)) => one == two,
            _ => false,
        }
    }
}
