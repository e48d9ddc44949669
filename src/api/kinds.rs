//! The table of kinds: one row says how a kind is named, served and stored.
//!
//! Discovery, routes, REST mapping, storage keys and printers all read this table; nothing else lists kinds.
//! A custom resource is a row made at run time from its definition (hence `Cow`), handled by the same code.
//! The rows' facts are upstream's v1.36 discovery; `docs/ADDING_A_KIND.md` tells how to add one.

mod row;
mod table;

#[cfg(test)]
mod tests;

pub use row::{KindRow, Kinded, Scope, Subresource};
pub use table::*;

/// Beta and alpha versions whose kinds are those of the stable version under another name: group, version and
/// resources. Upstream serves them only if it is told to.
const EARLY: [(&str, &str, &[&str]); 5] = [
    ("networking.k8s.io", "v1beta1", &["ipaddresses", "servicecidrs"]),
    ("storage.k8s.io", "v1beta1", &["volumeattributesclasses"]),
    (
        "admissionregistration.k8s.io",
        "v1beta1",
        &["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"],
    ),
    (
        "admissionregistration.k8s.io",
        "v1alpha1",
        &["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"],
    ),
    (
        "resource.k8s.io",
        "v1beta2",
        &["deviceclasses", "resourceclaims", "resourceclaimtemplates", "resourceslices"],
    ),
];

/// The rows of versions that are off unless somebody turns them on. Their objects are stored in the stable
/// version.
pub fn early() -> Vec<KindRow> {
    let of = |(group, version, resources): &(&'static str, &'static str, &[&'static str])| {
        let stable = ALL.iter().filter(|row| row.group == *group && resources.contains(&&*row.plural));
        let early = |row: &&KindRow| KindRow {
            version: (*version).into(),
            stored_as: Some(row.api_version().into()),
            ..(*row).clone()
        };
        stable.map(early).collect::<Vec<_>>()
    };
    EARLY.iter().flat_map(of).collect()
}

/// The built-in row of a group, version and plural resource name.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static KindRow> {
    ALL.iter().copied().find(|row| row.plural == plural && row.group == group && row.version == version)
}

/// The built-in row of an `apiVersion` and `kind`.
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static KindRow> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ALL.iter().copied().find(|row| row.kind == kind && row.group == group && row.version == version)
}
