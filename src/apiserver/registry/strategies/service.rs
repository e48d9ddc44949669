//! Services: fields that hang together by type, addresses and node ports that are handed out, validation.

mod addresses;
pub(crate) mod allocate;
mod fields;
pub(crate) mod node_ports;
mod pick;
mod validate;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use api::ApiError;
use api::json::text;
use api::validation::Faults;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::claims::{Claims, Records};
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Str, Strategy, fields};

pub(super) struct Services;

/// Whether a service of this shape has addresses in the cluster.
fn needs_cluster_ip(service: &Value) -> bool {
    text(service, "spec.type") != "ExternalName"
}

/// Whether a service of this shape can have node ports.
fn takes_node_ports(service: &Value) -> bool {
    matches!(text(service, "spec.type"), "NodePort" | "LoadBalancer")
}

/// Whether its entries get node ports that they do not ask for.
fn allocates_node_ports(service: &Value) -> bool {
    takes_node_ports(service)
        && (text(service, "spec.type") == "NodePort"
            || service["spec"]["allocateLoadBalancerNodePorts"] != false)
}

/// Whether a balancer asks the nodes which of them have endpoints.
fn needs_health_check(service: &Value) -> bool {
    text(service, "spec.type") == "LoadBalancer" && text(service, "spec.externalTrafficPolicy") == "Local"
}

fn is_headless(service: &Value) -> bool {
    text(service, "spec.clusterIP") == "None"
}

impl Strategy for Services {
    fn prepare_for_create(&self, _ctx: &RequestContext<'_>, tree: &mut Value) -> Result<(), ApiError> {
        fields::normalize(tree, None);
        fields::families(tree);
        tree["status"] = json!({"loadBalancer": {}});
        Ok(())
    }

    fn prepare_for_update(
        &self,
        ctx: &RequestContext<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        if ctx.subresource == Some("status") {
            return Ok(());
        }
        fields::keep_allocated(new, old);
        fields::normalize(new, Some(old));
        fields::drop_of_old_type(new, old);
        fields::families(new);
        Ok(())
    }

    fn has_claims(&self, subresource: Option<&str>) -> bool {
        subresource.is_none()
    }

    fn claim(
        &self,
        ctx: &RequestContext<'_>,
        records: &dyn Records,
        new: &mut Value,
        old: Option<&Value>,
    ) -> Result<Claims, ApiError> {
        allocate::claim(ctx, records, new, old)
    }

    fn release(&self, _ctx: &RequestContext<'_>, records: &dyn Records, old: &Value) -> Claims {
        allocate::release(records, old)
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate::service(tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        if ctx.subresource == Some("status") {
            return Faults::new();
        }
        let mut faults = validate::service(new);
        faults.extend(validate::update(new, old));
        faults
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn name_faults(&self, name: &str, prefix: bool) -> Vec<String> {
        // RelaxedServiceNameValidation is on by default since v1.36.
        api::validation::name_is_dns_label(name, prefix)
    }

    fn selectable_fields(&self) -> Vec<Str> {
        fields(&["spec.clusterIP", "spec.type"])
    }

    fn indexed_fields(&self) -> Vec<Str> {
        fields(&["spec.clusterIP"])
    }

    fn field_value<'a>(&self, tree: &'a Value, path: &str) -> Cow<'a, str> {
        Cow::Borrowed(text(tree, path))
    }

    fn columns(&self) -> &'static [Column] {
        printers::service::COLUMNS
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::service::cells(tree, now)
    }
}
