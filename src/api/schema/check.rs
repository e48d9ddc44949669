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

use base64::Engine;
use serde_json::{Map, Value};

use super::table::{Base, Field, FieldType, Shape, TypeRef, by_name, for_gvk};
use super::weight;
use crate::bounds::{Budget, MAX_FAULTS, MAX_PATH, Spent, TYPED, Text};
use crate::quantity::Quantity;
use crate::{ApiError, FieldValidation, KindRow};

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
        checked.map_err(|why| refuse(&why))?;
    }
    if validation == FieldValidation::Ignore {
        return Ok(Vec::new());
    }
    let mut faults: Vec<String> = duplicates.iter().map(|path| format!("duplicate field {path:?}")).collect();
    faults.extend(checker.unknown.iter().map(|path| format!("unknown field {path:?}")));
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
    fn mismatch(&self, value: &Value, wanted: &str) -> String {
        let fields = self.fields();
        let found = found(value);
        if fields.is_empty() {
            return format!("json: cannot unmarshal {found} into Go value of type {wanted}");
        }
        let owner = self.owner.short_name();
        format!("json: cannot unmarshal {found} into Go struct field {owner}.{fields} of type {wanted}")
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

type Checked<T> = Result<T, String>;

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
            spent.to_string()
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

/// A null in a list or map is the zero value there.
fn fill_null(base: Base, value: &mut Value) {
    if !value.is_null() {
        return;
    }
    *value = match base {
        Base::String | Base::Bytes => Value::String(String::new()),
        Base::Int32 | Base::Int64 | Base::Number | Base::IntOrString => Value::from(0),
        Base::Bool => Value::Bool(false),
        Base::Object(_) => Value::Object(Map::new()),
        Base::Quantity => Value::String("0".to_string()),
        _ => return,
    };
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn go_type(base: Base) -> String {
    match base {
        Base::String => "string",
        Base::Int32 => "int32",
        Base::Int64 => "int64",
        Base::Number => "float64",
        Base::Bool => "bool",
        Base::Bytes => "[]uint8",
        Base::Time => "v1.Time",
        Base::MicroTime => "v1.MicroTime",
        Base::Quantity => "resource.Quantity",
        Base::IntOrString => "intstr.IntOrString",
        Base::Raw => "runtime.RawExtension",
        Base::Fields => "v1.FieldsV1",
        Base::Json => "v1.JSON",
        Base::SchemaOrArray => "v1.JSONSchemaPropsOrArray",
        Base::SchemaOrBool => "v1.JSONSchemaPropsOrBool",
        Base::SchemaOrStrings => "v1.JSONSchemaPropsOrStringArray",
        Base::Object(ty) => ty.go_name(),
    }
    .to_string()
}

fn integer(base: Base, value: &Value, place: &Place<'_>) -> Checked<()> {
    let wanted = go_type(base);
    let Value::Number(number) = value else { return Err(place.mismatch(value, &wanted)) };
    let fits = number.as_i64().is_some_and(|one| base == Base::Int64 || i32::try_from(one).is_ok());
    if fits {
        return Ok(());
    }
    let text = place.mismatch(value, &wanted);
    Err(text.replacen("number", &format!("number {number}"), 1))
}

fn bytes(value: &mut Value, place: &Place<'_>) -> Checked<()> {
    let Value::String(text) = value else { return Err(place.mismatch(value, "[]uint8")) };
    let standard = base64::engine::general_purpose::STANDARD;
    if text.contains(['\n', '\r']) {
        text.retain(|c| c != '\n' && c != '\r');
    }
    match standard.decode(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(format!("illegal base64 data at input byte {at}"))
        }
        Err(_) => Err(format!("illegal base64 data at input byte {}", text.len() & !3)),
    }
}

/// False for the zero time.
fn time(value: &mut Value, micro: bool) -> Checked<bool> {
    let Value::String(text) = value else {
        return Err(format!("json: cannot unmarshal {} into Go value of type string", found(value)));
    };
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"TtZz:+-.".contains(&byte));
    let parsed = text.parse::<jiff::Timestamp>().ok().filter(|_| plain);
    let Some(at) = parsed else {
        let (layout, year) =
            (if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" }, "2006");
        return Err(format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as {year:?}"));
    };
    let canonical = if micro { crate::time::to_micro_time(at) } else { crate::time::to_time(at) };
    if canonical.starts_with("0001-01-01T00:00:00") {
        return Ok(false);
    }
    if *text != canonical {
        *text = canonical;
    }
    Ok(true)
}

fn quantity(value: &mut Value) -> Checked<()> {
    let parsed = match value {
        Value::String(text) => text.parse::<Quantity>(),
        Value::Number(number) => number.to_string().parse::<Quantity>(),
        _ => Err(crate::quantity::QuantityError::Format),
    };
    let canonical = parsed.map_err(|error| error.to_string())?.to_string();
    if value.as_str() != Some(&canonical) {
        *value = Value::String(canonical);
    }
    Ok(())
}

fn int_or_string(value: &Value) -> Checked<()> {
    match value {
        Value::String(_) => Ok(()),
        Value::Number(number) if number.as_i64().is_some_and(|one| i32::try_from(one).is_ok()) => Ok(()),
        Value::Number(number) => {
            Err(format!("json: cannot unmarshal number {number} into Go value of type int32"))
        }
        _ => Err(format!("json: cannot unmarshal {} into Go value of type int32", found(value))),
    }
}
