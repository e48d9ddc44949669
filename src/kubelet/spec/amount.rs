//! Quantities as the integers the kernel wants.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Billionths, exactly; `None` for what is no quantity or does not fit.
pub(crate) fn nanos(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let unscaled: i128 = format!("{whole}{fraction}").parse().ok()?;
    let places = i32::try_from(fraction.len()).ok()?;
    let (multiplier, exponent) = scale(suffix)?;
    let exponent = exponent + 9 - places;
    let scaled = unscaled.checked_mul(multiplier)?;
    let power = 10i128.checked_pow(exponent.unsigned_abs())?;
    // Below a billionth rounds up, away from zero, as upstream does.
    let nanos = if exponent >= 0 { scaled.checked_mul(power)? } else { (scaled + power - 1) / power };
    Some(if negative { -nanos } else { nanos })
}

fn scale(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            (1, exponent.parse::<i32>().ok().filter(|one| one.abs() <= 18)?)
        }
    })
}

fn divided_up(nanos: i128, unit: i128) -> i64 {
    let quotient = if nanos > 0 { (nanos + unit - 1) / unit } else { nanos / unit };
    i64::try_from(quotient).unwrap_or(if quotient > 0 { i64::MAX } else { i64::MIN })
}

/// Whole units, rounded up: bytes of a memory quantity.
pub(crate) fn value(quantity: &Quantity) -> i64 {
    divided_up(nanos(quantity).unwrap_or(0), 1_000_000_000)
}

/// Thousandths, rounded up: milli-CPUs.
pub(crate) fn milli(quantity: &Quantity) -> i64 {
    divided_up(nanos(quantity).unwrap_or(0), 1_000_000)
}

/// `quantity / divisor`, rounded up, as `resourceFieldRef` shows it.
pub(crate) fn ratio(quantity: &Quantity, divisor: Option<&Quantity>) -> Option<i64> {
    let unit = match divisor.and_then(nanos) {
        None | Some(0) => 1_000_000_000,
        Some(unit) => unit,
    };
    Some(divided_up(nanos(quantity)?, unit))
}

pub(crate) type Resources = BTreeMap<String, Quantity>;

/// The CPU of a list of resources in thousandths, if it is named.
pub(crate) fn milli_cpu(list: Option<&Resources>) -> Option<i64> {
    list?.get("cpu").map(milli)
}

/// The memory of a list of resources in bytes, if it is named.
pub(crate) fn memory(list: Option<&Resources>) -> Option<i64> {
    list?.get("memory").map(value)
}

#[cfg(test)]
mod tests;
