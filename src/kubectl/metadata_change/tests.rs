//! Tests of how arguments are split into resources and changes.

use super::split;

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_string).collect()
}

#[test]
fn resources_first_then_changes() {
    let (resources, changes) = split(&words("pods a b x=1 y- z="), "label").unwrap();
    assert_eq!(resources, ["pods", "a", "b"]);
    let some = |text: &str| Some(text.to_string());
    assert_eq!(changes, [("x".to_string(), some("1")), ("y".to_string(), None), ("z".to_string(), some(""))]);
    assert!(split(&words("pods a x=1 x-"), "label").is_err());
    assert!(split(&words("pods a x=1 b"), "label").is_err());
}
