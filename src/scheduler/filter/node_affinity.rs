//! NodeAffinity: `nodeSelector` and required node affinity.

use api::affinity::RequiredNodes;

use super::{Plugin, Rejection};
use crate::pod::Labels;

pub(crate) fn filter(required: &RequiredNodes, node: &str, labels: &Labels) -> Option<Rejection> {
    let text = "node(s) didn't match Pod's node affinity/selector";
    (!required.matches(node, labels)).then(|| Rejection::for_good(Plugin::NodeAffinity, text))
}
