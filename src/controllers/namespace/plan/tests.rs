//! Tests of the conditions of a namespace that is being deleted.

use std::collections::BTreeMap;

use api::{ApiError, kinds};
use k8s_openapi::jiff::Timestamp;

use super::*;

fn find<'a>(list: &'a [NamespaceCondition], kind: &str) -> &'a NamespaceCondition {
    list.iter().find(|one| one.type_ == kind).unwrap()
}

#[test]
fn conditions_tell_what_remains_and_change_once() {
    let now = Timestamp::UNIX_EPOCH;
    let mut remains = Remains::default();
    remains.add(&kinds::POD, 2, 30, BTreeMap::from([("example.com/hold".to_string(), 1)]));
    let mut list = Vec::new();
    assert!(conditions(&mut list, &remains, now));
    assert_eq!(list.len(), 5);
    let remaining = find(&list, "NamespaceContentRemaining");
    assert_eq!(remaining.status, "True");
    assert_eq!(
        remaining.message.as_deref(),
        Some("Some resources are remaining: pods. has 2 resource instances")
    );
    let held = find(&list, "NamespaceFinalizersRemaining").message.clone().unwrap();
    assert!(held.ends_with("finalizers remaining: example.com/hold in 1 resource instances"), "{held}");
    assert!(!conditions(&mut list, &remains, now), "nothing new");
    assert!(conditions(&mut list, &Remains::default(), now));
    assert!(list.iter().all(|one| one.status == "False"));
}

#[test]
fn a_failure_is_told() {
    let mut remains = Remains::default();
    remains.failed(&kinds::SECRET, ApiError::unavailable("try later"));
    let mut list = Vec::new();
    conditions(&mut list, &remains, Timestamp::UNIX_EPOCH);
    let failure = find(&list, "NamespaceDeletionContentFailure");
    assert_eq!(failure.reason.as_deref(), Some("ContentDeletionFailed"));
    assert!(failure.message.as_deref().unwrap().contains("secrets: try later"));
    assert!(!remains.is_empty(), "it is not known to be empty");
}
