//! The schema of every built-in type: fields, types, merge keys, list types, defaults.
//!
//! One table, made from facts of the release (`gen/`), drives decoding checks, defaulting, strategic merge,
//! protobuf and OpenAPI, so a kind needs no code of its own for any of them. What the write path needs of a
//! schema is one trait, [`Schema`]: the table implements it for built-in kinds, a definition's own schema for
//! custom resources.

mod check;
mod complete;
mod decode;
mod defaults;
mod kind;
mod place;
#[cfg(test)]
pub(crate) mod random;
pub mod structural;
mod table;
#[cfg(test)]
mod tests;
mod weight;

pub use check::{check, check_kind};
pub use complete::{complete, empty_status};
pub(crate) use decode::decode_inner;
pub use decode::{decode_applied, decode_json, decode_yaml};
pub use defaults::apply_defaults;
#[cfg(test)]
pub(crate) use defaults::apply_type_defaults;
pub use kind::{BuiltIn, Schema};
pub use place::{Form, Member, Place};
pub use table::{Base, Field, FieldType, ListType, PatchStrategy, Shape, TypeRef, all, by_name, for_gvk};

use crate::KindRow;

/// The type of a row's objects; none for kinds that are not built in.
pub fn for_kind(row: &KindRow) -> Option<TypeRef> {
    for_gvk(&row.group, &row.version, &row.kind)
}
