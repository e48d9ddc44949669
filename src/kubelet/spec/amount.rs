//! Single amounts out of lists of resources, as the kernel and the downward API want them.

use std::collections::BTreeMap;

use api::resources::{Amounts, CPU, MEMORY, amount, milli, units};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub(crate) type Resources = BTreeMap<String, Quantity>;

/// `quantity / divisor`, rounded up, as `resourceFieldRef` shows it. Without a divisor, or with 0, whole
/// units.
pub(crate) fn ratio(resource: &str, quantity: &Quantity, divisor: Option<&Quantity>) -> i64 {
    let whole = if resource == CPU { 1000 } else { 1 };
    let divisor =
        divisor.map(|divisor| amount(resource, divisor)).filter(|divisor| *divisor > 0).unwrap_or(whole);
    let amount = amount(resource, quantity);
    if amount > 0 { (amount - 1) / divisor + 1 } else { amount / divisor }
}

/// The CPU of a list of resources in thousandths, if it is named.
pub(crate) fn milli_cpu(list: Option<&Resources>) -> Option<i64> {
    list?.get(CPU).map(milli)
}

/// The memory of a list of resources in bytes, if it is named.
pub(crate) fn memory(list: Option<&Resources>) -> Option<i64> {
    list?.get(MEMORY).map(units)
}

/// A list of amounts as it is written in an object.
pub(crate) fn list(amounts: Amounts) -> Resources {
    let written = |name: &str, amount: i64| match name {
        CPU => api::quantity::Quantity::from_milli(amount),
        _ => api::quantity::Quantity::bytes(amount),
    };
    amounts
        .into_iter()
        .map(|(name, one)| {
            let text = written(&name, one).to_string();
            (name, Quantity(text))
        })
        .collect()
}

#[cfg(test)]
mod tests;
