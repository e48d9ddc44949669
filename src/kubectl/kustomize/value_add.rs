//! The built-in transformer that adds a value to fields: only in files of transformers, never in a
//! kustomization itself.

use super::error::{BuildError, Built};
use super::namespace::{self, Subjects};
use super::node::{Kind, Node, Scalar};
use super::resource::Resources;
use super::selector::Selector;
use super::specs::split_path;

pub(crate) struct ValueAdd {
    pub(crate) value: String,
    pub(crate) targets: Vec<AddTarget>,
}

pub(crate) struct AddTarget {
    pub(crate) selector: Option<Selector>,
    pub(crate) field_path: String,
    /// From one on: where the value comes in between the parts of a path.
    pub(crate) position: usize,
}

impl ValueAdd {
    pub(crate) fn run(&self, resources: &mut Resources) -> Built<()> {
        for target in &self.targets {
            let places = match &target.selector {
                None => (0..resources.0.len()).collect(),
                Some(selector) => resources.select(selector)?,
            };
            for at in places {
                let node = &mut resources.0[at].node;
                if target.field_path == "metadata/namespace" {
                    namespace::set(&self.value, &[], false, Subjects::Default, node)?;
                } else {
                    self.add(target, node)?;
                }
            }
        }
        Ok(())
    }

    fn add(&self, target: &AddTarget, node: &mut Node) -> Built<()> {
        let path = split_path(&target.field_path, '/');
        let mut field = node;
        for (index, part) in path.iter().enumerate() {
            let kind = if index + 1 == path.len() { Kind::Scalar } else { Kind::Map };
            match field.member_or(part, kind)? {
                Some(next) => field = next,
                None => return Ok(()),
            }
        }
        field.expect(Kind::Scalar)?;
        let value = match target.position {
            0 => self.value.clone(),
            position => inserted(field.text(), position - 1, &self.value),
        };
        field.assign(Scalar::open(value))
    }
}

/// A path with one part more.
fn inserted(path: &str, position: usize, part: &str) -> String {
    if part.is_empty() {
        return path.to_string();
    }
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = path.split('/').filter(|one| !one.is_empty()).collect();
    parts.insert(position.min(parts.len()), part);
    let joined = parts.join("/");
    if rooted { format!("/{joined}") } else { joined }
}

pub(crate) fn check(add: &ValueAdd) -> Built<()> {
    if add.targets.is_empty() {
        return Err(BuildError::told("must specify at least one target"));
    }
    if add.targets.iter().any(|target| target.field_path.is_empty()) {
        return Err(BuildError::told("fieldPath cannot be empty"));
    }
    Ok(())
}
