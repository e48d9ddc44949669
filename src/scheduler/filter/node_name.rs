//! NodeName: `spec.nodeName` confines to one node.

use super::{Plugin, Rejection};

pub(crate) fn filter(wanted: Option<&str>, node: &str) -> Option<Rejection> {
    let other = wanted.is_some_and(|wanted| wanted != node);
    other.then(|| Rejection::for_good(Plugin::NodeName, "node(s) didn't match the requested node name"))
}
