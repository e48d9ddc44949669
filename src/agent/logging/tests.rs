//! Levels by component.

use super::directives;

#[test]
fn components_have_their_own_levels() {
    let filter = directives("warn,kubelet=debug,store=trace").unwrap();
    assert!(filter.starts_with("warn,"), "{filter}");
    assert!(filter.contains("apiserver=warn"), "{filter}");
    assert!(filter.contains("kubelet=debug") && filter.contains("embedded_store=trace"), "{filter}");
}

#[test]
fn unknown_components_and_levels_are_named() {
    assert!(directives("kublet=info").unwrap_err().to_string().contains("did you mean kubelet"));
    assert!(directives("loud").unwrap_err().to_string().contains("loud is no level"));
}
