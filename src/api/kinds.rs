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

/// The built-in row of a group, version and plural resource name.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static KindRow> {
    ALL.iter().copied().find(|row| row.plural == plural && row.group == group && row.version == version)
}

/// The built-in row of an `apiVersion` and `kind`.
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static KindRow> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ALL.iter().copied().find(|row| row.kind == kind && row.group == group && row.version == version)
}
