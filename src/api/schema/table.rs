//! The table of types: read once from the checked-in text that `src/api/gen` makes.
//!
//! Format, one item a line: `type NAME [atomic] [kind=GROUP/VERSION/KIND | any=KIND]` begins a type (names
//! without `io.k8s.`, sorted); `< NUMBER TYPE` says that protobuf nests those fields in a message of that
//! number where JSON has them flat; ` NAME NUMBER TYPE [attribute…]` is a field (number 0: not in protobuf,
//! or nested as said before). A type is a word for a scalar or `@NAME`, after `[]` for a list or `{}` for a
//! map. Text is kept rather than parsed structures in Rust source because it needs no relocations, compiles
//! at once and shows changes as a readable diff; reading it takes a few milliseconds at start and the result
//! about 300 KB.

use std::sync::OnceLock;

static TEXT: &str = include_str!("types.txt");
static TABLE: OnceLock<Table> = OnceLock::new();

/// A type of the table. Cheap to copy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeRef(u16);

/// What a field holds: a base, alone, in a list or in a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldType {
    pub shape: Shape,
    pub base: Base,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    One,
    List,
    Map,
    /// A map of lists; protobuf has a message around each list.
    MapOfLists,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    String,
    Int32,
    Int64,
    Number,
    Bool,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339, seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
    Quantity,
    IntOrString,
    /// `RawExtension`: any object.
    Raw,
    /// `FieldsV1`: a tree of managed fields.
    Fields,
    /// `JSON` of apiextensions: any value.
    Json,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStrings,
    Object(TypeRef),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    Map,
}

/// One field of an object type.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub ty: FieldType,
    /// Field number in protobuf; 0 if it has none of its own.
    pub number: u16,
    pub required: bool,
    /// Upstream leaves the zero value (0, false, "", [], {}) out of its JSON.
    pub omit_zero: bool,
    /// Upstream holds an optional object or time as a plain value: it is there even if nothing is in it.
    pub embedded: bool,
    /// `x-kubernetes-map-type: atomic`: applied as a whole.
    pub atomic_map: bool,
    pub list_type: Option<ListType>,
    /// `patchStrategy` has `merge`, `replace`, `retainKeys`.
    pub patch: PatchStrategy,
    keys: Option<Box<Keys>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    pub merge: bool,
    pub replace: bool,
    pub retain_keys: bool,
}

#[derive(Debug, Default)]
struct Keys {
    map: Vec<&'static str>,
    merge: Option<&'static str>,
}

impl Field {
    /// `x-kubernetes-list-map-keys`.
    pub(crate) fn map_keys(&self) -> &[&'static str] {
        self.keys.as_ref().map_or(&[], |keys| &keys.map)
    }

    /// Whether upstream's form of an object has this field even if it says nothing.
    pub(crate) fn always_there(&self) -> bool {
        self.required || self.embedded
    }

    /// `patchMergeKey`.
    pub fn merge_key(&self) -> Option<&'static str> {
        self.keys.as_ref().and_then(|keys| keys.merge)
    }

    /// The type of the object, list element or map value.
    pub fn object(&self) -> Option<TypeRef> {
        match self.ty.base {
            Base::Object(ty) => Some(ty),
            _ => None,
        }
    }
}

struct ObjectType {
    name: &'static str,
    atomic: bool,
    /// Sorted by name.
    fields: Vec<Field>,
    inline: Vec<(u16, TypeRef)>,
    kind: Option<(&'static str, &'static str, &'static str)>,
}

#[derive(Default)]
struct Table {
    types: Vec<ObjectType>,
    /// Kind, group, version, sorted.
    kinds: Vec<(&'static str, &'static str, &'static str, TypeRef)>,
    /// Kinds known in every group and version.
    everywhere: Vec<(&'static str, TypeRef)>,
}

impl TypeRef {
    /// Position in [`all`].
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    fn get(self) -> &'static ObjectType {
        &table().types[usize::from(self.0)]
    }

    /// Name with upstream's prefix, as in OpenAPI: `io.k8s.api.core.v1.Pod`.
    pub fn name(self) -> String {
        format!("io.k8s.{}", self.get().name)
    }

    /// `Pod`.
    pub(crate) fn short_name(self) -> &'static str {
        self.get().name.rsplit('.').next().unwrap_or_default()
    }

    /// `v1.Pod`, as Go prints it.
    pub(crate) fn go_name(self) -> &'static str {
        let name = self.get().name;
        name.rmatch_indices('.').nth(1).map_or(name, |(at, _)| &name[at + 1..])
    }

    /// `x-kubernetes-map-type: atomic`.
    pub fn atomic(self) -> bool {
        self.get().atomic
    }

    /// The field of a JSON name.
    pub fn field(self, name: &str) -> Option<&'static Field> {
        let fields = &self.get().fields;
        fields.binary_search_by(|field| field.name.cmp(name)).ok().map(|at| &fields[at])
    }

    /// All fields, sorted by JSON name.
    pub fn fields(self) -> &'static [Field] {
        &self.get().fields
    }

    /// The field of a protobuf number.
    pub fn numbered(self, number: u16) -> Option<&'static Field> {
        self.get().fields.iter().find(|field| field.number == number)
    }

    /// Protobuf messages whose fields are this type's own in JSON: number and type.
    pub fn inline(self) -> &'static [(u16, TypeRef)] {
        &self.get().inline
    }

    /// Group, version and kind if objects of this type stand alone.
    pub fn kind(self) -> Option<(&'static str, &'static str, &'static str)> {
        self.get().kind
    }
}

impl std::fmt::Debug for TypeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.get().name)
    }
}

/// Every type.
pub fn all() -> impl Iterator<Item = TypeRef> {
    (0..table().types.len()).filter_map(|index| u16::try_from(index).ok()).map(TypeRef)
}

/// The type of a name, with or without `io.k8s.`.
pub fn by_name(name: &str) -> Option<TypeRef> {
    find(&table().types, name.strip_prefix("io.k8s.").unwrap_or(name))
}

/// The type of a group, version and kind. Options, lists and reviews count as kinds too.
pub fn for_gvk(group: &str, version: &str, kind: &str) -> Option<TypeRef> {
    let table = table();
    let exact = table.kinds.binary_search_by(|one| (one.0, one.1, one.2).cmp(&(kind, group, version)));
    match exact {
        Ok(at) => Some(table.kinds[at].3),
        Err(_) => table.everywhere.iter().find(|(own, _)| *own == kind).map(|(_, ty)| *ty),
    }
}

fn find(types: &[ObjectType], name: &str) -> Option<TypeRef> {
    let at = types.binary_search_by(|ty| ty.name.cmp(name)).ok()?;
    u16::try_from(at).ok().map(TypeRef)
}

fn table() -> &'static Table {
    TABLE.get_or_init(|| read(TEXT))
}

/// Reads the text. What it does not understand it leaves out; a test proves that nothing is left out.
fn read(text: &'static str) -> Table {
    let mut table = Table::default();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("type ") {
            table.types.push(read_head(rest));
        }
    }
    let mut current: Option<usize> = None;
    let mut next = 0;
    for line in text.lines() {
        if line.starts_with("type ") {
            current = Some(next);
            next += 1;
            continue;
        }
        let Some(at) = current else { continue };
        if let Some(rest) = line.strip_prefix("< ") {
            let inline = rest
                .split_once(' ')
                .and_then(|(number, name)| Some((number.parse().ok()?, find(&table.types, name)?)));
            table.types[at].inline.extend(inline);
        } else if let Some(field) = line.strip_prefix(' ').and_then(|rest| read_field(rest, &table.types)) {
            table.types[at].fields.push(field);
        }
    }
    for (at, ty) in table.types.iter_mut().enumerate() {
        ty.fields.sort_by_key(|field| field.name);
        ty.fields.shrink_to_fit();
        let Ok(own) = u16::try_from(at) else { continue };
        match ty.kind {
            Some(("*", _, kind)) => table.everywhere.push((kind, TypeRef(own))),
            Some((group, version, kind)) => table.kinds.push((kind, group, version, TypeRef(own))),
            None => {}
        }
    }
    table.kinds.sort_by_key(|one| (one.0, one.1, one.2));
    table
}

fn read_head(rest: &'static str) -> ObjectType {
    let mut words = rest.split(' ');
    let name = words.next().unwrap_or_default();
    let mut ty = ObjectType { name, atomic: false, fields: Vec::new(), inline: Vec::new(), kind: None };
    for word in words {
        if word == "atomic" {
            ty.atomic = true;
        } else if let Some(kind) = word.strip_prefix("any=") {
            ty.kind = Some(("*", "*", kind));
        } else if let Some(kind) = word.strip_prefix("kind=") {
            let mut parts = kind.splitn(3, '/');
            if let (Some(group), Some(version), Some(kind)) = (parts.next(), parts.next(), parts.next()) {
                ty.kind = Some((group, version, kind));
            }
        }
    }
    ty
}

fn read_field(line: &'static str, types: &[ObjectType]) -> Option<Field> {
    let mut words = line.split(' ');
    let (name, number, ty) = (words.next()?, words.next()?.parse().ok()?, read_type(words.next()?, types)?);
    let mut field = Field {
        name,
        ty,
        number,
        required: false,
        omit_zero: false,
        embedded: false,
        atomic_map: false,
        list_type: None,
        patch: PatchStrategy::default(),
        keys: None,
    };
    let mut keys = Keys::default();
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("required", _) => field.required = true,
            ("zero", _) => field.omit_zero = true,
            ("embedded", _) => field.embedded = true,
            ("map", kind) => field.atomic_map = kind == "atomic",
            ("list", kind) => {
                field.list_type = match kind {
                    "set" => Some(ListType::Set),
                    "map" => Some(ListType::Map),
                    _ => Some(ListType::Atomic),
                }
            }
            ("keys", list) => keys.map = list.split(',').collect(),
            ("mergeKey", key) => keys.merge = Some(key),
            ("patch", list) => {
                let has = |word: &str| list.split(',').any(|one| one == word);
                field.patch = PatchStrategy {
                    merge: has("merge"),
                    replace: has("replace"),
                    retain_keys: has("retainKeys"),
                };
            }
            _ => return None,
        }
    }
    if !keys.map.is_empty() || keys.merge.is_some() {
        field.keys = Some(Box::new(keys));
    }
    Some(field)
}

fn read_type(text: &'static str, types: &[ObjectType]) -> Option<FieldType> {
    let (shape, base) = match text {
        _ if text.starts_with("{}[]") => (Shape::MapOfLists, &text[4..]),
        _ if text.starts_with("{}") => (Shape::Map, &text[2..]),
        _ if text.starts_with("[]") => (Shape::List, &text[2..]),
        _ => (Shape::One, text),
    };
    let base = match base {
        "string" => Base::String,
        "int32" => Base::Int32,
        "int64" => Base::Int64,
        "number" => Base::Number,
        "bool" => Base::Bool,
        "bytes" => Base::Bytes,
        "time" => Base::Time,
        "microtime" => Base::MicroTime,
        "quantity" => Base::Quantity,
        "intorstring" => Base::IntOrString,
        "raw" => Base::Raw,
        "fields" => Base::Fields,
        "json" => Base::Json,
        "schemaorarray" => Base::SchemaOrArray,
        "schemaorbool" => Base::SchemaOrBool,
        "schemaorstrings" => Base::SchemaOrStrings,
        other => Base::Object(find(types, other.strip_prefix('@')?)?),
    };
    Some(FieldType { shape, base })
}

/// Lines of the text that begin a type or are a field: what a complete reading must have found.
#[cfg(test)]
pub(super) fn counts() -> (usize, usize) {
    let types = TEXT.lines().filter(|line| line.starts_with("type ")).count();
    (types, TEXT.lines().filter(|line| line.starts_with(' ')).count())
}
