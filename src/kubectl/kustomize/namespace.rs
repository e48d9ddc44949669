//! The namespace of all objects, and of the subjects of role bindings among them.

use super::error::{BuildError, Built};
use super::ids::ResId;
use super::node::{Kind, Node, Scalar, Tag};
use super::resource::{Resource, Resources};
use super::specs::{self, FieldSpec, Make};

/// Whose subjects of role bindings get the namespace.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Subjects {
    /// Those that are called `default`.
    Default,
    ServiceAccounts,
    None,
}

impl Subjects {
    pub(crate) fn named(name: &str) -> Built<Self> {
        match name {
            "" | "defaultOnly" => Ok(Subjects::Default),
            "allServiceAccounts" => Ok(Subjects::ServiceAccounts),
            "none" => Ok(Subjects::None),
            other => Err(BuildError::told(format!(
                "invalid value {other:?} for setRoleBindingSubjects: must be one of \"defaultOnly\", \"none\" or \"allServiceAccounts\""
            ))),
        }
    }
}

pub(crate) fn run(
    namespace: &str,
    specs: &[FieldSpec],
    unset_only: bool,
    subjects: Subjects,
    resources: &mut Resources,
) -> Built<()> {
    if namespace.is_empty() {
        return Ok(());
    }
    let mut ids: Vec<ResId> = resources.0.iter().map(Resource::id).collect();
    for at in 0..ids.len() {
        let resource = &mut resources.0[at];
        resource.note_previous();
        set(namespace, specs, unset_only, subjects, &mut resource.node)?;
        let id = resource.id();
        ids[at] = id.clone();
        let same: Vec<&Resource> =
            ids.iter().zip(&resources.0).filter(|(one, _)| one.same(&id)).map(|(_, one)| one).collect();
        if same.len() != 1 {
            let shown: Vec<String> = same
                .iter()
                .map(|one| one.node.to_json().map(|json| json.to_string()).unwrap_or_default())
                .collect();
            return Err(BuildError::told(format!(
                "namespace transformation produces ID conflict: [{}]",
                shown.join(" ")
            )));
        }
    }
    Ok(())
}

fn put(namespace: &str, unset_only: bool, node: &mut Node) -> Built<()> {
    if unset_only && !node.value().is_empty() {
        return Ok(());
    }
    node.assign(Scalar::string(namespace))
}

/// Sets the namespace in one object.
pub(crate) fn set(
    namespace: &str,
    specs: &[FieldSpec],
    unset_only: bool,
    subjects: Subjects,
    node: &mut Node,
) -> Built<()> {
    let gvk = super::ids::Gvk::of(node);
    let make = Make::Kind(Kind::Scalar, Tag::Text);
    let mut change = |node: &mut Node| put(namespace, unset_only, node);
    if !gvk.is_cluster_scoped {
        let spec = FieldSpec { path: "metadata/namespace".to_string(), create: true, ..FieldSpec::default() };
        specs::visit(node, &spec, make, &mut change)?;
    }
    let is_binding = |kind: &str| matches!(kind, "RoleBinding" | "ClusterRoleBinding");
    if is_binding(&gvk.kind) {
        set_subjects(subjects, node, &mut change)?;
    }
    let is_v1 = gvk.api_version() == "v1";
    for spec in specs {
        // Names of namespaces are those of the core group, and the object's own namespace is set.
        let is_done = spec.path == "metadata/namespace"
            || spec.path == "metadata/name" && !is_v1
            || is_binding(&gvk.kind) && is_binding(&spec.gvk.kind) && spec.path == "subjects/namespace";
        if is_done {
            continue;
        }
        specs::visit(node, spec, make, &mut change).map_err(|error| {
            let is_no_scalar = error.is_no_scalar();
            error.doing(if is_no_scalar {
                "namespace field specs must target scalar nodes"
            } else {
                "namespace transformation failed"
            })
        })?;
    }
    Ok(())
}

fn set_subjects(
    subjects: Subjects,
    node: &mut Node,
    change: &mut dyn FnMut(&mut Node) -> Built<()>,
) -> Built<()> {
    let (field, wanted) = match subjects {
        Subjects::None => return Ok(()),
        Subjects::Default => ("name", "default"),
        Subjects::ServiceAccounts => ("kind", "ServiceAccount"),
    };
    let Some(list) = node.get_mut("subjects").filter(|list| !list.is_null()) else { return Ok(()) };
    let mut set = || {
        list.expect(Kind::List)?;
        let Node::List(items) = list else { return Ok(()) };
        for item in items {
            let named = item.field(field)?.is_some_and(|one| one.value() == wanted);
            if named && let Some(place) = item.member_or("namespace", Kind::Scalar)? {
                change(place)?;
            }
        }
        Ok(())
    };
    set().map_err(|error: BuildError| error.doing("setting namespace on (cluster)role binding subjects"))
}
