//! What a pod asks for: requests and limits summed over its containers, as scheduler, kubelet and quota count them.
//!
//! The rule (KEP-753 and KEP-2837): containers and restartable init containers run side by side and add up; an ordinary
//! init container runs next to the restartable ones before it, so the most demanding moment counts; pod-level resources
//! replace the sum for the resources they name; `overhead` is added. CPU is counted in thousandths, all else in units.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub const CPU: &str = "cpu";
pub const MEMORY: &str = "memory";
pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
pub const PODS: &str = "pods";

/// Amounts by resource name: `cpu` in thousandths, others in units (bytes, counts).
pub type Amounts = BTreeMap<String, i64>;

type Quantities = BTreeMap<String, Quantity>;

/// One amount as it is counted: thousandths for `cpu`, units for all else, rounded up.
pub fn amount(resource: &str, quantity: &Quantity) -> i64 {
    if resource == CPU { milli(quantity) } else { units(quantity) }
}

/// Amounts of a list such as `requests` or `allocatable`.
pub fn amounts(quantities: Option<&Quantities>) -> Amounts {
    quantities.into_iter().flatten().map(|(name, quantity)| (name.clone(), amount(name, quantity))).collect()
}

/// What the scheduler reserves for the pod: requests of its spec.
pub fn pod_requests(spec: &PodSpec) -> Amounts {
    summed(spec, |resources| resources.requests.as_ref(), &|container| {
        amounts(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
    })
}

/// What the pod may use at most. A container without a limit of a resource makes the sum meaningless as a bound; like
/// upstream, the sum counts those that have one.
pub fn pod_limits(spec: &PodSpec) -> Amounts {
    summed(spec, |resources| resources.limits.as_ref(), &|container| {
        amounts(container.resources.as_ref().and_then(|resources| resources.limits.as_ref()))
    })
}

/// What a pod holds on its node: during an in-place resize the larger of what it asks for and what it was given.
pub fn held_requests(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let Some(status) = &pod.status else { return pod_requests(spec) };
    let statuses = || {
        let init = status.init_container_statuses.iter().flatten();
        status.container_statuses.iter().flatten().chain(init)
    };
    if statuses().all(|one| one.resources.is_none() && one.allocated_resources.is_none()) {
        return pod_requests(spec);
    }
    summed(spec, |resources| resources.requests.as_ref(), &|container| {
        let mut held =
            amounts(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
        if let Some(status) = statuses().find(|status| status.name == container.name) {
            raise(&mut held, &given(status));
        }
        held
    })
}

fn given(status: &ContainerStatus) -> Amounts {
    let mut given = amounts(status.allocated_resources.as_ref());
    raise(&mut given, &amounts(status.resources.as_ref().and_then(|resources| resources.requests.as_ref())));
    given
}

fn summed(
    spec: &PodSpec,
    pod_level: impl Fn(&ResourceRequirements) -> Option<&Quantities>,
    of: &dyn Fn(&Container) -> Amounts,
) -> Amounts {
    let mut total = Amounts::new();
    for container in &spec.containers {
        add(&mut total, &of(container));
    }
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let mut moment = of(container);
        if is_restartable_init(container) {
            add(&mut total, &moment);
            add(&mut sidecars, &moment);
            raise(&mut peak, &sidecars);
        } else {
            add(&mut moment, &sidecars);
            raise(&mut peak, &moment);
        }
    }
    raise(&mut total, &peak);
    for (name, amount) in amounts(spec.resources.as_ref().and_then(pod_level)) {
        if is_pod_level(&name) {
            total.insert(name, amount);
        }
    }
    add(&mut total, &amounts(spec.overhead.as_ref()));
    total
}

/// Resources that `spec.resources` of a pod may name.
fn is_pod_level(resource: &str) -> bool {
    matches!(resource, CPU | MEMORY) || resource.starts_with("hugepages-")
}

/// An init container with `restartPolicy: Always`: a sidecar.
pub fn is_restartable_init(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = total.entry(name.clone()).or_insert(0);
        *sum = sum.saturating_add(*amount);
    }
}

fn raise(total: &mut Amounts, floor: &Amounts) {
    for (name, amount) in floor {
        let own = total.entry(name.clone()).or_insert(0);
        *own = (*own).max(*amount);
    }
}

/// The quantity in thousandths, rounded up; 0 if it cannot be read (validation keeps such quantities out).
pub fn milli(quantity: &Quantity) -> i64 {
    scaled(&quantity.0, 3).unwrap_or(0)
}

/// The quantity in units, rounded up; 0 if it cannot be read.
pub fn units(quantity: &Quantity) -> i64 {
    scaled(&quantity.0, 0).unwrap_or(0)
}

/// `text` times ten to the `decimals`, rounded away from zero, saturating.
fn scaled(text: &str, decimals: i32) -> Option<i64> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits_end = rest.find(|one: char| !one.is_ascii_digit() && one != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(digits_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // More digits than this can neither be stored nor matter after rounding up.
    if whole.len() + fraction.len() == 0 || whole.len() > 19 || fraction.len() > 9 {
        return None;
    }
    let mut value: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (binary, ten) = exponent(suffix)?;
    value = value.checked_shl(binary)?;
    let power = ten + decimals - i32::try_from(fraction.len()).ok()?;
    let factor = 10i128.checked_pow(power.unsigned_abs())?;
    value = if power >= 0 {
        value.checked_mul(factor)?
    } else {
        value / factor + i128::from(value % factor != 0)
    };
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    Some(if negative { -value } else { value })
}

/// Binary and decimal exponent of a suffix.
fn exponent(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => (0, suffix.strip_prefix(['e', 'E'])?.parse().ok().filter(|power| (-18..=18).contains(power))?),
    })
}

#[cfg(test)]
mod tests;
