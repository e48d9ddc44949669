//! Kustomize as kubectl has it: `kubectl kustomize`, and `-k` of the verbs that read objects.
//!
//! Works as kustomize 5.8 does, step by step, so that the output is the same byte for byte: `build` reads
//! directories and what they stand on, `transform` has the changes, `names` the references that follow them.
//! Trees keep what their scalars were written as (`node`). Absent: whatever fetches or runs something (remote
//! bases, Helm charts, programs and containers as plugins), and schemas of other kinds (`openapi.path`).

mod build;
mod crds;
mod decode;
mod emit;
mod error;
mod generate;
pub(crate) use generate::hash_letters;
mod ids;
mod images;
mod kustomization;
mod loader;
mod lookup;
mod merge;
mod names;
mod namespace;
mod node;
mod objects;
mod order;
mod origin;
mod parse;
mod patches;
mod plugins;
mod replacement;
mod replacements;
mod resource;
mod scalar;
mod schema;
mod selector;
mod specs;
mod transform;
mod value_add;
mod vars;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

use error::Built;

use build::{Build, Directory};
use ids::{NO_NAMESPACE, ResId};

use order::Sorting;
use origin::Origin;
use resource::{Resource, Resources};
use specs::FieldSpec;
use transform::Transformer;

/// How a directory is built.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Files outside of the directory may be named.
    pub(crate) unrestricted: bool,
    /// `--reorder`: order by kind, or not; the kustomization's own word comes first.
    pub(crate) reorder: Option<bool>,
    pub(crate) enable_helm: bool,
    /// `--enable-managedby-label`.
    pub(crate) managed_by: bool,
}

/// One object of the output.
pub(crate) struct Object {
    pub(crate) tree: Value,
    id: ResId,
}

impl Object {
    /// The name of the object's own file; with the namespace if there are several.
    pub(crate) fn file_name(&self, with_namespace: bool) -> String {
        let name = format!("{}_{}.yaml", self.id.gvk.joined(), self.id.name).to_lowercase();
        match self.id.effective_namespace() {
            namespace if with_namespace && namespace != NO_NAMESPACE => {
                format!("{}_{name}", namespace.to_lowercase())
            }
            _ => name,
        }
    }

    /// None for what is in no namespace.
    pub(crate) fn namespace(&self) -> Option<&str> {
        Some(self.id.effective_namespace()).filter(|namespace| *namespace != NO_NAMESPACE)
    }
}

/// The objects that a directory's kustomization comes to. Warnings are handed to `warn`.
pub(crate) fn build(path: &str, options: &Options, warn: fn(&str)) -> Built<Vec<Object>> {
    let loader = loader::Loader::at(path, !options.unrestricted)?;
    let build = Build::new(options.enable_helm, warn);
    let mut directory = Directory::open(&build, loader)?;
    let mut gathered = directory.gather()?;
    let resources = &mut gathered.resources;
    Transformer::Hash.run(resources)?;
    names::fix_references(&gathered.tables.name_reference, resources)?;
    let unused = vars::resolve(&gathered.vars, &gathered.tables.var_reference, resources)?;
    if !unused.is_empty() {
        let text = format!("well-defined vars that were never replaced: {}", unused.join(","));
        warn(&logged(&text));
    }
    resources.0.retain(|resource| !resource.node.is_empty() && !is_local(resource));
    sort(&directory, options, resources, warn)?;
    let metadata = &directory.kustomization.build_metadata;
    let asks = |option: &str| metadata.iter().any(|one| one == option);
    if options.managed_by || asks("managedByLabel") {
        label_managed(resources)?;
    }
    let (origins, transformations) = (asks("originAnnotations"), asks("transformerAnnotations"));
    resources.0.iter_mut().map(|resource| finish(resource, origins, transformations)).collect()
}

fn is_local(resource: &Resource) -> bool {
    resource.annotations().get("config.kubernetes.io/local-config").is_some_and(|value| value != "false")
}

/// A line as Go's `log` prints it.
fn logged(text: &str) -> String {
    format!("{} {text}", jiff::Zoned::now().strftime("%Y/%m/%d %H:%M:%S"))
}

fn sort(
    directory: &Directory<'_>,
    options: &Options,
    resources: &mut Resources,
    warn: fn(&str),
) -> Built<()> {
    let sorting = match (&directory.kustomization.sort_options, options.reorder) {
        (Some(own), flag) => {
            if flag.is_some() {
                warn(&logged(
                    "Warning: Sorting order is set both in 'kustomization.yaml' ('sortOptions') and in a CLI flag ('--reorder'). Using the kustomization file over the CLI flag.",
                ));
            }
            Sorting::of(own)?
        }
        (None, Some(false)) => Sorting::Fifo,
        (None, Some(true) | None) => Sorting::legacy(),
    };
    sorting.run(resources)
}

/// The version of kustomize whose output this is.
const KUSTOMIZE_VERSION: &str = "v5.8.1";

fn label_managed(resources: &mut Resources) -> Built<()> {
    let value = format!("kustomize-{KUSTOMIZE_VERSION}");
    let pairs = BTreeMap::from([("app.kubernetes.io/managed-by".to_string(), value)]);
    let specs = vec![FieldSpec { path: "metadata/labels".to_string(), create: true, ..FieldSpec::default() }];
    Transformer::Labels { pairs, specs }.run(resources)
}

const ORIGIN: &str = "config.kubernetes.io/origin";
const TRANSFORMATIONS: &str = "alpha.config.kubernetes.io/transformations";

/// Annotations that tools of kustomize leave, and that are taken off.
fn is_internal(annotation: &str) -> bool {
    const NAMES: [&str; 7] = [
        "config.kubernetes.io/path",
        "config.kubernetes.io/index",
        "config.k8s.io/id",
        "helm.kustomize.config.k8s.io/generated",
        ORIGIN,
        TRANSFORMATIONS,
        "internal.config.kubernetes.io/annotations-migration-resource-id",
    ];
    const INTERNAL: [&str; 14] = [
        "previousKinds",
        "previousNames",
        "prefixes",
        "suffixes",
        "previousNamespaces",
        "allowNameChange",
        "allowKindChange",
        "refBy",
        "generatorBehavior",
        "needsHashSuffix",
        "path",
        "index",
        "seqindent",
        "id",
    ];
    let internal = annotation.strip_prefix("internal.config.kubernetes.io/");
    NAMES.contains(&annotation) || internal.is_some_and(|name| INTERNAL.contains(&name))
}

/// Leaves only what is the object's own; annotations become texts.
fn finish(resource: &mut Resource, origins: bool, transformations: bool) -> Built<Object> {
    let mut annotations = resource.annotations();
    annotations.retain(|name, _| !is_internal(name));
    if origins && let Some(origin) = &resource.origin {
        annotations.insert(ORIGIN.to_string(), origin.to_yaml());
    }
    if transformations && !resource.transformations.is_empty() {
        annotations.insert(TRANSFORMATIONS.to_string(), Origin::list_to_yaml(&resource.transformations));
    }
    resource.set_texts("annotations", &annotations)?;
    Ok(Object { tree: resource.node.to_json()?, id: resource.id() })
}
