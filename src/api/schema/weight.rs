//! How much memory an object of a type takes once it is decoded and defaulted, whatever it says.
//!
//! A typed structure has room for every field: a volume of `{}` takes two kilobytes. The figures are an
//! estimate from the schema, good to a factor of two, which is what a budget needs.

use std::sync::OnceLock;

use super::defaults;
use super::table::{Base, Shape, TypeRef, all};

/// A text, list or map; scalars take less.
const FIELD: u32 = 24;
/// A type that holds itself does so by a pointer.
const POINTER: u32 = 8;
/// A field that defaulting may add, with its share of the map's node.
const DEFAULT: u32 = 112;
/// The node itself.
const NODE: u32 = 640;

/// Bytes of the structure, present or not what is in it.
pub(super) fn typed(ty: TypeRef) -> usize {
    static WEIGHTS: OnceLock<Vec<u32>> = OnceLock::new();
    let weights = WEIGHTS.get_or_init(|| {
        let mut weights = vec![None; all().count()];
        for ty in all() {
            weigh(ty, &mut weights, &mut Vec::new());
        }
        weights.into_iter().map(Option::unwrap_or_default).collect()
    });
    weights[ty.index()] as usize
}

/// Bytes that defaulting may add to an object that is there.
pub(super) fn defaults(ty: TypeRef) -> usize {
    match defaults::added(ty) {
        0 => 0,
        count => (NODE + DEFAULT * count) as usize,
    }
}

fn weigh(ty: TypeRef, weights: &mut Vec<Option<u32>>, open: &mut Vec<TypeRef>) -> u32 {
    if let Some(known) = weights[ty.index()] {
        return known;
    }
    if open.contains(&ty) {
        return POINTER;
    }
    open.push(ty);
    let fields = ty.fields().iter().map(|field| match (field.ty.shape, field.ty.base) {
        (Shape::One, Base::Object(inner)) => weigh(inner, weights, open),
        _ => FIELD,
    });
    let weight = fields.fold(0_u32, u32::saturating_add);
    open.pop();
    // What was weighed inside a type that holds it is right for there only.
    if open.is_empty() {
        weights[ty.index()] = Some(weight);
    }
    weight
}
