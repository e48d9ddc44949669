//! Walking a tree along its schema: what is known of a place in an object and of the members below it.

use super::structural::Structural;
use super::table::{Base, FieldType, ListType, Shape, TypeRef};

/// A place in an object, as its schema sees it.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// An object of a type of the table.
    Object(TypeRef),
    /// A map whose values have this type.
    Entries(FieldType),
    /// A value with a structural schema.
    Structural(&'a Structural),
    /// Nothing is known: maps merge, lists are replaced.
    Unknown,
}

/// What a schema says of one member of an object.
pub struct Member<'a> {
    /// The member itself if it is a map, its elements if it is a list.
    pub place: Place<'a>,
    pub list_type: Option<ListType>,
    /// `x-kubernetes-list-map-keys`.
    pub map_keys: Vec<&'a str>,
    /// `x-kubernetes-map-type: atomic`: applied as a whole.
    pub atomic_map: bool,
    /// Upstream's form of the object has it even if it says nothing.
    pub always_there: bool,
    /// Strategic merge replaces it as a whole.
    pub replaced: bool,
    /// Strategic merge merges it as a list, by `merge_key` if the elements are maps.
    pub merged_list: bool,
    pub merge_key: Option<&'static str>,
}

impl From<TypeRef> for Place<'_> {
    fn from(ty: TypeRef) -> Self {
        Place::Object(ty)
    }
}

impl From<Option<TypeRef>> for Place<'_> {
    fn from(ty: Option<TypeRef>) -> Self {
        ty.map_or(Place::Unknown, Place::Object)
    }
}

impl<'a> Place<'a> {
    fn of(ty: FieldType) -> Self {
        match (ty.shape, ty.base) {
            (Shape::One | Shape::List, Base::Object(ty)) => Place::Object(ty),
            (Shape::Map, base) => Place::Entries(FieldType { shape: Shape::One, base }),
            _ => Place::Unknown,
        }
    }

    /// The member of this name.
    pub fn member(self, name: &str) -> Member<'a> {
        let field = match self {
            Place::Object(ty) => ty.field(name),
            Place::Structural(node) => return structural(node, name),
            _ => None,
        };
        if let Some(field) = field {
            return Member {
                place: Place::of(field.ty),
                list_type: field.list_type,
                map_keys: field.map_keys().to_vec(),
                atomic_map: field.atomic_map,
                always_there: field.always_there(),
                replaced: field.patch.replace,
                merged_list: field.patch.merge,
                merge_key: field.merge_key(),
            };
        }
        match self {
            Place::Entries(ty) => Member::plain(Place::of(ty)),
            _ => Member::plain(Place::Unknown),
        }
    }

    /// Whether an object here is owned as a whole.
    pub(crate) fn is_atomic(self) -> bool {
        match self {
            Place::Object(ty) => ty.atomic(),
            Place::Structural(node) => node.atomic_map,
            _ => false,
        }
    }

    /// Members that upstream's form of an object here has even if they say nothing.
    pub(crate) fn always_there(self) -> impl Iterator<Item = &'static str> {
        let fields = match self {
            Place::Object(ty) => ty.fields(),
            _ => &[],
        };
        fields.iter().filter(|field| field.always_there()).map(|field| field.name)
    }
}

impl<'a> Member<'a> {
    /// A member of which nothing but its place is known.
    pub(crate) fn plain(place: Place<'a>) -> Self {
        Member {
            place,
            list_type: None,
            map_keys: Vec::new(),
            atomic_map: false,
            always_there: false,
            replaced: false,
            merged_list: false,
            merge_key: None,
        }
    }
}

/// Custom resources have no strategic merge: what is known is what server-side apply needs.
fn structural<'a>(node: &'a Structural, name: &str) -> Member<'a> {
    let Some(member) = node.member(name) else { return Member::plain(Place::Unknown) };
    Member {
        list_type: member.list_type,
        map_keys: member.list_map_keys.iter().map(String::as_str).collect(),
        atomic_map: member.atomic_map,
        ..Member::plain(Place::Structural(member.items.as_deref().unwrap_or(member)))
    }
}
