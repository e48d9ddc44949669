//! Tests of tolerations.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::*;

fn taint(key: &str, value: &str, effect: &str) -> Taint {
    Taint { key: key.into(), value: Some(value.into()), effect: effect.into(), time_added: None }
}

fn toleration(key: &str, operator: &str, value: &str, effect: &str) -> Toleration {
    let some = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
    Toleration {
        key: some(key),
        operator: some(operator),
        value: some(value),
        effect: some(effect),
        toleration_seconds: None,
    }
}

#[test]
fn what_a_toleration_bears() {
    let gpu = taint("gpu", "yes", NO_SCHEDULE);
    for (toleration, bears) in [
        (toleration("", "Exists", "", ""), true),
        (toleration("gpu", "Exists", "", ""), true),
        (toleration("gpu", "Exists", "", NO_EXECUTE), false),
        (toleration("gpu", "", "yes", NO_SCHEDULE), true),
        (toleration("gpu", "Equal", "no", NO_SCHEDULE), false),
        (toleration("cpu", "Exists", "", ""), false),
        (toleration("gpu", "Rubbish", "yes", ""), false),
    ] {
        assert_eq!(tolerates(&toleration, &gpu), bears, "{toleration:?}");
    }
}

#[test]
fn the_first_unborne_taint_of_the_effects_is_found() {
    let taints =
        [taint("a", "", PREFER_NO_SCHEDULE), taint("b", "", NO_SCHEDULE), taint("c", "", NO_EXECUTE)];
    let bears_b = [toleration("b", "Exists", "", "")];
    let effects = [NO_SCHEDULE, NO_EXECUTE];
    assert_eq!(first_untolerated(&taints, &[], &effects).unwrap().key, "b");
    assert_eq!(first_untolerated(&taints, &bears_b, &effects).unwrap().key, "c");
    assert_eq!(first_untolerated(&taints, &bears_b, &[NO_SCHEDULE]), None);
}
