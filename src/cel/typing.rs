//! What is known of values before there are any: types, as a schema tells them.

use std::fmt;
use std::rc::Rc;

/// How deep types lie in each other at most.
const DEPTH: usize = 64;

/// A type. What is not known is [`Type::Dyn`], and fits everywhere.
#[derive(Clone)]
pub enum Type<'t> {
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Rc<Type<'t>>),
    /// From texts to this type.
    Map(Rc<Type<'t>>),
    Object(Rc<dyn Fields<'t> + 't>),
    Optional(Rc<Type<'t>>),
}

/// An object whose fields are all known. Their types are asked for one by one: schemas may be recursive.
pub trait Fields<'t> {
    /// Of the type, as messages show it.
    fn name(&self) -> String;

    /// None if there is no such field.
    fn field(&self, name: &str) -> Option<Type<'t>>;
}

impl<'t> Type<'t> {
    pub fn list(of: Type<'t>) -> Self {
        of.within(Type::List)
    }

    pub fn map(of: Type<'t>) -> Self {
        of.within(Type::Map)
    }

    pub fn optional(of: Type<'t>) -> Self {
        of.within(Type::Optional)
    }

    /// Too deep, a type is not told: to drop one takes as much of the stack as it is deep.
    fn within(self, outer: fn(Rc<Type<'t>>) -> Type<'t>) -> Self {
        if self.depth() < DEPTH { outer(Rc::new(self)) } else { Type::Dyn }
    }

    fn depth(&self) -> usize {
        let (mut depth, mut of) = (0, self);
        while let Type::List(inner) | Type::Map(inner) | Type::Optional(inner) = of {
            (depth, of) = (depth + 1, &**inner);
        }
        depth
    }

    /// Whether a value of the one type can be one of the other.
    pub(crate) fn fits(&self, other: &Type<'t>) -> bool {
        use Type::{Dyn, List, Map, Null, Object, Optional};
        match (self, other) {
            // Whether a field may be null is not told by its type.
            (Dyn | Null, _) | (_, Dyn | Null) => true,
            (List(one), List(two)) | (Map(one), Map(two)) | (Optional(one), Optional(two)) => one.fits(two),
            // Literals of maps may stand for objects.
            (Map(_) | Object(_), Map(_) | Object(_)) => true,
            (one, two) => std::mem::discriminant(one) == std::mem::discriminant(two),
        }
    }
}

/// As cel-go writes it.
impl fmt::Display for Type<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn => out.write_str("dyn"),
            Type::Null => out.write_str("null"),
            Type::Bool => out.write_str("bool"),
            Type::Int => out.write_str("int"),
            Type::Uint => out.write_str("uint"),
            Type::Double => out.write_str("double"),
            Type::String => out.write_str("string"),
            Type::Bytes => out.write_str("bytes"),
            Type::Timestamp => out.write_str("timestamp"),
            Type::Duration => out.write_str("duration"),
            Type::List(of) => write!(out, "list({of})"),
            Type::Map(of) => write!(out, "map(string, {of})"),
            Type::Object(of) => out.write_str(&of.name()),
            Type::Optional(of) => write!(out, "optional_type({of})"),
        }
    }
}
