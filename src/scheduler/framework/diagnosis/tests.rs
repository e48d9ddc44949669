//! Tests of what is told about a pod that fits nowhere.

use super::*;

fn rejected() -> Diagnosis {
    let mut diagnosis = Diagnosis::new(3);
    diagnosis.reject(7, PluginSet::of(0), &Status::unschedulable("Insufficient cpu"));
    for node in [8, 9] {
        diagnosis.reject(node, PluginSet::of(1), &Status::unresolvable("node(s) were unschedulable"));
    }
    diagnosis
}

#[test]
fn upstream_s_words() {
    let mut diagnosis = rejected();
    let told = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.";
    assert_eq!(diagnosis.message(), told);
    diagnosis
        .post_filter_said(&Status::unschedulable("preemption: not eligible due to preemptionPolicy=Never."));
    assert_eq!(
        diagnosis.message(),
        format!("{told} preemption: not eligible due to preemptionPolicy=Never.")
    );
    assert_eq!(Diagnosis::default().message(), "no nodes available to schedule pods");
}

#[test]
fn what_pre_filter_says_stands_for_all_nodes() {
    let mut diagnosis = Diagnosis::new(2);
    let status = Status::unresolvable("node(s) didn't satisfy plugin NodeAffinity");
    diagnosis.pre_filter_rejected(&[0, 1], PluginSet::of(3), &status);
    assert_eq!(diagnosis.message(), "0/2 nodes are available: node(s) didn't satisfy plugin NodeAffinity.");
    assert_eq!((diagnosis.unresolvable, diagnosis.unschedulable_nodes()), (2, &[][..]));
}

#[test]
fn it_is_known_who_rejected_and_where_eviction_might_help() {
    let diagnosis = rejected();
    assert_eq!(diagnosis.rejectors, PluginSet::of(0) | PluginSet::of(1));
    assert_eq!((diagnosis.unschedulable_nodes(), diagnosis.unresolvable), (&[7][..], 2));
    let pending = Diagnosis::of_one_node(PluginSet::of(4), &Status::pending("not yet"));
    assert_eq!(pending.message(), "0/1 nodes are available: 1 not yet.");
    assert_eq!((pending.pending, pending.rejectors), (PluginSet::of(4), PluginSet::of(4)));
}
