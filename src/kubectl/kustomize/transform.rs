//! The changes that a kustomization makes to all objects: what one line of it becomes.

use std::collections::BTreeMap;

use super::error::{BuildError, Built};
use super::images;
use super::kustomization::{Image, Replacement, Replica};
use super::names::{self, Affix};
use super::namespace::{self, Subjects};
use super::node::{Kind, Node, Scalar, Tag};
use super::origin::Origin;
use super::patches::{JsonPatch, PatchChange};
use super::replacement;
use super::resource::{Resource, Resources};
use super::specs::{self, FieldSpec, Make};
use super::{generate, value_add};

pub(crate) enum Transformer {
    StrategicMerge(Vec<Resource>),
    Patch(PatchChange),
    Json6902(JsonPatch),
    Namespace {
        namespace: String,
        specs: Vec<FieldSpec>,
        unset_only: bool,
        subjects: Subjects,
    },
    Affix {
        affix: Affix,
        text: String,
        specs: Vec<FieldSpec>,
    },
    Labels {
        pairs: BTreeMap<String, String>,
        specs: Vec<FieldSpec>,
    },
    Annotations {
        pairs: BTreeMap<String, String>,
        specs: Vec<FieldSpec>,
    },
    Replicas {
        replica: Replica,
        specs: Vec<FieldSpec>,
    },
    Images {
        image: Image,
        specs: Vec<FieldSpec>,
    },
    Replacements(Vec<Replacement>),
    Hash,
    /// One after the other.
    All(Vec<Transformer>),
    ValueAdd(value_add::ValueAdd),
}

/// A change and who asked for it, where that is tracked.
pub(crate) struct Step {
    pub(crate) transformer: Transformer,
    pub(crate) origin: Option<Origin>,
}

/// Makes the changes one after the other.
pub(crate) fn run(steps: &[Step], resources: &mut Resources) -> Built<()> {
    for step in steps {
        step.transformer.run(resources)?;
        if let Some(origin) = &step.origin {
            for resource in &mut resources.0 {
                match resource.origin {
                    Some(_) => resource.transformations.push(origin.clone()),
                    None => resource.origin = Some(origin.clone()),
                }
            }
        }
        resources.0.retain(|resource| !resource.node.is_empty());
    }
    Ok(())
}

impl Transformer {
    pub(crate) fn run(&self, resources: &mut Resources) -> Built<()> {
        match self {
            Transformer::StrategicMerge(patches) => {
                for patch in patches {
                    let target = resources.target_of(&patch.original_id())?;
                    resources.patch(&[target], patch)?;
                }
                Ok(())
            }
            Transformer::Patch(patch) => patch.run(resources),
            Transformer::Json6902(patch) => patch.run(resources),
            Transformer::Namespace { namespace, specs, unset_only, subjects } => {
                namespace::run(namespace, specs, *unset_only, *subjects, resources)
            }
            Transformer::Affix { affix, text, specs } => names::affix(*affix, text, specs, resources),
            Transformer::Labels { pairs, specs } | Transformer::Annotations { pairs, specs } => {
                set_pairs(pairs, specs, resources)
            }
            Transformer::Replicas { replica, specs } => set_replicas(replica, specs, resources),
            Transformer::Images { image, specs } => images::run(image, specs, resources),
            Transformer::Replacements(replacements) => replacement::run(replacements, resources),
            Transformer::Hash => add_hashes(resources),
            Transformer::All(list) => list.iter().try_for_each(|one| one.run(resources)),
            Transformer::ValueAdd(add) => add.run(resources),
        }
    }
}

fn set_pairs(pairs: &BTreeMap<String, String>, specs: &[FieldSpec], resources: &mut Resources) -> Built<()> {
    for resource in &mut resources.0 {
        for (key, value) in pairs {
            for spec in specs {
                specs::visit(&mut resource.node, spec, Make::Kind(Kind::Map, Tag::Open), &mut |node| {
                    node.set(key, Node::string(value))
                })?;
            }
        }
    }
    Ok(())
}

fn set_replicas(replica: &Replica, specs: &[FieldSpec], resources: &mut Resources) -> Built<()> {
    let mut found = false;
    for spec in specs {
        let places = resources.matching_any(|id| id.name == replica.name && id.gvk.is_selected(&spec.gvk));
        found |= !places.is_empty();
        for at in places {
            let count = Scalar { text: replica.count.to_string(), tag: Tag::Integer, plain: true };
            let node = &mut resources.0[at].node;
            specs::visit(node, spec, Make::Kind(Kind::Scalar, Tag::Integer), &mut |node| {
                node.expect(Kind::Scalar)?;
                *node = Node::Scalar(count.clone());
                Ok(())
            })?;
        }
    }
    if found {
        return Ok(());
    }
    let kinds: Vec<String> = specs.iter().map(|spec| spec.gvk.to_string()).collect();
    Err(BuildError::told(format!(
        "resource with name {} does not match a config with the following GVK [{}]",
        replica.name,
        kinds.join(" ")
    )))
}

fn add_hashes(resources: &mut Resources) -> Built<()> {
    for resource in &mut resources.0 {
        if resource.needs_hash {
            let hash = generate::hash(&resource.node)?;
            resource.note_previous();
            let name = format!("{}-{hash}", resource.name());
            resource.set_name(&name)?;
        }
    }
    Ok(())
}
