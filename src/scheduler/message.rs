//! What is told about a pod that fits nowhere, in upstream's words, which people and scripts look for.

use crate::place::Unfit;

/// What preemption came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preemption {
    /// Pods are evicted for this one: there is nothing to add.
    UnderWay,
    /// `preemptionPolicy: Never`.
    Never,
    /// Pods that were evicted for this one are not gone yet.
    Waits,
    Useless,
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. preemption: 0/3 nodes are available: …`.
pub(crate) fn unschedulable(unfit: &Unfit, outcome: Preemption) -> String {
    if unfit.nodes == 0 {
        return "no nodes available to schedule pods".to_string();
    }
    let mut reasons: Vec<String> =
        unfit.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    reasons.sort();
    let nodes = unfit.nodes;
    let told = format!("0/{nodes} nodes are available: {}.", reasons.join(", "));
    match preemption(unfit, outcome) {
        Some(preemption) => format!("{told} {preemption}"),
        None => told,
    }
}

fn preemption(unfit: &Unfit, outcome: Preemption) -> Option<String> {
    let useless = || {
        let mut parts = Vec::new();
        if !unfit.resolvable.is_empty() {
            parts.push(format!("{} No preemption victims found for incoming pod", unfit.resolvable.len()));
        }
        if unfit.hopeless > 0 {
            parts.push(format!("{} Preemption is not helpful for scheduling", unfit.hopeless));
        }
        parts.sort();
        format!("preemption: 0/{} nodes are available: {}.", unfit.nodes, parts.join(", "))
    };
    match outcome {
        Preemption::UnderWay => None,
        Preemption::Never => Some("preemption: not eligible due to preemptionPolicy=Never.".to_string()),
        Preemption::Waits => {
            Some("preemption: not eligible due to a terminating pod on the nominated node.".to_string())
        }
        Preemption::Useless => Some(useless()),
    }
}

#[cfg(test)]
mod tests;
