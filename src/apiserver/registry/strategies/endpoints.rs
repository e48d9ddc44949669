//! Endpoints.

use std::net::IpAddr;

use api::FieldError;
use api::validation::{Faults, Path, dns1123_label, invalid_each, ip_address, port_number};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::EndpointSubset;
use serde_json::Value;

use super::typed;
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

pub(super) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

pub(super) struct EndpointsStrategy;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("subsets");
    let subsets = typed::<Vec<EndpointSubset>>(&tree["subsets"], &at, &mut faults).unwrap_or_default();
    for (index, subset) in subsets.iter().enumerate() {
        let at = at.index(index);
        let (ready, waiting) =
            (subset.addresses.iter().flatten(), subset.not_ready_addresses.iter().flatten());
        if ready.clone().count() + waiting.clone().count() == 0 {
            faults.push(FieldError::required(at, "must specify `addresses` or `notReadyAddresses`"));
        }
        for (field, list) in
            [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)]
        {
            let at = at.child(field);
            for (index, address) in list.iter().flatten().enumerate() {
                endpoint_ip(&address.ip, &at.index(index).child("ip"), &mut faults);
            }
        }
        let at = at.child("ports");
        let several = subset.ports.as_ref().is_some_and(|ports| ports.len() > 1);
        for (index, port) in subset.ports.iter().flatten().enumerate() {
            let at = at.index(index);
            match port.name.as_deref().unwrap_or("") {
                "" if several => faults.push(FieldError::required(at.child("name"), "")),
                "" => {}
                name => invalid_each(&mut faults, &at.child("name"), name, dns1123_label(name)),
            }
            for message in port_number(i64::from(port.port)) {
                faults.push(FieldError::invalid(at.child("port"), port.port, message));
            }
            match port.protocol.as_deref().unwrap_or("") {
                "" => faults.push(FieldError::required(at.child("protocol"), "")),
                known if PROTOCOLS.contains(&known) => {}
                other => faults.push(FieldError::not_supported(at.child("protocol"), other, &PROTOCOLS)),
            }
        }
    }
    faults
}

/// An address that traffic may be sent to: not this host's own, not a group's.
pub(crate) fn endpoint_ip(text: &str, at: &Path<'_>, faults: &mut Faults) {
    let messages = ip_address(text);
    let Some(address) = text.parse::<IpAddr>().ok().filter(|_| messages.is_empty()) else {
        return invalid_each(faults, at, text, messages);
    };
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let link_local_group = match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    };
    let checks = [
        (address.is_unspecified(), format!("may not be unspecified ({text})")),
        (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_string()),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_string()),
        (
            link_local_group,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_string(),
        ),
    ];
    for (bad, message) in checks {
        if bad {
            faults.push(FieldError::invalid(at, text, message));
        }
    }
}

impl Strategy for EndpointsStrategy {
    fn deprecation(&self) -> Option<&str> {
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, _old: &Value) -> Faults {
        validate(new)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        printers::discovery::ENDPOINTS
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::discovery::endpoints(tree, now)
    }
}
