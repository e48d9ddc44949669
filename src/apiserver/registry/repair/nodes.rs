//! Nodes' ranges of pod addresses.

use api::Object;
use api::kinds::{NODE, SERVICE};
use embedded_store::StoreError;

use super::pass::{RepairPass, RepairStep};
use crate::claims::{Owner, Record};
use crate::registry::strategies::node::pod_ranges;
use crate::registry::strategies::service::node_ports;

impl RepairPass<'_> {
    /// Gives a node the records of its ranges. One that overlaps another node's cannot have any.
    pub(super) async fn check_node(&mut self, node: &Object) -> Result<(), StoreError> {
        let Some(uses) = self.uses(&NODE, node) else { return Ok(()) };
        let owner =
            Owner { resource: NODE.plural.to_string(), namespace: String::new(), name: node.name().into() };
        for range in &uses.subnets {
            self.pause().await;
            let mut step = RepairStep::default();
            match pod_ranges::overlapping(&self.records, range) {
                None => {
                    if pod_ranges::take(range, &owner, &mut step.claims).is_err() {
                        continue;
                    }
                }
                Some(record) if Owner::of(&record).as_ref() == Some(&owner) => continue,
                Some(_) => {
                    tracing::warn!(node = node.name(), %range, "a node's range of pod addresses overlaps another node's");
                    continue;
                }
            }
            let key = NODE.storage_key(None, node.name()).unwrap_or_default();
            self.carry_out(key, node.resource_version(), step).await?;
        }
        Ok(())
    }

    /// Where the object is (and at which version) that a record should belong to, if it does not: 0 is none.
    pub(super) fn left_by(&mut self, record: &Record) -> Option<(String, u64)> {
        let Some(owner) = Owner::of(record) else {
            // A record that cannot be read belongs to nothing, and so does its own absence.
            return Some((format!("{}/", String::from_utf8_lossy(&record.key)), 0));
        };
        let row = if owner.resource == NODE.plural { &NODE } else { &SERVICE };
        let namespace = Some(&*owner.namespace).filter(|namespace| !namespace.is_empty());
        let key = row.storage_key(namespace, &owner.name)?;
        let Some(object) = self.object(row, &owner.namespace, &owner.name) else { return Some((key, 0)) };
        let uses = self.uses(row, &object)?;
        let is_used = if owner.resource == NODE.plural {
            uses.subnets.iter().any(|range| pod_ranges::key(range).as_bytes() == record.key)
        } else {
            node_ports::port_of(&record.key).is_some_and(|port| uses.ports.contains(&port))
        };
        (!is_used).then(|| (key, object.resource_version()))
    }
}
