//! `kubectl config set` and `unset`: one value, named by a path such as `clusters.local.server`.
//!
//! A name may contain dots: it ends where a field of its kind of entry begins. Absent: what is below
//! `extensions` and the environment and arguments of an exec plugin, which upstream refuses to set as well.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use client::kubeconfig::{Entry, Loaded, NamedCluster, NamedContext, NamedUser};
use serde_yaml::{Mapping, Value};

use crate::env::print;
use crate::error::{Error, Result};

#[derive(Args)]
pub(super) struct SetArgs {
    property_name: String,
    #[arg(allow_hyphen_values = true)]
    property_value: String,
    /// Take the value of a binary field as it is instead of as base64
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    set_raw_bytes: Option<bool>,
}

/// What a field holds.
#[derive(Clone, Copy)]
enum Field {
    Text,
    Bytes,
    Bool,
    /// Text by key, below a field: the last part of the path is the key.
    Map,
    /// A list, which is not set by a path.
    List,
    Struct(&'static [(&'static str, Field)]),
}

const CLUSTER: &[(&str, Field)] = &[
    ("server", Field::Text),
    ("tls-server-name", Field::Text),
    ("insecure-skip-tls-verify", Field::Bool),
    ("certificate-authority", Field::Text),
    ("certificate-authority-data", Field::Bytes),
    ("proxy-url", Field::Text),
    ("disable-compression", Field::Bool),
];

const CONTEXT: &[(&str, Field)] =
    &[("cluster", Field::Text), ("user", Field::Text), ("namespace", Field::Text)];

const USER: &[(&str, Field)] = &[
    ("client-certificate", Field::Text),
    ("client-certificate-data", Field::Bytes),
    ("client-key", Field::Text),
    ("client-key-data", Field::Bytes),
    ("token", Field::Text),
    ("tokenFile", Field::Text),
    ("act-as", Field::Text),
    ("act-as-uid", Field::Text),
    ("act-as-groups", Field::List),
    ("username", Field::Text),
    ("password", Field::Text),
    ("auth-provider", Field::Struct(&[("name", Field::Text), ("config", Field::Map)])),
    ("exec", Field::Struct(EXEC)),
];

const EXEC: &[(&str, Field)] = &[
    ("command", Field::Text),
    ("args", Field::List),
    ("env", Field::List),
    ("apiVersion", Field::Text),
    ("installHint", Field::Text),
    ("provideClusterInfo", Field::Bool),
];

pub(super) fn set(loaded: &mut Loaded, args: &SetArgs) -> Result<()> {
    if args.property_value.is_empty() {
        return Err(Error::message("you cannot use set to unset a property"));
    }
    let raw = args.set_raw_bytes == Some(true);
    change(loaded, &args.property_name, Some((&args.property_value, raw)))?;
    print(&format!("Property {:?} set.\n", args.property_name))
}

pub(super) fn unset(loaded: &mut Loaded, property: &str) -> Result<()> {
    change(loaded, property, None)?;
    print(&format!("Property {property:?} unset.\n"))
}

/// Sets the property to the value (and whether its bytes are taken as they are), or unsets it.
fn change(loaded: &mut Loaded, property: &str, value: Option<(&str, bool)>) -> Result<()> {
    if property.is_empty() {
        return Err(Error::message("you must specify a property"));
    }
    let parts: Vec<&str> = property.split('.').collect();
    match (parts[0], &parts[1..]) {
        ("current-context", []) => match value {
            Some((name, _)) => Ok(loaded.set_current(name)?),
            None => Ok(loaded.unset_current()?),
        },
        ("clusters", rest) => entry::<NamedCluster>(loaded, CLUSTER, rest, property, value),
        ("contexts", rest) => entry::<NamedContext>(loaded, CONTEXT, rest, property, value),
        ("users", rest) => entry::<NamedUser>(loaded, USER, rest, property, value),
        _ => Err(unknown(property)),
    }
}

fn entry<E: Entry>(
    loaded: &mut Loaded,
    fields: &'static [(&'static str, Field)],
    rest: &[&str],
    property: &str,
    value: Option<(&str, bool)>,
) -> Result<()> {
    let is_field = |part: &str| fields.iter().any(|(name, _)| *name == part);
    let end = rest.iter().skip(1).position(|part| is_field(part)).map_or(rest.len(), |at| at + 1);
    let name = rest[..end].join(".");
    match (value, name.is_empty(), &rest[end..]) {
        (Some(_), _, []) => Err(Error::message(format!("can't set a map to a value: {property}"))),
        (None, true, _) => {
            let names: Vec<String> =
                E::list(&loaded.merged).iter().map(|one| one.name().to_string()).collect();
            names.iter().try_for_each(|name| loaded.remove::<E>(name).map(drop)).map_err(Error::from)
        }
        (None, false, []) => Ok(loaded.remove::<E>(&name).map(drop)?),
        (None, false, _) if !E::is_in(&loaded.merged, &name) => {
            Err(Error::message(format!("current map key `{name}` is invalid")))
        }
        (value, _, path) => {
            let (place, value) = resolve(Field::Struct(fields), path, property, value)?;
            Ok(loaded.set_tree::<E>(&name, |tree| put(tree, &place, value.clone()))?)
        }
    }
}

/// The keys below an entry and the value that goes there, none to take it away.
fn resolve(
    field: Field,
    path: &[&str],
    property: &str,
    value: Option<(&str, bool)>,
) -> Result<(Vec<String>, Option<Value>)> {
    let refused = |what: &str| Err(Error::message(format!("can't have more steps after {what}. {property}")));
    match (field, path) {
        (Field::Struct(fields), [first, rest @ ..]) => {
            let Some((_, field)) = fields.iter().find(|(name, _)| name == first) else {
                return Err(unknown(property));
            };
            let (mut place, value) = match (rest, value) {
                ([], None) => (Vec::new(), None),
                _ => resolve(*field, rest, property, value)?,
            };
            place.insert(0, first.to_string());
            Ok((place, value))
        }
        (Field::Struct(_) | Field::Map, []) => {
            Err(Error::message(format!("can't set a map to a value: {property}")))
        }
        // A key may contain dots.
        (Field::Map, keys) => Ok((vec![keys.join(".")], value.map(|(text, _)| Value::from(text)))),
        (Field::List, _) => Err(Error::message("unrecognized slice type. string")),
        (Field::Text, []) => Ok((Vec::new(), value.map(|(text, _)| Value::from(text)))),
        (Field::Text, _) => refused("a string"),
        (Field::Bytes, []) => Ok((Vec::new(), value.map(bytes).transpose()?)),
        (Field::Bytes, _) => refused("bytes"),
        (Field::Bool, []) => Ok((Vec::new(), value.map(|(text, _)| boolean(text)).transpose()?)),
        (Field::Bool, _) => refused("a bool"),
    }
}

/// Binary fields stand in the file as base64.
fn bytes((text, raw): (&str, bool)) -> Result<Value> {
    if raw {
        return Ok(Value::from(STANDARD.encode(text)));
    }
    match STANDARD.decode(text) {
        Ok(_) => Ok(Value::from(text)),
        Err(error) => Err(Error::message(format!("error decoding input value: {error}"))),
    }
}

/// The forms that Go reads as a bool.
fn boolean(text: &str) -> Result<Value> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::from(true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::from(false)),
        _ => Err(Error::message(format!("strconv.ParseBool: parsing {text:?}: invalid syntax"))),
    }
}

fn put(tree: &mut Value, place: &[String], value: Option<Value>) {
    let Some((first, rest)) = place.split_first() else { return };
    if !tree.is_mapping() {
        *tree = Value::Mapping(Mapping::new());
    }
    let Value::Mapping(mapping) = tree else { return };
    match (rest, value) {
        ([], None) => drop(mapping.remove(first.as_str())),
        ([], Some(value)) => drop(mapping.insert(Value::from(first.as_str()), value)),
        (_, value) => put(mapping.entry(Value::from(first.as_str())).or_insert(Value::Null), rest, value),
    }
}

fn unknown(property: &str) -> Error {
    Error::message(format!("unable to parse {property}: there is no such property in a kubeconfig file"))
}

#[cfg(test)]
mod tests;
