//! Validation of a container's resources.

use std::collections::BTreeMap;

use api::FieldError;
use api::quantity::Quantity;
use api::validation::{Faults, Path, invalid_each, qualified_name};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

const STANDARD: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];
const HUGE: &str = "hugepages-";

pub(super) fn validate(resources: &ResourceRequirements, at: &Path<'_>, faults: &mut Faults) {
    let none = BTreeMap::new();
    let (limits, requests) =
        (resources.limits.as_ref().unwrap_or(&none), resources.requests.as_ref().unwrap_or(&none));
    validate_list(limits, &at.child("limits"), faults);
    validate_list(requests, &at.child("requests"), faults);
    let requests_at = at.child("requests");
    for (name, request) in requests {
        let Some(limit) = limits.get(name) else {
            if !overcommits(name) {
                let message = "Limit must be set for non overcommitable resources";
                faults.push(FieldError::required(at.child("limits"), message));
            }
            continue;
        };
        let (wanted, most) = (parse(request), parse(limit));
        if !overcommits(name) && wanted != most {
            let message = format!("must be equal to {name} limit of {}", limit.0);
            faults.push(FieldError::invalid(requests_at, &request.0, message));
        } else if wanted > most {
            let message = format!("must be less than or equal to {name} limit of {}", limit.0);
            faults.push(FieldError::invalid(requests_at, &request.0, message));
        }
    }
    let huge = limits.keys().chain(requests.keys()).any(|name| name.starts_with(HUGE));
    let compute = limits.keys().chain(requests.keys()).any(|name| name == "cpu" || name == "memory");
    if huge && !compute {
        faults.push(FieldError::forbidden(at, "HugePages require cpu or memory"));
    }
}

fn parse(text: &Text) -> Option<Quantity> {
    text.0.parse().ok()
}

/// Whether limits may exceed requests: only of resources that the kernel can take back.
fn overcommits(name: &str) -> bool {
    STANDARD.contains(&name) || name.contains("kubernetes.io/")
}

fn validate_list(list: &BTreeMap<String, Text>, at: &Path<'_>, faults: &mut Faults) {
    for (name, text) in list {
        let at = at.key(name);
        invalid_each(faults, &at, name, qualified_name(name));
        let standard = STANDARD.contains(&name.as_str()) || name.starts_with(HUGE);
        if !name.contains('/') && !standard {
            faults.push(FieldError::invalid(at, name, "must be a standard resource for containers"));
        }
        let Some(quantity) = parse(text) else { continue };
        if quantity.is_negative() {
            faults.push(FieldError::invalid(at, &text.0, "must be greater than or equal to 0"));
        }
        let extended = name.contains('/') && !name.contains("kubernetes.io/");
        if extended && quantity.milli_value() % 1000 != 0 {
            faults.push(FieldError::invalid(at, &text.0, "must be an integer"));
        }
    }
}
