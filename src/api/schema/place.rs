//! Walking a tree along its schema: what is known of a place in an object and of the members below it.

use serde_json::Value;

use super::defaults;
use super::structural::Structural;
use super::table::{Base, FieldType, ListType, Shape, TypeRef, by_name};

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

/// What a schema lets a value be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Any,
    Map,
    List,
    Number,
    Text,
    Bool,
    /// Anything but a map or a list.
    Scalar,
}

/// What a schema says of one member of an object.
pub struct Member<'a> {
    /// The member itself if it is a map, its elements if it is a list.
    pub place: Place<'a>,
    pub form: Form,
    /// Form of the elements of a list.
    pub element_form: Form,
    /// The schema has a field of this name, rather than a type for all names.
    pub is_named: bool,
    /// The schema allows a member of this name.
    pub is_declared: bool,
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
                form: form(field.ty),
                element_form: element_form(field.ty),
                is_named: true,
                is_declared: true,
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
            Place::Entries(ty) => {
                Member { form: form(ty), element_form: element_form(ty), ..Member::plain(Place::of(ty)) }
            }
            Place::Object(_) => Member { is_declared: false, ..Member::plain(Place::Unknown) },
            _ => Member::plain(Place::Unknown),
        }
    }

    /// The member of an object that stands alone. Metadata of every kind has the type of all metadata,
    /// whatever a definition says.
    pub(crate) fn root_member(self, name: &str) -> Member<'a> {
        match self {
            Place::Object(_) => self.member(name),
            _ => own_member(name).unwrap_or_else(|| self.member(name)),
        }
    }

    /// What an element of a list here has under a key that it leaves out.
    pub(crate) fn key_default(self, key: &str) -> Option<Value> {
        match self {
            Place::Object(ty) => defaults::key(ty, key),
            Place::Structural(node) => node.properties.get(key)?.default.clone(),
            _ => None,
        }
    }

    /// Whether an object here, and all below it, may have members that the schema does not know.
    pub fn is_open(self) -> bool {
        match self {
            Place::Structural(node) => node.preserve_unknown,
            _ => false,
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
    /// What is known of an element of a list.
    pub(crate) fn element(&self) -> Self {
        Member { form: self.element_form, ..Member::plain(self.place) }
    }

    /// A member of which nothing but its place is known.
    pub(crate) fn plain(place: Place<'a>) -> Self {
        Member {
            place,
            form: Form::Any,
            element_form: Form::Any,
            is_named: false,
            is_declared: true,
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

/// A member that every object has which stands alone.
fn own_member(name: &str) -> Option<Member<'static>> {
    let named = |place, form| Some(Member { form, is_named: true, ..Member::plain(place) });
    match name {
        "apiVersion" | "kind" => named(Place::Unknown, Form::Text),
        "metadata" => named(Place::from(by_name("apimachinery.pkg.apis.meta.v1.ObjectMeta")), Form::Map),
        _ => None,
    }
}

/// Custom resources have no strategic merge: what is known is what server-side apply needs.
fn structural<'a>(node: &'a Structural, name: &str) -> Member<'a> {
    if let Some(own) = own_member(name).filter(|_| node.embedded) {
        return own;
    }
    let Some(member) = node.member(name) else {
        return Member { is_declared: node.is_open(), ..Member::plain(Place::Unknown) };
    };
    Member {
        form: member.form(),
        element_form: member.items.as_deref().map_or(Form::Any, Structural::form),
        is_named: node.properties.contains_key(name),
        list_type: member.list_type,
        map_keys: member.list_map_keys.iter().map(String::as_str).collect(),
        atomic_map: member.atomic_map,
        ..Member::plain(Place::Structural(member.items.as_deref().unwrap_or(member)))
    }
}

fn form(ty: FieldType) -> Form {
    match ty.shape {
        Shape::One => base_form(ty.base),
        Shape::List => Form::List,
        Shape::Map | Shape::MapOfLists => Form::Map,
    }
}

fn element_form(ty: FieldType) -> Form {
    if ty.shape == Shape::List { base_form(ty.base) } else { Form::Any }
}

fn base_form(base: Base) -> Form {
    match base {
        Base::String | Base::Bytes => Form::Text,
        Base::Int32 | Base::Int64 | Base::Number => Form::Number,
        Base::Bool => Form::Bool,
        Base::Time | Base::MicroTime => Form::Scalar,
        Base::Raw | Base::Fields | Base::Object(_) => Form::Map,
        Base::Quantity
        | Base::IntOrString
        | Base::Json
        | Base::SchemaOrArray
        | Base::SchemaOrBool
        | Base::SchemaOrStrings => Form::Any,
    }
}
