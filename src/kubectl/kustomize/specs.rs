//! Which fields of which kinds a change touches: upstream's tables, and what `configurations` adds to them.
//!
//! The built-in tables are facts of kustomize (Apache-2.0), one field a line in `field_specs.txt`: whether
//! the field is made where it is absent, group, version, kind, path.

use super::error::{BuildError, Built};
use super::ids::{Gvk, ResId, split_api_version};
use super::node::{Kind, Node, Tag};

const BUILT_IN: &str = include_str!("field_specs.txt");

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSpec {
    pub(crate) gvk: Gvk,
    pub(crate) path: String,
    pub(crate) create: bool,
}

/// Who may refer to objects of a kind by name, and where.
#[derive(Clone, Debug)]
pub(crate) struct NameReference {
    pub(crate) gvk: Gvk,
    pub(crate) referrers: Vec<FieldSpec>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    pub(crate) name_prefix: Vec<FieldSpec>,
    pub(crate) name_suffix: Vec<FieldSpec>,
    pub(crate) namespace: Vec<FieldSpec>,
    pub(crate) common_labels: Vec<FieldSpec>,
    pub(crate) labels: Vec<FieldSpec>,
    pub(crate) template_labels: Vec<FieldSpec>,
    pub(crate) common_annotations: Vec<FieldSpec>,
    pub(crate) name_reference: Vec<NameReference>,
    pub(crate) var_reference: Vec<FieldSpec>,
    pub(crate) images: Vec<FieldSpec>,
    pub(crate) replicas: Vec<FieldSpec>,
}

/// The tables, as a configuration names them and as errors do.
const NAMES: [(&str, &str); 10] = [
    ("namePrefix", "NamePrefix"),
    ("nameSuffix", "NameSuffix"),
    ("namespace", "NameSpace"),
    ("commonAnnotations", "CommonAnnotations"),
    ("commonLabels", "CommonLabels"),
    ("labels", "Labels"),
    ("templateLabels", "TemplateLabels"),
    ("varReference", "VarReference"),
    ("images", "Images"),
    ("replicas", "Replicas"),
];

impl Tables {
    pub(crate) fn built_in() -> Self {
        let mut tables = Tables::default();
        let mut section = "";
        for line in BUILT_IN.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name;
                if let Some(target) = name.strip_prefix("nameReference ") {
                    let gvk = gvk_of(&mut target.split(' '));
                    tables.name_reference.push(NameReference { gvk, referrers: Vec::new() });
                }
                continue;
            }
            let mut words = line.split(' ');
            let create = words.next() == Some("+");
            let spec = FieldSpec {
                gvk: gvk_of(&mut words),
                path: words.next().unwrap_or_default().to_string(),
                create,
            };
            if let Some(table) = tables.table(section) {
                table.push(spec);
            } else if let Some(reference) = tables.name_reference.last_mut() {
                reference.referrers.push(spec);
            }
        }
        tables.sort();
        tables
    }

    pub(crate) fn table(&mut self, name: &str) -> Option<&mut Vec<FieldSpec>> {
        Some(match name {
            "namePrefix" => &mut self.name_prefix,
            "nameSuffix" => &mut self.name_suffix,
            "namespace" => &mut self.namespace,
            "commonLabels" => &mut self.common_labels,
            "labels" => &mut self.labels,
            "templateLabels" => &mut self.template_labels,
            "commonAnnotations" => &mut self.common_annotations,
            "varReference" => &mut self.var_reference,
            "images" => &mut self.images,
            "replicas" => &mut self.replicas,
            _ => return None,
        })
    }

    fn sort(&mut self) {
        for (name, _) in NAMES {
            if let Some(table) = self.table(name) {
                table.sort_by_cached_key(|one| one.gvk.sort_key());
            }
        }
        self.name_reference.sort_by_cached_key(|one| one.gvk.sort_key());
    }

    pub(crate) fn merge(&mut self, mut other: Tables) -> Built<()> {
        for (name, shown) in NAMES {
            let added = other.table(name).map(std::mem::take).unwrap_or_default();
            if let Some(table) = self.table(name) {
                merge_all(table, added)
                    .map_err(|error| error.doing(format!("failed to merge {shown} fieldSpec")))?;
            }
        }
        for reference in other.name_reference {
            match self.name_reference.iter_mut().find(|one| one.gvk.same(&reference.gvk)) {
                Some(present) => merge_all(&mut present.referrers, reference.referrers)
                    .map_err(|error| error.doing("failed to merge NameReference fieldSpec"))?,
                None => self.name_reference.push(reference),
            }
        }
        self.sort();
        Ok(())
    }
}

fn gvk_of<'a>(words: &mut impl Iterator<Item = &'a str>) -> Gvk {
    let mut next = || match words.next() {
        None | Some("*") => String::new(),
        Some(word) => word.to_string(),
    };
    Gvk { group: next(), version: next(), kind: next(), is_cluster_scoped: false }
}

/// Adds fields that are not there; the same field cannot be made in one table and not in the other.
pub(crate) fn merge_all(table: &mut Vec<FieldSpec>, added: Vec<FieldSpec>) -> Built<()> {
    for spec in added {
        let present = table.iter().find(|one| one.gvk.is_selected(&spec.gvk) && one.path == spec.path);
        match present {
            Some(present) if present.create != spec.create => {
                return Err(BuildError::told("conflicting fieldspecs"));
            }
            Some(_) => {}
            None => table.push(spec),
        }
    }
    Ok(())
}

/// `a/b\/c` in its parts.
pub(crate) fn split_path(path: &str, delimiter: char) -> Vec<String> {
    let mut parts: Vec<&str> = path.split(delimiter).collect();
    if parts.len() > 1 && parts[0].is_empty() {
        parts.remove(0);
    }
    let mut result: Vec<String> = Vec::new();
    for part in parts {
        match result.last_mut() {
            Some(last) if last.ends_with('\\') => {
                last.pop();
                last.push(delimiter);
                last.push_str(part);
            }
            _ => result.push(part.to_string()),
        }
    }
    result
}

/// What to make of a field that is absent or null.
#[derive(Clone, Copy)]
pub(crate) enum Make {
    Nothing,
    Kind(Kind, Tag),
}

/// Calls `change` with every value at the field of an object that the specification is about.
pub(crate) fn visit(
    object: &mut Node,
    spec: &FieldSpec,
    make: Make,
    change: &mut dyn FnMut(&mut Node) -> Built<()>,
) -> Built<()> {
    let (group, version) = split_api_version(object.get("apiVersion").map_or("", Node::text));
    let kind = object.get("kind").map_or("", Node::text);
    let admits = |wanted: &str, own: &str| wanted.is_empty() || wanted == own;
    let is_meant =
        admits(&spec.gvk.kind, kind) && admits(&spec.gvk.group, group) && admits(&spec.gvk.version, version);
    if !is_meant {
        return Ok(());
    }
    let id = ResId::of(object);
    let path = split_path(&spec.path, '/');
    let make = if spec.create { make } else { Make::Nothing };
    descend(object, &path, make, change).map_err(|error| {
        let mut id = id;
        id.gvk.is_cluster_scoped = false;
        error.doing(format!("considering field '{}' of object {id}", spec.path))
    })
}

fn descend(
    node: &mut Node,
    path: &[String],
    make: Make,
    change: &mut dyn FnMut(&mut Node) -> Built<()>,
) -> Built<()> {
    let [name, rest @ ..] = path else { return change(node) };
    if node.is_null() {
        return Ok(());
    }
    match node {
        Node::List(items) => items
            .iter_mut()
            .try_for_each(|one| descend(one, path, make, change))
            .map_err(|error| error.doing(format!("visit traversal on path: [{}]", path.join(" ")))),
        Node::Map(_) => {
            let (name, is_list) = match name.strip_suffix("[]") {
                Some(short) => (short, true),
                None => (name.as_str(), false),
            };
            if name.is_empty() {
                return Err(BuildError::told("cannot set or create an empty field name"));
            }
            let wanted = match make {
                Make::Nothing => None,
                _ if is_list => None,
                Make::Kind(kind, tag) if rest.is_empty() => Some((kind, tag)),
                Make::Kind(..) => Some((Kind::Map, Tag::Open)),
            };
            let found = match wanted {
                Some((kind, _)) => node.member_or(name, kind)?,
                None => node.get_mut(name),
            };
            let Some(field) = found else { return Ok(()) };
            if field.is_null() {
                match (wanted, &mut *field) {
                    (Some((Kind::Scalar, tag)), Node::Scalar(scalar)) => scalar.tag = tag,
                    (Some((kind, _)), _) => *field = kind.empty(),
                    (None, _) if is_list => *field = Kind::List.empty(),
                    (None, _) => {}
                }
            }
            descend(field, rest, make, change)
        }
        Node::Scalar(_) => Err(BuildError::told("expected sequence or mapping node")),
    }
}
