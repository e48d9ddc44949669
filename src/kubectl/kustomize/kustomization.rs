//! What a kustomization file can say.

mod copies;
mod parts;

use std::collections::BTreeMap;

use serde_json::Value;

use super::decode::{Place, same};
use super::error::{BuildError, Built};

pub(crate) use copies::{FieldOptions, Replacement, ReplacementField, Source, Target};
pub(crate) use parts::{GeneratorArgs, GeneratorOptions, Image, Label, Patch, Replica, SortOptions, Var};

type Pairs = BTreeMap<String, String>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Kustomization {
    pub(crate) kind: String,
    pub(crate) api_version: String,
    pub(crate) openapi: Pairs,
    pub(crate) name_prefix: String,
    pub(crate) name_suffix: String,
    pub(crate) namespace: String,
    pub(crate) common_labels: Pairs,
    pub(crate) labels: Vec<Label>,
    pub(crate) common_annotations: Pairs,
    pub(crate) patches_strategic_merge: Vec<String>,
    pub(crate) patches_json: Vec<Patch>,
    pub(crate) patches: Vec<Patch>,
    pub(crate) images: Vec<Image>,
    pub(crate) replacements: Vec<ReplacementField>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) vars: Vec<Var>,
    pub(crate) sort_options: Option<SortOptions>,
    pub(crate) resources: Vec<String>,
    pub(crate) components: Vec<String>,
    pub(crate) crds: Vec<String>,
    pub(crate) config_maps: Vec<GeneratorArgs>,
    pub(crate) secrets: Vec<GeneratorArgs>,
    pub(crate) helm_charts: Vec<Value>,
    pub(crate) generator_options: Option<GeneratorOptions>,
    pub(crate) configurations: Vec<String>,
    pub(crate) generators: Vec<String>,
    pub(crate) transformers: Vec<String>,
    pub(crate) validators: Vec<String>,
    pub(crate) build_metadata: Vec<String>,
    /// Says something besides its kind.
    is_filled: bool,
    /// Warnings of fields that are on their way out.
    pub(crate) warnings: Vec<String>,
}

const EDIT_FIX: &str = "Run 'kustomize edit fix' to update your Kustomization automatically.";
pub(crate) const KUSTOMIZATION: &str = "Kustomization";
pub(crate) const COMPONENT: &str = "Component";

/// The members of a kustomization, under the names that errors have for them.
const MEMBERS: [(&str, &str); 34] = same([
    "kind",
    "apiVersion",
    "metadata",
    "openapi",
    "namePrefix",
    "nameSuffix",
    "namespace",
    "commonLabels",
    "labels",
    "commonAnnotations",
    "patchesStrategicMerge",
    "patchesJson6902",
    "patches",
    "images",
    "imageTags",
    "replacements",
    "replicas",
    "vars",
    "sortOptions",
    "resources",
    "components",
    "crds",
    "bases",
    "configMapGenerator",
    "secretGenerator",
    "helmGlobals",
    "helmCharts",
    "helmChartInflationGenerator",
    "generatorOptions",
    "configurations",
    "generators",
    "transformers",
    "validators",
    "buildMetadata",
]);

impl Kustomization {
    pub(crate) fn parse(text: &str) -> Built<Self> {
        let invalid = |error: BuildError| error.doing("invalid Kustomization");
        let (value, _) = api::schema::decode_yaml(text.as_bytes()).map_err(|error| {
            let first = error.message().lines().next().unwrap_or_default();
            let why =
                first.trim_start_matches("error converting YAML to JSON: ").trim_start_matches("error: ");
            invalid(BuildError::told(format!("yaml: {why}")))
        })?;
        let mut read = Kustomization::decode(&value).map_err(invalid)?;
        if read.kind.is_empty() {
            read.kind = KUSTOMIZATION.to_string();
        }
        Ok(read)
    }

    fn decode(value: &Value) -> Built<Self> {
        let mut read = Kustomization::default();
        let (mut bases, mut image_tags, mut charts) = (Vec::new(), Vec::new(), Vec::new());
        let mut deprecated = [false; 6];
        Place::root("Kustomization", false).members(value, "", &MEMBERS, &mut |name, value, place| {
            let is_blank = value.as_str().is_some_and(str::is_empty);
            read.is_filled |= !matches!(name, "kind" | "apiVersion") && !is_blank;
            match name {
                "kind" => read.kind = place.text(value)?,
                "apiVersion" => read.api_version = place.text(value)?,
                "metadata" => metadata(value, place)?,
                "openapi" => read.openapi = place.pairs(value)?,
                "namePrefix" => read.name_prefix = place.text(value)?,
                "nameSuffix" => read.name_suffix = place.text(value)?,
                "namespace" => read.namespace = place.text(value)?,
                "commonLabels" => {
                    deprecated[1] = true;
                    read.common_labels = place.pairs(value)?;
                }
                "labels" => {
                    read.labels = place.list(value, "[]types.Label", |one| Label::decode(one, place))?
                }
                "commonAnnotations" => read.common_annotations = place.pairs(value)?,
                "patchesStrategicMerge" => {
                    deprecated[4] = true;
                    read.patches_strategic_merge = place.texts(value)?;
                }
                "patchesJson6902" => {
                    deprecated[3] = true;
                    read.patches_json =
                        place.list(value, "[]types.Patch", |one| Patch::decode(one, place))?;
                }
                "patches" => {
                    read.patches = place.list(value, "[]types.Patch", |one| Patch::decode(one, place))?;
                }
                "images" => {
                    read.images = place.list(value, "[]types.Image", |one| Image::decode(one, place))?
                }
                "imageTags" => {
                    deprecated[2] = true;
                    image_tags = place.list(value, "[]types.Image", |one| Image::decode(one, place))?;
                }
                "replacements" => {
                    read.replacements = place.list(value, "[]types.ReplacementField", |one| {
                        ReplacementField::decode(one, place)
                    })?;
                }
                "replicas" => {
                    read.replicas =
                        place.list(value, "[]types.Replica", |one| Replica::decode(one, place))?;
                }
                "vars" => {
                    deprecated[5] = true;
                    read.vars = place.list(value, "[]types.Var", |one| Var::decode(one, place))?;
                }
                "sortOptions" => read.sort_options = Some(SortOptions::decode(value, place)?),
                "resources" => read.resources = place.texts(value)?,
                "components" => read.components = place.texts(value)?,
                "crds" => read.crds = place.texts(value)?,
                "bases" => {
                    deprecated[0] = true;
                    bases = place.texts(value)?;
                }
                "configMapGenerator" => {
                    read.config_maps = place.list(value, "[]types.ConfigMapArgs", |one| {
                        GeneratorArgs::decode(one, place.in_structure("ConfigMapArgs"))
                    })?;
                }
                "secretGenerator" => {
                    read.secrets = place.list(value, "[]types.SecretArgs", |one| {
                        GeneratorArgs::decode(one, place.in_structure("SecretArgs"))
                    })?;
                }
                "helmCharts" => {
                    read.helm_charts = place.list(value, "[]types.HelmChart", |one| Ok(one.clone()))?;
                }
                "helmChartInflationGenerator" => {
                    charts = place.list(value, "[]types.HelmChartArgs", |one| Ok(one.clone()))?;
                }
                "generatorOptions" => read.generator_options = Some(GeneratorOptions::decode(value, place)?),
                "configurations" => read.configurations = place.texts(value)?,
                "generators" => read.generators = place.texts(value)?,
                "transformers" => read.transformers = place.texts(value)?,
                "validators" => read.validators = place.texts(value)?,
                "buildMetadata" => read.build_metadata = place.texts(value)?,
                _ => {}
            }
            Ok(())
        })?;
        read.resources.append(&mut bases);
        read.images.append(&mut image_tags);
        read.helm_charts.append(&mut charts);
        read.warnings = warnings(deprecated);
        Ok(read)
    }

    /// Refuses a file that says nothing.
    pub(crate) fn check_filled(&self) -> Built<()> {
        if self.is_filled { Ok(()) } else { Err(BuildError::told("kustomization.yaml is empty")) }
    }

    /// Refuses a kind or version that is none of ours.
    pub(crate) fn check_kind(&self, root: &str) -> Built<()> {
        let mut faults = Vec::new();
        if self.kind != KUSTOMIZATION && self.kind != COMPONENT {
            faults.push(format!("kind should be {KUSTOMIZATION} or {COMPONENT}"));
        }
        let wanted = match self.kind.as_str() {
            COMPONENT => "kustomize.config.k8s.io/v1alpha1",
            _ => "kustomize.config.k8s.io/v1beta1",
        };
        if !self.api_version.is_empty() && self.api_version != wanted {
            faults.push(format!("apiVersion for {} should be {wanted}", self.kind));
        }
        if faults.is_empty() {
            return Ok(());
        }
        Err(BuildError::told(format!(
            "Failed to read kustomization file under {root}:\n{}",
            faults.join("\n")
        )))
    }
}

fn warnings(deprecated: [bool; 6]) -> Vec<String> {
    let old = [
        ("bases", "resources", ""),
        ("commonLabels", "labels", ""),
        ("imageTags", "images", ""),
        ("patchesJson6902", "patches", ""),
        ("patchesStrategicMerge", "patches", ""),
        ("vars", "replacements", "[EXPERIMENTAL] "),
    ];
    let used = old.into_iter().zip(deprecated).filter(|(_, used)| *used);
    used.map(|((old, new, mark), _)| {
        format!("# Warning: '{old}' is deprecated. Please use '{new}' instead. {mark}{EDIT_FIX}")
    })
    .collect()
}

fn metadata(value: &Value, place: Place<'_>) -> Built<()> {
    let known = same(["name", "namespace", "labels", "annotations"]);
    place.in_structure("ObjectMeta").members(value, "types.ObjectMeta", &known, &mut |name, value, place| {
        match name {
            "labels" | "annotations" => place.pairs(value).map(|_| ()),
            _ => place.text(value).map(|_| ()),
        }
    })
}
