//! Tests of what is told about a pod that fits nowhere.

use super::{Preemption, unschedulable};
use crate::place::Unfit;

#[test]
fn upstream_s_words() {
    let mut unfit = Unfit { nodes: 3, resolvable: vec![7], hopeless: 2, ..Unfit::default() };
    unfit.reasons.insert("Insufficient cpu".into(), 1);
    unfit.reasons.insert("node(s) were unschedulable".into(), 2);
    assert_eq!(
        unschedulable(&unfit, Preemption::Useless),
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. preemption: 0/3 nodes are available: \
         1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
    );
    assert!(
        unschedulable(&unfit, Preemption::Never)
            .ends_with(". preemption: not eligible due to preemptionPolicy=Never.")
    );
    assert!(unschedulable(&unfit, Preemption::UnderWay).ends_with("2 node(s) were unschedulable."));
    assert_eq!(unschedulable(&Unfit::default(), Preemption::Useless), "no nodes available to schedule pods");
}
