//! Names: prefixes and suffixes, and the references that follow when a name has changed.

use super::error::{BuildError, Built};
use super::ids::{Gvk, ResId};
use super::node::{Kind, Node, Scalar, Tag};
use super::resource::{Resource, Resources};
use super::specs::{self, FieldSpec, Make, NameReference};

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Affix {
    Prefix,
    Suffix,
}

/// Kinds whose names are given by what they are about.
fn keeps_its_name(gvk: &Gvk) -> bool {
    matches!(gvk.kind.as_str(), "CustomResourceDefinition" | "Namespace")
        || gvk.kind == "APIService" && gvk.group == "apiregistration.k8s.io"
}

pub(crate) fn affix(affix: Affix, text: &str, specs: &[FieldSpec], resources: &mut Resources) -> Built<()> {
    for resource in &mut resources.0 {
        let id = resource.original_id();
        if keeps_its_name(&id.gvk) {
            continue;
        }
        for spec in specs.iter().filter(|spec| id.gvk.is_selected(&spec.gvk)) {
            if spec.path == "metadata/name" && !text.is_empty() {
                match affix {
                    Affix::Prefix => resource.prefixes.push(text.to_string()),
                    Affix::Suffix => resource.suffixes.push(text.to_string()),
                }
                resource.note_previous();
            }
            let make = Make::Kind(Kind::Scalar, Tag::Text);
            specs::visit(&mut resource.node, spec, make, &mut |node| {
                let name = match affix {
                    Affix::Prefix => format!("{text}{}", node.text()),
                    Affix::Suffix => format!("{}{text}", node.text()),
                };
                node.assign(Scalar::open(name))
            })?;
        }
    }
    Ok(())
}

/// Puts present names where former ones are referred to.
pub(crate) fn fix_references(references: &[NameReference], resources: &mut Resources) -> Built<()> {
    let ids: Vec<ResId> = resources.0.iter().map(Resource::original_id).collect();
    let present: Vec<ResId> = resources.0.iter().map(Resource::id).collect();
    for (at, id) in ids.iter().enumerate() {
        let meant: Vec<(&Gvk, &FieldSpec)> = references
            .iter()
            .flat_map(|reference| reference.referrers.iter().map(move |spec| (&reference.gvk, spec)))
            .filter(|(_, spec)| id.gvk.is_selected(&spec.gvk))
            .collect();
        if meant.is_empty() {
            continue;
        }
        let visible = visible_to(&resources.0[at], &present[at], &present)?;
        for (target, spec) in meant {
            // The object is taken out while it is changed; it may refer to itself by its present name.
            let mut node = resources.0[at].node.clone();
            let search = Search { referrer: &resources.0[at], spec, target, visible: &visible, resources };
            let own = FieldSpec { gvk: resources.0[at].gvk(), ..spec.clone() };
            specs::visit(&mut node, &own, Make::Nothing, &mut |node| search.set(node)).map_err(|error| {
                let id = resources.0[at].id();
                error.doing(format!("updating name reference in '{}' field of '{id}'", spec.path))
            })?;
            resources.0[at].node = node;
        }
    }
    Ok(())
}

/// The places of objects that this one can refer to: those of its namespace and of none. A role binding sees
/// those of its subjects' namespaces, too.
fn visible_to(referrer: &Resource, id: &ResId, present: &[ResId]) -> Built<Vec<usize>> {
    if id.gvk.is_cluster_scoped {
        return Ok((0..present.len()).collect());
    }
    let mut also: Vec<&str> = Vec::new();
    if referrer.kind() == "RoleBinding" {
        for subject in referrer.node.get("subjects").map(Node::items).unwrap_or_default() {
            let is_account = subject.get("kind").is_some_and(|kind| kind.text() == "ServiceAccount");
            match subject.get("namespace").filter(|_| is_account) {
                None => {}
                Some(Node::Scalar(scalar)) if scalar.is_text() => also.push(&scalar.text),
                Some(_) => {
                    let id = id.to_string();
                    return Err(BuildError::told(format!(
                        "Invalid Input: namespace is blank for resource {id:?}\n"
                    )));
                }
            }
        }
    }
    let sees = |other: &ResId| {
        other.gvk.is_cluster_scoped || other.same_namespace(id) || also.contains(&other.namespace.as_str())
    };
    Ok(present.iter().enumerate().filter(|(_, other)| sees(other)).map(|(at, _)| at).collect())
}

struct Search<'a> {
    referrer: &'a Resource,
    spec: &'a FieldSpec,
    target: &'a Gvk,
    visible: &'a [usize],
    resources: &'a Resources,
}

impl<'a> Search<'a> {
    fn candidates(&self) -> Vec<&'a Resource> {
        self.visible.iter().map(|at| &self.resources.0[*at]).collect()
    }

    fn set(&self, node: &mut Node) -> Built<()> {
        if node.is_null() {
            return Ok(());
        }
        match node {
            Node::Scalar(_) => self.set_name(node),
            Node::Map(_) => self.set_map(node),
            Node::List(items) => {
                for item in items.iter_mut().filter(|item| !item.is_null()) {
                    match item.kind() {
                        Kind::Scalar => self.set_name(item)?,
                        Kind::Map => self.set_map(item)?,
                        Kind::List => {
                            return Err(BuildError::told(
                                "a list is expected to be either a string or a map of string",
                            ));
                        }
                    }
                }
                Ok(())
            }
        }
    }

    fn set_name(&self, node: &mut Node) -> Built<()> {
        let found = self.find(node.text(), self.candidates(), false)?;
        match found {
            Some(found) if found.name() != node.text() => node.assign(Scalar::open(found.name())),
            _ => Ok(()),
        }
    }

    /// A map with `name` and perhaps `namespace`, both of which follow.
    fn set_map(&self, node: &mut Node) -> Built<()> {
        let Some(name) = node.get("name").map(|name| name.text().to_string()) else {
            return Err(BuildError::told("path config error; no 'name' field in node"));
        };
        let candidates = match node.get("namespace").map(Node::text) {
            None => self.candidates(),
            Some(namespace) => self.candidates_of(namespace),
        };
        let Some(found) = self.find(&name, candidates, true)? else { return Ok(()) };
        if found.name() == name && found.namespace().is_empty() {
            return Ok(());
        }
        node.set("name", Node::open(found.name()))?;
        if !found.namespace().is_empty() {
            node.set("namespace", Node::open(found.namespace()))?;
        }
        Ok(())
    }

    fn candidates_of(&self, namespace: &str) -> Vec<&'a Resource> {
        let of = |id: &dyn Fn(&Resource) -> ResId| -> Vec<&'a Resource> {
            let is_there = |one: &&Resource| {
                let id = id(one);
                id.effective_namespace() == namespace && namespace != super::ids::NO_NAMESPACE
            };
            self.candidates().into_iter().filter(is_there).collect()
        };
        let original = of(&|one| one.original_id());
        if original.is_empty() { of(&|one| one.id()) } else { original }
    }

    /// The object that the name means.
    fn find(
        &self,
        name: &str,
        candidates: Vec<&'a Resource>,
        with_namespace: bool,
    ) -> Built<Option<&'a Resource>> {
        let is_of = |one: &Resource, gvk: &Gvk| one.previous_ids().iter().any(|id| id.gvk.is_selected(gvk));
        let role = self.role();
        let own = self.referrer.id();
        let is_reachable = |one: &Resource| {
            let id = one.id();
            own.gvk.is_cluster_scoped
                || id.gvk.is_cluster_scoped
                || one.kind() == "ServiceAccount"
                || own.same_namespace(&id)
        };
        let admits = |one: &&Resource| {
            one.has_previous_name(name)
                && is_of(one, self.target)
                && role.as_ref().is_none_or(|role| is_of(one, role))
                && is_reachable(one)
        };
        let mut found: Vec<&Resource> = candidates.into_iter().filter(admits).collect();
        if found.len() == 1 {
            return Ok(found.pop());
        }
        found.retain(|one| same_affixes(one, self.referrer, true));
        if found.len() > 1 {
            found.retain(|one| same_affixes(one, self.referrer, false));
        }
        let Some(first) = found.first() else { return Ok(None) };
        let same = |one: &&Resource| {
            one.name() == first.name() && (!with_namespace || one.namespace() == first.namespace())
        };
        if found.iter().all(same) {
            return Ok(Some(first));
        }
        Err(self.several(&found))
    }

    /// In `roleRef` the kind stands beside the name.
    fn role(&self) -> Option<Gvk> {
        if !self.spec.path.ends_with("roleRef/name") {
            return None;
        }
        let text = |name: &str| self.referrer.node.at(&["roleRef", name]).map(|one| one.text().to_string());
        Some(Gvk { group: text("apiGroup")?, kind: text("kind")?, ..Gvk::default() })
    }

    fn several(&self, found: &[&Resource]) -> BuildError {
        let yaml = |one: &Resource| {
            one.node.to_json().map(|tree| crate::output::yaml::to_yaml(&tree)).unwrap_or_default()
        };
        let ids: Vec<String> = found.iter().map(|one| one.id().to_string()).collect();
        let mut text = format!(
            "found multiple possible referrals: {}\n\n**** Too many possible referral targets to referrer:\n{}\n",
            ids.join(", "),
            yaml(self.referrer)
        );
        for (index, one) in found.iter().enumerate() {
            text.push_str(&format!("--- possible referral {index}:\n{}\n", yaml(one)));
        }
        BuildError::told(text)
    }
}

fn same_affixes(one: &Resource, other: &Resource, allow_empty: bool) -> bool {
    let same = |own: &[String], other: &[String]| {
        allow_empty && (own.is_empty() || other.is_empty()) || same_ending(own, other)
    };
    same(&one.prefixes, &other.prefixes) && same(&one.suffixes, &other.suffixes)
}

/// Whether the shorter list is the end of the longer one. An empty one only matches an empty one.
fn same_ending(one: &[String], other: &[String]) -> bool {
    let (short, long) = if one.len() > other.len() { (other, one) } else { (one, other) };
    if short.is_empty() { long.is_empty() } else { long.ends_with(short) }
}
