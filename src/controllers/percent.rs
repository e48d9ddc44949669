//! Numbers that may be given as a percentage of something.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The number itself, or so many per cent of `of`. Absent is zero, and so is what is not a percentage:
/// validation refuses it.
pub(crate) fn resolve(value: Option<&IntOrString>, of: i32, round_up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.strip_suffix('%').and_then(|percent| percent.parse().ok()).unwrap_or(0);
            let share = percent.saturating_mul(i64::from(of)).saturating_add(if round_up { 99 } else { 0 });
            i32::try_from(share / 100).unwrap_or(i32::MAX)
        }
    }
}
