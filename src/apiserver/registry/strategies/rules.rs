//! Rules that several kinds share: required texts, one of a list, amounts, names of drivers and classes.

use api::FieldError;
use api::json::text;
use api::quantity::Quantity;
use api::validation::{Faults, Path, dns1123_subdomain, invalid_each, qualified_name};
use serde_json::Value;

pub(crate) const READ_WRITE_ONCE_POD: &str = "ReadWriteOncePod";
pub(crate) const ACCESS_MODES: [&str; 4] =
    ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", READ_WRITE_ONCE_POD];
pub(crate) const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

/// A text that must be there.
pub(crate) fn required(faults: &mut Faults, at: &Path<'_>, value: &str) {
    if value.is_empty() {
        faults.push(FieldError::required(at, ""));
    }
}

/// Fields of an object that must be there, as texts.
pub(crate) fn required_fields(faults: &mut Faults, at: &Path<'_>, object: &Value, fields: &[&str]) {
    for field in fields {
        required(faults, &at.child(field), text(object, field));
    }
}

/// A text that must be one of a list.
pub(crate) fn one_of(faults: &mut Faults, at: &Path<'_>, value: &str, supported: &[&str]) {
    if !supported.contains(&value) {
        faults.push(FieldError::not_supported(at, value, supported));
    }
}

pub(crate) fn subdomain(faults: &mut Faults, at: &Path<'_>, value: &str) {
    invalid_each(faults, at, value, dns1123_subdomain(value));
}

/// A name of a driver: a subdomain of 63 characters at most, in which capitals are forgiven.
pub(crate) fn driver_name(faults: &mut Faults, at: &Path<'_>, name: &str) {
    const MAX: usize = 63;
    if name.is_empty() {
        faults.push(FieldError::required(at, ""));
        return;
    }
    if name.len() > MAX {
        faults.push(FieldError::too_long(at, MAX));
    }
    invalid_each(faults, at, name, dns1123_subdomain(&name.to_lowercase()));
}

/// A qualified name in which capitals are forgiven: who provisions volumes.
pub(crate) fn provisioner(faults: &mut Faults, at: &Path<'_>, name: &str) {
    if name.is_empty() {
        faults.push(FieldError::required(at, ""));
    } else {
        let lower = name.to_lowercase();
        invalid_each(faults, at, &lower, qualified_name(&lower));
    }
}

/// Ways of mounting. One that is for a single pod stands alone.
pub(crate) fn access_modes(faults: &mut Faults, at: &Path<'_>, modes: &[Value]) {
    let (mut alone, mut others) = (false, false);
    for mode in modes.iter().filter_map(Value::as_str) {
        one_of(faults, at, mode, &ACCESS_MODES);
        alone |= mode == READ_WRITE_ONCE_POD;
        others |= mode != READ_WRITE_ONCE_POD && ACCESS_MODES.contains(&mode);
    }
    if alone && others {
        faults.push(FieldError::forbidden(at, "may not use ReadWriteOncePod with other access modes"));
    }
}

/// An amount; none if it cannot be read, which decoding has told.
pub(crate) fn amount(value: &Value) -> Option<Quantity> {
    value.as_str()?.parse().ok()
}

pub(crate) fn positive_amount(faults: &mut Faults, at: &Path<'_>, value: &Value) {
    if amount(value).is_some_and(|amount| amount.is_zero() || amount.is_negative()) {
        faults.push(FieldError::invalid(at, value, "must be greater than zero"));
    }
}

pub(crate) fn non_negative_amount(faults: &mut Faults, at: &Path<'_>, value: &Value) {
    if amount(value).is_some_and(|amount| amount.is_negative()) {
        faults.push(FieldError::invalid(at, value, "must be greater than or equal to 0"));
    }
}

/// An amount that a volume can hold.
pub(crate) fn basic_amount(faults: &mut Faults, at: &Path<'_>, value: &Value) {
    if let Some(amount) = amount(value).filter(|amount| amount.value() < 0) {
        faults.push(FieldError::invalid(at, amount.value(), "must be a valid resource quantity"));
    }
}

/// Whether two parts of trees mean the same: what is empty may be absent.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    a == b || (empty(a) && empty(b))
}
