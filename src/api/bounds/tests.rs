//! Budgets run out, texts are cut between characters.

use std::fmt::Write;

use serde_json::json;

use super::*;
use crate::ApiError;

#[test]
fn a_budget_runs_out_once_and_for_all() {
    let mut budget = Budget::of(1000);
    budget.take(400).unwrap();
    assert_eq!(budget.take(601), Err(Spent { allowed: 1000 }));
    assert!(budget.take(1).is_err());
    let error = ApiError::from(Spent { allowed: 1000 });
    assert_eq!((error.code(), error.reason()), (413, "RequestEntityTooLarge"));
    assert!(error.message().contains("more than 1000 bytes of memory"), "{error}");
}

#[test]
fn texts_are_cut_between_characters() {
    let mut text = Text::new(4);
    assert!(text.write_str("aé").is_ok());
    assert!(text.write_str("é").is_err());
    assert!(text.write_str("b").is_err());
    assert_eq!(text.finish(), "aé...");
    assert_eq!(cut("abcd".into(), 4), "abcd");
    assert_eq!(cut("abcde".into(), 4), "abcd...");
}

#[test]
fn lengths_are_those_of_json() {
    let value = json!({"a": [1, "é\n", null], "b": {}});
    assert_eq!(json_len(&value, 1000), serde_json::to_string(&value).unwrap().len());
    assert!(json_len(&value, 3) > 3);
}
