//! What is told about a pod that fits nowhere, in upstream's words, which people and scripts look for.

use crate::place::Unfit;

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. preemption: 0/3 nodes are available: …`.
pub(crate) fn unschedulable(unfit: &Unfit, never_preempts: bool) -> String {
    if unfit.nodes == 0 {
        return "no nodes available to schedule pods".to_string();
    }
    let mut reasons: Vec<String> =
        unfit.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    reasons.sort();
    let nodes = unfit.nodes;
    format!("0/{nodes} nodes are available: {}. {}", reasons.join(", "), preemption(unfit, never_preempts))
}

fn preemption(unfit: &Unfit, never_preempts: bool) -> String {
    if never_preempts {
        return "preemption: not eligible due to preemptionPolicy=Never.".to_string();
    }
    let mut parts = Vec::new();
    if unfit.resolvable > 0 {
        parts.push(format!("{} No preemption victims found for incoming pod", unfit.resolvable));
    }
    if unfit.hopeless > 0 {
        parts.push(format!("{} Preemption is not helpful for scheduling", unfit.hopeless));
    }
    parts.sort();
    format!("preemption: 0/{} nodes are available: {}.", unfit.nodes, parts.join(", "))
}

#[cfg(test)]
mod tests;
