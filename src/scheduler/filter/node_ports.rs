//! NodePorts: host ports must be free.

use super::{Plugin, Rejection};
use crate::pod::HostPort;

pub(crate) fn filter(wanted: &[HostPort], taken: &[HostPort]) -> Option<Rejection> {
    let conflict = wanted.iter().any(|port| taken.iter().any(|own| own.conflicts(port)));
    let text = "node(s) didn't have free ports for the requested pod ports";
    conflict.then(|| Rejection::new(Plugin::NodePorts, text))
}
