//! Tests of what failing commands print.

use api::ApiError;
use api::kinds::POD;
use api::{FieldError, KindRow};

use super::{Error, collect};

fn pod() -> &'static KindRow {
    &POD
}

#[test]
fn refusals_name_their_reason() {
    let gone = || Error::from(ApiError::not_found(pod(), "x"));
    assert_eq!(gone().to_string(), "Error from server (NotFound): pods \"x\" not found");
    assert_eq!(
        gone().doing("error when deleting \"a.yaml\"").to_string(),
        "Error from server (NotFound): error when deleting \"a.yaml\": pods \"x\" not found"
    );
    assert_eq!(Error::from(ApiError::new(418, "", "no")).to_string(), "Error from server: no");
    let both = collect(vec![gone(), Error::message("other")]).unwrap_err();
    assert_eq!(both.to_string(), "Error from server (NotFound): pods \"x\" not found\nerror: other");
}

#[test]
fn invalid_objects_list_their_faults() {
    let one = FieldError::required("spec.containers", "");
    let error = Error::from(ApiError::invalid(pod(), "x", vec![one.clone()]));
    assert_eq!(error.to_string(), "The Pod \"x\" is invalid: spec.containers: Required value");
    let two = FieldError::duplicate("spec.containers[1].name", "a");
    let error = Error::from(ApiError::invalid(pod(), "x", vec![one, two]));
    assert_eq!(
        error.to_string(),
        "The Pod \"x\" is invalid: \n* spec.containers: Required value\n* spec.containers[1].name: Duplicate value: \"a\""
    );
}
