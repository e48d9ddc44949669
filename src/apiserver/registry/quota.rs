//! Quotas: the last plugin of admission. What a write uses more is added to the quotas that it counts against
//! in the write's own transaction, each expected as it was read: no race between servers or requests spends
//! what is not there.
//!
//! What is no longer used is given back by the controller, which counts anew.

use api::kinds::RESOURCE_QUOTA;
use api::quantity::Quantity;
use api::quota::{self, Usage};
use api::{ApiError, Object};
use serde_json::{Map, Value, json};

use super::managed::Owners;
use super::{Call, Registry};
use crate::claims::{Claims, Record, Records};
use crate::strategy::RequestContext;

impl Registry {
    /// Whether a write may count against a quota; most namespaces have none.
    pub(super) fn is_limited(&self, call: &Call<'_>, ctx: &RequestContext<'_>, creates: bool) -> bool {
        let row = call.row();
        let counts = match (creates, call.subresource) {
            (true, None) => quota::is_counted(row),
            (false, None) => {
                row.group.is_empty() && matches!(&*row.plural, "pods" | "services" | "persistentvolumeclaims")
            }
            (false, Some("resize")) => row.group.is_empty() && row.plural == "pods",
            _ => false,
        };
        counts
            && self.admission.has("ResourceQuota")
            && !ctx.caches.list(&RESOURCE_QUOTA, call.namespace).is_empty()
    }
}

/// Adds what a write uses to the quotas of its namespace.
pub(super) fn claim(
    call: &Call<'_>,
    ctx: &RequestContext<'_>,
    records: &dyn Records,
    (new, old): (&Value, Option<&Value>),
    claims: &mut Claims,
) -> Result<(), ApiError> {
    let Some(prefix) = RESOURCE_QUOTA.storage_prefix(call.namespace) else { return Ok(()) };
    let row = call.row();
    let used = quota::usage(row, new, ctx.now);
    for record in records.below(&prefix) {
        let Ok(object) = Object::from_stored(record.value.clone(), record.revision) else { continue };
        let Ok(tree) = object.tree_without_managed_fields() else { continue };
        // One that nobody has counted yet limits nothing.
        if tree["status"]["hard"].as_object().is_none_or(Map::is_empty) || !quota::matches(&tree, row, new) {
            continue;
        }
        let before = old.filter(|old| quota::matches(&tree, row, old));
        let before = before.map(|old| quota::usage(row, old, ctx.now)).unwrap_or_default();
        let more = grown(&used, &before);
        charge(call, &object, tree, &record, new, &more, claims)?;
    }
    Ok(())
}

/// What is used more than before; less counts as nothing.
fn grown(used: &Usage, before: &Usage) -> Usage {
    let more = used.iter().map(|(name, amount)| {
        let was = before.get(name).copied().unwrap_or(Quantity::ZERO);
        (name.clone(), amount.minus(was))
    });
    more.filter(|(_, amount)| !amount.is_zero() && !amount.is_negative()).collect()
}

fn only(usage: &Usage, names: &[&String]) -> Usage {
    usage
        .iter()
        .filter(|(name, _)| names.contains(name))
        .map(|(name, amount)| (name.clone(), *amount))
        .collect()
}

fn charge(
    call: &Call<'_>,
    object: &Object,
    mut tree: Value,
    record: &Record,
    new: &Value,
    more: &Usage,
    claims: &mut Claims,
) -> Result<(), ApiError> {
    let row = call.row();
    let name = new["metadata"]["name"].as_str().unwrap_or("");
    let refuse = |why: String| Err(ApiError::forbidden(row, name, &why));
    let (hard, used) = (quota::amounts(&tree["status"]["hard"]), quota::amounts(&tree["status"]["used"]));
    let limited: Vec<&str> =
        hard.keys().map(String::as_str).filter(|resource| quota::concerns(row, resource)).collect();
    if let Some(why) = quota::missing(row, new, &limited) {
        return refuse(format!("failed quota: {}: {why}", object.name()));
    }
    if limited.iter().any(|resource| !used.contains_key(*resource)) {
        let resources = limited.join(",");
        return refuse(format!("status unknown for quota: {}, resources: {resources}", object.name()));
    }
    let asked: Usage = more
        .iter()
        .filter(|(name, _)| hard.contains_key(*name))
        .map(|(name, amount)| (name.clone(), *amount))
        .collect();
    if asked.is_empty() {
        return Ok(());
    }
    let after: Usage = asked
        .iter()
        .map(|(name, amount)| (name.clone(), used.get(name).map_or(*amount, |used| used.plus(*amount))))
        .collect();
    let exceeded: Vec<&String> = after
        .iter()
        .filter(|(name, amount)| hard.get(*name).is_some_and(|hard| *amount > hard))
        .map(|(name, _)| name)
        .collect();
    if !exceeded.is_empty() {
        let printed = |usage: &Usage| quota::printed(&only(usage, &exceeded));
        return refuse(format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            object.name(),
            printed(&asked),
            printed(&used),
            printed(&hard)
        ));
    }
    for (name, amount) in after {
        tree["status"]["used"][name] = json!(amount.to_string());
    }
    claims.replace(record, Owners::of(object).encode(tree)?);
    Ok(())
}

#[cfg(test)]
mod tests;
