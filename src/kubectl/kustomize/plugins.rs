//! Generators and transformers in files of their own: the built-in ones, which have `apiVersion: builtin`.
//!
//! Others run programs or containers; kubectl has that switched off, and so it is refused here in upstream's
//! words.

use serde_json::{Value, json};

use super::decode::Place;
use super::error::{BuildError, Built};
use super::generate::{Made, generate};
use super::kustomization::{GeneratorArgs, Image, Patch, Replica};
use super::loader::Loader;
use super::names::Affix;
use super::namespace::Subjects;
use super::node::Node;
use super::patches::{JsonPatch, PatchChange, strategic_merges};
use super::resource::Resource;
use super::selector::Selector;
use super::specs::FieldSpec;
use super::transform::Transformer;
use super::value_add::{self, AddTarget, ValueAdd};
use super::{objects, replacements};
use crate::paths;

fn lenient(structure: &'static str) -> Place<'static> {
    Place::root(structure, true)
}

fn text(config: &Value, name: &str) -> String {
    config[name].as_str().unwrap_or_default().to_string()
}

fn field_specs(config: &Value) -> Built<Vec<FieldSpec>> {
    FieldSpec::decode_all(&config["fieldSpecs"], lenient("FieldSpec"))
}

/// The configuration of a built-in plugin; an error for others.
fn built_in(resource: &Resource) -> Built<Value> {
    let gvk = resource.gvk();
    if gvk.group.is_empty() && gvk.version == "builtin" {
        return resource.node.to_json();
    }
    Err(BuildError::told(format!(
        "external plugins disabled; unable to load external plugin '{}'",
        resource.original_id().gvk.kind
    )))
}

fn unknown(resource: &Resource, role: &str) -> BuildError {
    const KNOWN: [&str; 18] = [
        "AnnotationsTransformer",
        "ConfigMapGenerator",
        "HashTransformer",
        "HelmChartInflationGenerator",
        "IAMPolicyGenerator",
        "ImageTagTransformer",
        "LabelTransformer",
        "NamespaceTransformer",
        "PatchJson6902Transformer",
        "PatchStrategicMergeTransformer",
        "PatchTransformer",
        "PrefixSuffixTransformer",
        "PrefixTransformer",
        "ReplacementTransformer",
        "ReplicaCountTransformer",
        "SecretGenerator",
        "SuffixTransformer",
        "ValueAddTransformer",
    ];
    if KNOWN.contains(&resource.kind()) {
        return BuildError::told(format!("plugin {} not a {role}", resource.original_id()));
    }
    BuildError::told(format!("unable to load builtin {}", resource.gvk()))
}

fn configured<T>(resource: &Resource, read: impl FnOnce() -> Built<T>) -> Built<T> {
    read().map_err(|error| error.doing(format!("plugin {} fails configuration", resource.original_id())))
}

/// What a generator makes. Faults of its configuration are told as such.
pub(crate) fn generated(resource: &Resource, loader: &Loader) -> Built<Resource> {
    match generator(resource)
        .map_err(|error| error.doing("failed to load generator").doing("loading generator plugins"))?
    {
        Generator::Data(made, args) => generate(made, &args, loader),
        Generator::Account(config) => service_account(&config),
    }
}

enum Generator {
    Data(Made, Box<GeneratorArgs>),
    Account(Value),
}

fn generator(resource: &Resource) -> Built<Generator> {
    let config = built_in(resource)?;
    let (made, structure) = match resource.kind() {
        "ConfigMapGenerator" => (Made::ConfigMap, "ConfigMapArgs"),
        "SecretGenerator" => (Made::Secret, "SecretArgs"),
        "HelmChartInflationGenerator" => {
            return configured(resource, || Err(BuildError::told("must specify --enable-helm")));
        }
        "IAMPolicyGenerator" => return Ok(Generator::Account(config)),
        _ => return Err(unknown(resource, "generator")),
    };
    let args = configured(resource, || GeneratorArgs::decode(&config, lenient(structure)))?;
    Ok(Generator::Data(made, Box::new(args)))
}

/// A ServiceAccount for an account of a cloud provider.
fn service_account(config: &Value) -> Built<Resource> {
    let cloud = text(config, "cloud");
    if cloud != "gke" {
        return Err(BuildError::told(format!("cloud provider {cloud} not supported yet")));
    }
    let (service, account) = (&config["kubernetesService"], &config["serviceAccount"]);
    let email = format!("{}@{}.iam.gserviceaccount.com", text(account, "name"), text(account, "projectId"));
    let mut metadata = json!({
        "annotations": {"iam.gke.io/gcp-service-account": email},
        "name": text(service, "name"),
    });
    let namespace = text(service, "namespace");
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
    Ok(Resource::new(Node::from_json(&object)))
}

pub(crate) fn transformer(resource: &Resource, loader: &Loader) -> Built<Transformer> {
    let config = built_in(resource)?;
    let kind = resource.kind().to_string();
    configured(resource, || read(&kind, &config, loader))?.ok_or_else(|| unknown(resource, "transformer"))
}

fn affix(affix: Affix, name: &str, config: &Value) -> Built<Transformer> {
    if config["fieldSpecs"].is_null() {
        return Err(BuildError::told("fieldSpecs is not expected to be nil"));
    }
    Ok(Transformer::Affix { affix, text: text(config, name), specs: field_specs(config)? })
}

/// The transformer of a kind; none if there is none of that name.
fn read(kind: &str, config: &Value, loader: &Loader) -> Built<Option<Transformer>> {
    let pairs = |name: &str| match &config[name] {
        Value::Null => Ok(Default::default()),
        value => lenient("Transformer").pairs(value),
    };
    Ok(Some(match kind {
        "LabelTransformer" => Transformer::Labels { pairs: pairs("labels")?, specs: field_specs(config)? },
        "AnnotationsTransformer" => {
            Transformer::Annotations { pairs: pairs("annotations")?, specs: field_specs(config)? }
        }
        "PrefixTransformer" => affix(Affix::Prefix, "prefix", config)?,
        "SuffixTransformer" => affix(Affix::Suffix, "suffix", config)?,
        "PrefixSuffixTransformer" => Transformer::All(vec![
            affix(Affix::Prefix, "prefix", config)?,
            affix(Affix::Suffix, "suffix", config)?,
        ]),
        "NamespaceTransformer" => Transformer::Namespace {
            namespace: text(&config["metadata"], "namespace"),
            specs: field_specs(config)?,
            unset_only: config["unsetOnly"].as_bool().unwrap_or_default(),
            subjects: Subjects::named(&text(config, "setRoleBindingSubjects"))?,
        },
        "ImageTagTransformer" => Transformer::Images {
            image: Image::decode(&config["imageTag"], lenient("Image"))?,
            specs: field_specs(config)?,
        },
        "ReplicaCountTransformer" => Transformer::Replicas {
            replica: Replica::decode(&config["replica"], lenient("Replica"))?,
            specs: field_specs(config)?,
        },
        "PatchTransformer" => {
            Transformer::Patch(PatchChange::new(&Patch::decode(config, lenient("Patch"))?, loader)?)
        }
        "PatchJson6902Transformer" => {
            let mut patch = Patch::decode(config, lenient("Patch"))?;
            patch.patch = text(config, "jsonOp");
            Transformer::Json6902(JsonPatch::new(&patch, loader)?)
        }
        "PatchStrategicMergeTransformer" => Transformer::StrategicMerge(merges(config, loader)?),
        "ReplacementTransformer" => {
            Transformer::Replacements(replacements::of_value(&config["replacements"], loader)?)
        }
        "HashTransformer" => Transformer::Hash,
        "ValueAddTransformer" => Transformer::ValueAdd(value_to_add(config, loader)?),
        _ => return Ok(None),
    }))
}

fn merges(config: &Value, loader: &Loader) -> Built<Vec<Resource>> {
    let files = lenient("Patch").texts(&config["paths"])?;
    let inline = text(config, "patches");
    if files.is_empty() && inline.is_empty() {
        return Err(BuildError::told("empty file path and empty patch content"));
    }
    let mut patches = if files.is_empty() { Vec::new() } else { strategic_merges(&files, loader)? };
    if !inline.is_empty() {
        patches.extend(objects::read(&inline)?);
    }
    Ok(patches)
}

fn value_to_add(config: &Value, loader: &Loader) -> Built<ValueAdd> {
    let mut value = text(config, "value").trim().to_string();
    if value.is_empty() {
        value = paths::base(loader.root()).to_string();
    }
    let mut targets = add_targets(&config["targets"])?;
    let file = text(config, "targetFilePath");
    if !file.is_empty() {
        let node = super::parse::document(&loader.load_text(&file)?)?;
        let tree = node.map_or(Ok(Value::Null), |node| node.to_json())?;
        targets.extend(add_targets(&tree["targets"])?);
    }
    let add = ValueAdd { value, targets };
    value_add::check(&add)?;
    Ok(add)
}

fn add_targets(value: &Value) -> Built<Vec<AddTarget>> {
    lenient("Target").list(value, "[]builtins.Target", |one| {
        let selector = match &one["selector"] {
            Value::Null => None,
            selector => Some(Selector::decode(selector, lenient("Selector"))?),
        };
        let position = one["filePathPosition"].as_i64().unwrap_or_default();
        let position = usize::try_from(position).map_err(|_| {
            BuildError::told(format!("value of FilePathPosition ({position}) cannot be negative"))
        })?;
        Ok(AddTarget { selector, field_path: text(one, "fieldPath"), position })
    })
}
