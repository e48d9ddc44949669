//! Bringing a decoded body into the form its type has, as decoding into a typed object and encoding it again
//! would.
//!
//! One walk over the tree: unknown fields and nulls go, wrong types are an error with the words of Go's
//! decoder (clients and tests match on them), quantities and times get their canonical text, and zero values
//! that upstream omits are omitted. The last two make two bodies that mean the same compare equal, on which
//! generation and no-op updates rest. Raw parts (`RawExtension`, managed fields, JSON values) are left as
//! they are.

use std::fmt::{self, Write};
use std::sync::OnceLock;

use serde_json::Value;

use super::table::{Base, Field, FieldType, Shape, TypeRef, by_name, for_gvk};
use super::weight;
use crate::bounds::{Budget, MAX_FAULTS, MAX_PATH, Spent, TYPED, Text};
use crate::{ApiError, FieldValidation, KindRow};

mod values;

use values::{bytes, fill_null, go_type, int_or_string, integer, is_zero, quantity, time};

/// Brings a decoded body of a row's kind into the form its type has. Returns warnings; `Strict` makes them
/// a 400.
pub fn check(row: &KindRow, tree: &mut Value, validation: FieldValidation) -> Result<Vec<String>, ApiError> {
    check_kind(&row.group, &row.version, &row.kind, tree, &[], validation)
}

/// [`check`] for any kind (a subresource's such as `Scale`), with the duplicates that decoding found. A kind
/// that is not built in is left as it is.
pub fn check_kind(
    group: &str,
    version: &str,
    kind: &str,
    tree: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
) -> Result<Vec<String>, ApiError> {
    check_type(for_gvk(group, version, kind), version, kind, tree, duplicates, validation)
}

/// [`check_kind`] for a kind whose type has been looked up.
pub(super) fn check_type(
    ty: Option<TypeRef>,
    version: &str,
    kind: &str,
    tree: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
) -> Result<Vec<String>, ApiError> {
    let refuse = |why: &str| {
        ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
    };
    let mut checker = Checker { unknown: Vec::new(), budget: Budget::of(TYPED), spent: None };
    if let Some(ty) = ty {
        let checked = checker.root(ty, tree);
        if let Some(spent) = checker.spent {
            return Err(spent.into());
        }
        checked.map_err(|Mismatch(why)| refuse(&why))?;
    }
    if validation == FieldValidation::Ignore {
        return Ok(Vec::new());
    }
    // Upstream names them in the order of the body, which nobody knows any more; of an object it is mostly
    // this one, because a duplicate shows at its second place.
    let mut faults: Vec<String> =
        checker.unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
    faults.extend(duplicates.iter().map(|path| format!("duplicate field {path:?}")));
    faults.truncate(MAX_FAULTS);
    if validation == FieldValidation::Strict && !faults.is_empty() {
        return Err(refuse(&format!("strict decoding error: {}", faults.join(", "))));
    }
    Ok(faults)
}

/// Where the walk is: a list on the stack, turned into text only when there is something to report.
#[derive(Clone, Copy)]
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: PathElement<'a>,
    /// The object type that holds the field.
    owner: TypeRef,
}

#[derive(Clone, Copy)]
enum PathElement<'a> {
    Root,
    Field(&'a str),
    Key(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    fn child(&'a self, step: PathElement<'a>, owner: TypeRef) -> Place<'a> {
        Place { parent: Some(self), step, owner }
    }

    /// `spec.containers[0].image`.
    fn path(&self) -> String {
        let mut path = Text::new(MAX_PATH);
        let _ = self.write(&mut path);
        path.finish()
    }

    /// Stops where the text is full.
    fn write(&self, out: &mut Text) -> fmt::Result {
        let Some(parent) = self.parent else { return Ok(()) };
        parent.write(out)?;
        match self.step {
            PathElement::Root => Ok(()),
            PathElement::Field(name) | PathElement::Key(name) if matches!(parent.step, PathElement::Root) => {
                out.write_str(name)
            }
            PathElement::Field(name) | PathElement::Key(name) => {
                out.write_char('.')?;
                out.write_str(name)
            }
            PathElement::Index(index) => write!(out, "[{index}]"),
        }
    }

    /// `spec.containers.image`: struct fields only, as Go's decoder names a place.
    fn fields(&self) -> String {
        let mut out = self.parent.map(Place::fields).unwrap_or_default();
        if let PathElement::Field(name) = self.step {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(name);
        }
        out
    }

    /// What Go's decoder says of a value that does not fit.
    fn mismatch(&self, value: &Value, wanted: &str) -> Mismatch {
        let fields = self.fields();
        let found = found(value);
        if fields.is_empty() {
            return Mismatch(format!("json: cannot unmarshal {found} into Go value of type {wanted}"));
        }
        let owner = self.owner.short_name();
        Mismatch(format!(
            "json: cannot unmarshal {found} into Go struct field {owner}.{fields} of type {wanted}"
        ))
    }
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

struct Checker {
    /// Each once, and the first [`MAX_FAULTS`].
    unknown: Vec<String>,
    budget: Budget,
    spent: Option<Spent>,
}

/// Why a value does not fit its type, in the words of Go's decoder.
struct Mismatch(String);

type Checked<T> = Result<T, Mismatch>;

impl Checker {
    fn root(&mut self, ty: TypeRef, tree: &mut Value) -> Checked<()> {
        let place = Place { parent: None, step: PathElement::Root, owner: ty };
        // Options have no apiVersion and kind among their fields, but bodies carry them.
        let saved: Vec<(String, Value)> = match tree.as_object_mut() {
            Some(map) => ["apiVersion", "kind"]
                .into_iter()
                .filter(|name| ty.field(name).is_none())
                .filter_map(|name| map.remove_entry(name))
                .collect(),
            None => Vec::new(),
        };
        self.object(ty, tree, &place)?;
        if let Some(map) = tree.as_object_mut() {
            map.extend(saved);
        }
        Ok(())
    }

    fn object(&mut self, ty: TypeRef, value: &mut Value, place: &Place<'_>) -> Checked<()> {
        let Value::Object(map) = value else { return Err(place.mismatch(value, ty.go_name())) };
        self.take(weight::defaults(ty))?;
        let mut fault = None;
        map.retain(|name, value| {
            if fault.is_some() {
                return true;
            }
            let here = place.child(PathElement::Field(name), ty);
            let Some(field) = ty.field(name) else {
                self.unknown(&here);
                return false;
            };
            self.field(field, value, &here).unwrap_or_else(|why| {
                fault = Some(why);
                true
            })
        });
        fault.map_or(Ok(()), Err)
    }

    fn unknown(&mut self, place: &Place<'_>) {
        if self.unknown.len() >= MAX_FAULTS {
            return;
        }
        let path = place.path();
        if !self.unknown.contains(&path) {
            self.unknown.push(path);
        }
    }

    /// Counts what an element of a list or map becomes: an empty one takes as much as a full one.
    fn element(&mut self, base: Base) -> Checked<()> {
        let Base::Object(ty) = base else { return Ok(()) };
        self.take(weight::typed(ty))
    }

    fn take(&mut self, bytes: usize) -> Checked<()> {
        self.budget.take(bytes).map_err(|spent| {
            self.spent = Some(spent);
            Mismatch(spent.to_string())
        })
    }

    /// Whether the field stays.
    fn field(&mut self, field: &Field, value: &mut Value, place: &Place<'_>) -> Checked<bool> {
        if value.is_null() {
            return Ok(false);
        }
        let base = field.ty.base;
        match field.ty.shape {
            Shape::One => {
                if !self.base(base, value, place)? {
                    return Ok(false);
                }
            }
            Shape::List => self.list(field.ty, value, place)?,
            Shape::Map | Shape::MapOfLists => self.map(field.ty, value, place)?,
        }
        Ok(!(field.omit_zero && is_zero(value)))
    }

    fn list(&mut self, ty: FieldType, value: &mut Value, place: &Place<'_>) -> Checked<()> {
        let Value::Array(list) = value else {
            return Err(place.mismatch(value, &format!("[]{}", go_type(ty.base))));
        };
        for (index, element) in list.iter_mut().enumerate() {
            let here = place.child(PathElement::Index(index), place.owner);
            self.element(ty.base)?;
            fill_null(ty.base, element);
            self.base(ty.base, element, &here)?;
        }
        Ok(())
    }

    fn map(&mut self, ty: FieldType, value: &mut Value, place: &Place<'_>) -> Checked<()> {
        let Value::Object(map) = value else {
            let lists = if ty.shape == Shape::MapOfLists { "[]" } else { "" };
            return Err(place.mismatch(value, &format!("map[string]{lists}{}", go_type(ty.base))));
        };
        for (key, value) in map.iter_mut() {
            let here = place.child(PathElement::Key(key), place.owner);
            if ty.shape == Shape::MapOfLists {
                let lists = FieldType { shape: Shape::List, base: ty.base };
                if value.is_null() {
                    *value = Value::Array(Vec::new());
                }
                self.list(lists, value, &here)?;
            } else {
                self.element(ty.base)?;
                fill_null(ty.base, value);
                self.base(ty.base, value, &here)?;
            }
        }
        Ok(())
    }

    /// Checks one value; false if it is a zero that counts as absent.
    fn base(&mut self, base: Base, value: &mut Value, place: &Place<'_>) -> Checked<bool> {
        let fits = match base {
            Base::String => value.is_string(),
            Base::Bool => value.is_boolean(),
            Base::Number => value.is_number(),
            Base::Int32 | Base::Int64 => return integer(base, value, place).map(|()| true),
            Base::Object(ty) => return self.object(ty, value, place).map(|()| true),
            Base::Bytes => return bytes(value, place).map(|()| true),
            Base::Time => return time(value, false),
            Base::MicroTime => return time(value, true),
            Base::Quantity => return quantity(value).map(|()| true),
            Base::IntOrString => return int_or_string(value).map(|()| true),
            Base::SchemaOrArray | Base::SchemaOrBool | Base::SchemaOrStrings => {
                return self.schema_or(value, place).map(|()| true);
            }
            Base::Raw | Base::Fields | Base::Json => true,
        };
        if fits { Ok(true) } else { Err(place.mismatch(value, &go_type(base))) }
    }

    /// The unions of apiextensions: a schema, or a list of schemas, a boolean, a list of strings.
    fn schema_or(&mut self, value: &mut Value, place: &Place<'_>) -> Checked<()> {
        static SCHEMA: OnceLock<Option<TypeRef>> = OnceLock::new();
        let name = "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        let Some(ty) = *SCHEMA.get_or_init(|| by_name(name)) else { return Ok(()) };
        match value {
            Value::Object(_) => {
                self.element(Base::Object(ty))?;
                self.object(ty, value, place)
            }
            Value::Array(list) => {
                for (index, one) in list.iter_mut().enumerate().filter(|(_, one)| one.is_object()) {
                    self.element(Base::Object(ty))?;
                    self.object(ty, one, &place.child(PathElement::Index(index), ty))?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
