//! Builds one kustomization and those that it stands on.

use std::rc::Rc;

use serde_json::Value;

use super::error::{BuildError, Built};
use super::generate::{Made, generate};
use super::kustomization::{COMPONENT, GeneratorOptions, Kustomization};
use super::loader::{self, Loader};
use super::names::Affix;
use super::namespace::Subjects;
use super::origin::{ConfiguredBy, Origin};
use super::patches::{JsonPatch, PatchChange, strategic_merges};
use super::resource::{Resource, Resources};
use super::specs::{FieldSpec, Tables, merge_all};
use super::transform::{self, Step, Transformer};
use super::vars::{self, Vars};
use super::{crds, objects, plugins, replacements};

/// Directories that one build may read, counted as often as they are named.
const MAX_DIRECTORIES: usize = 10_000;

const FILE_NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// What is common to all directories of a build.
pub(crate) struct Build {
    pub(crate) enable_helm: bool,
    directories: std::cell::Cell<usize>,
    warn: fn(&str),
}

impl Build {
    pub(crate) fn new(enable_helm: bool, warn: fn(&str)) -> Self {
        Build { enable_helm, directories: std::cell::Cell::new(0), warn }
    }
}

/// What has been gathered so far.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) resources: Resources,
    pub(crate) tables: Tables,
    pub(crate) vars: Vars,
}

impl Gathered {
    fn add(&mut self, other: Gathered) -> Built<()> {
        self.resources.extend(other.resources.0)?;
        self.tables.merge(other.tables)?;
        other.vars.into_values().try_for_each(|var| vars::insert(&mut self.vars, var))
    }
}

/// A directory with a kustomization.
pub(crate) struct Directory<'b> {
    build: &'b Build,
    loader: Rc<Loader>,
    pub(crate) kustomization: Kustomization,
    file: &'static str,
    /// Set if origins are tracked.
    origin: Option<Origin>,
}

impl<'b> Directory<'b> {
    pub(crate) fn open(build: &'b Build, loader: Rc<Loader>) -> Built<Self> {
        build.directories.set(build.directories.get() + 1);
        if build.directories.get() > MAX_DIRECTORIES {
            return Err(BuildError::told(format!("more than {MAX_DIRECTORIES} kustomizations in one build")));
        }
        let found: Vec<(&'static str, Vec<u8>)> =
            FILE_NAMES.iter().filter_map(|name| Some((*name, loader.load(name).ok()?))).collect();
        let (file, content) = match found.len() {
            0 => {
                return Err(BuildError::told(format!(
                    "unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' in directory '{}'",
                    loader.root()
                )));
            }
            1 => found.into_iter().next().unwrap_or_default(),
            _ => {
                return Err(BuildError::told(format!(
                    "Found multiple kustomization files under: {}\n",
                    loader.root()
                )));
            }
        };
        let text = String::from_utf8(content)
            .map_err(|_| BuildError::told("invalid Kustomization: yaml: invalid leading UTF-8 octet"))?;
        let kustomization = Kustomization::parse(&text)?;
        kustomization.warnings.iter().for_each(|warning| (build.warn)(warning));
        kustomization.check_filled()?;
        kustomization.check_kind(loader.root())?;
        check_openapi(&kustomization)?;
        let origin = (!kustomization.build_metadata.is_empty()).then(Origin::default);
        Ok(Directory { build, loader, kustomization, file, origin })
    }

    pub(crate) fn gather(&mut self) -> Built<Gathered> {
        self.gather_into(Gathered::default())
    }

    /// A component adds to what the kustomization that names it has gathered.
    fn gather_into(&mut self, mut gathered: Gathered) -> Built<Gathered> {
        let resources = std::mem::take(&mut self.kustomization.resources);
        self.add_resources(&resources, &mut gathered)
            .map_err(|error| error.doing("accumulating resources"))?;
        let mut tables = Tables::built_in();
        tables.merge(crds::configurations(&self.loader, &self.kustomization.configurations)?)?;
        gathered.tables.merge(tables)?;
        let files = &self.kustomization.crds;
        let defined = crds::definitions(&self.loader, files)
            .map_err(|error| error.doing(format!("loading CRDs [{}]", files.join(" "))))?;
        gathered.tables.merge(defined)?;
        self.generate(&mut gathered)?;
        for path in std::mem::take(&mut self.kustomization.components) {
            gathered = self
                .add_component(&path, gathered)
                .map_err(|error| error.doing("accumulating components"))?;
        }
        let steps = self.steps(&gathered.tables)?;
        transform::run(&steps, &mut gathered.resources)?;
        self.validate(&mut gathered.resources)?;
        vars::declare(&mut gathered.vars, &self.kustomization.vars, &mut gathered.resources)
            .map_err(|error| error.doing("merging vars"))?;
        Ok(gathered)
    }

    fn add_resources(&self, paths: &[String], gathered: &mut Gathered) -> Built<()> {
        for path in paths {
            let Err(no_file) = self.add_file(path, gathered) else { continue };
            if loader::is_url(path) {
                return Err(no_file);
            }
            let doing = |error: BuildError, no_file: &BuildError| {
                error.doing(format!("accumulation err='{no_file}'"))
            };
            let loader = match self.loader.below(path) {
                Ok(loader) => loader,
                Err(_) if no_file.is_malformed() => return Err(no_file),
                Err(error) => return Err(doing(error, &no_file)),
            };
            let sub = self.gather_directory(path, loader, None).map_err(|error| doing(error, &no_file))?;
            gathered
                .add(sub)
                .map_err(|error| error.doing(format!("recursed merging from path '{}'", self.root_of(path))))
                .map_err(|error| doing(error, &no_file))?;
        }
        Ok(())
    }

    fn root_of(&self, path: &str) -> String {
        self.loader.below(path).map_or_else(|_| path.to_string(), |loader| loader.root().to_string())
    }

    fn add_file(&self, path: &str, gathered: &mut Gathered) -> Built<()> {
        let read = || {
            let text = self.loader.load_text(path)?;
            let list = objects::read(&text).map_err(|error| error.in_file(path))?;
            let mut resources = Resources::default();
            resources.extend(list)?;
            Ok(resources)
        };
        let mut resources: Resources = read()
            .map_err(|error: BuildError| error.doing(format!("accumulating resources from '{path}'")))?;
        if let Some(origin) = &self.origin {
            resources.0.iter_mut().for_each(|one| one.origin = Some(origin.joined(path)));
        }
        gathered
            .resources
            .extend(resources.0)
            .map_err(|error| error.doing(format!("merging resources from '{path}'")))
    }

    /// What a directory that this one names comes to; with `into` the directory is a component.
    fn gather_directory(&self, path: &str, loader: Rc<Loader>, into: Option<Gathered>) -> Built<Gathered> {
        let root = loader.root().to_string();
        let mut sub = Directory::open(self.build, loader)
            .map_err(|error| error.doing(format!("couldn't make target for path '{root}'")))?;
        sub.kustomization.build_metadata.clone_from(&self.kustomization.build_metadata);
        sub.origin = self.origin.as_ref().map(|origin| origin.joined(path));
        let is_component = sub.kustomization.kind == COMPONENT;
        if into.is_some() && !is_component {
            return Err(BuildError::told(format!(
                "expected kind '{COMPONENT}' for path '{root}' but got '{}'",
                sub.kustomization.kind
            )));
        }
        if into.is_none() && is_component {
            return Err(BuildError::told(format!("expected kind != '{COMPONENT}' for path '{root}'")));
        }
        sub.gather_into(into.unwrap_or_default())
            .map_err(|error| error.doing(format!("recursed accumulation of path '{root}'")))
    }

    fn add_component(&self, path: &str, gathered: Gathered) -> Built<Gathered> {
        let loader = self.loader.below(path).map_err(|error| {
            let text = error.to_string();
            BuildError::told(format!("loader.New {text:?}"))
        })?;
        self.gather_directory(path, loader, Some(gathered)).map_err(|error| {
            let text = error.to_string();
            BuildError::told(format!("accumulateDirectory: {text:?}"))
        })
    }

    fn by(&self, kind: &str) -> Option<Origin> {
        self.origin.as_ref().map(|origin| origin.built_in(self.file, kind))
    }

    fn generate(&self, gathered: &mut Gathered) -> Built<()> {
        let kinds = [
            (Made::ConfigMap, "ConfigMapGenerator", &self.kustomization.config_maps),
            (Made::Secret, "SecretGenerator", &self.kustomization.secrets),
        ];
        if let Some(chart) = self.kustomization.helm_charts.first() {
            return Err(self.no_helm(chart));
        }
        let external = self.plugins(&self.kustomization.generators, "configuring external generator");
        let external = external.map_err(|error| error.doing("loading generator plugins"))?;
        for (made, kind, list) in kinds {
            for args in list {
                let mut args = args.clone();
                let global = self.kustomization.generator_options.as_ref();
                args.options = GeneratorOptions::with_global(args.options, global);
                let mut resource = generate(made, &args, &self.loader)?;
                resource.origin = self.by(kind);
                absorb(resource, gathered)?;
            }
        }
        for plugin in external {
            let mut resource = plugins::generated(&plugin, &self.loader)?;
            resource.origin = plugin_origin(&plugin);
            absorb(resource, gathered)?;
        }
        Ok(())
    }

    fn no_helm(&self, chart: &Value) -> BuildError {
        if self.build.enable_helm {
            return BuildError::told(
                "helm charts are not inflated by this kubectl: run \"helm template\" and name its output in resources",
            );
        }
        BuildError::told("must specify --enable-helm").doing(format!(
            "trouble configuring builtin HelmChartInflationGenerator with config: `\n{}`",
            crate::output::yaml::to_yaml(chart)
        ))
    }

    /// Configurations of generators or transformers: written out, in files, or in directories.
    fn plugins(&self, entries: &[String], doing: &str) -> Built<Vec<Resource>> {
        let mut gathered = Gathered::default();
        let mut paths = Vec::new();
        for entry in entries {
            let Ok(mut inline) = objects::read(entry) else {
                paths.push(entry.clone());
                continue;
            };
            if let Some(origin) = &self.origin {
                inline.iter_mut().for_each(|one| one.origin = Some(origin.joined(self.file)));
            }
            gathered.resources.extend(inline).map_err(|error| error.doing(doing))?;
        }
        self.add_resources(&paths, &mut gathered)?;
        Ok(gathered.resources.0)
    }

    fn external_steps(&self, entries: &[String]) -> Built<Vec<Step>> {
        let plugins = self.plugins(entries, "configuring external transformer")?;
        let step = |plugin: &Resource| {
            let transformer = plugins::transformer(plugin, &self.loader)?;
            Ok(Step { transformer, origin: plugin_origin(plugin) })
        };
        plugins.iter().map(step).collect()
    }

    fn validate(&self, resources: &mut Resources) -> Built<()> {
        for step in self.external_steps(&self.kustomization.validators)? {
            let before: Vec<_> = resources.0.iter().map(|one| one.node.clone()).collect();
            step.transformer.run(resources)?;
            let is_same = resources.0.len() == before.len()
                && resources.0.iter().zip(&before).all(|(one, before)| one.node == *before);
            if !is_same {
                return Err(BuildError::told("validator shouldn't modify the resource map"));
            }
        }
        Ok(())
    }

    /// The changes that the kustomization asks for, in upstream's order.
    fn steps(&self, tables: &Tables) -> Built<Vec<Step>> {
        let wanted = &self.kustomization;
        let mut steps = Vec::new();
        let mut push = |kind: &str, transformer: Transformer| {
            steps.push(Step { transformer, origin: self.by(kind) });
        };
        if !wanted.patches_strategic_merge.is_empty() {
            let kind = "PatchStrategicMergeTransformer";
            let patches =
                strategic_merges(&wanted.patches_strategic_merge, &self.loader).map_err(|error| {
                    let config = serde_json::json!({ "paths": wanted.patches_strategic_merge });
                    trouble(error, kind, &config)
                })?;
            push(kind, Transformer::StrategicMerge(patches));
        }
        for patch in &wanted.patches {
            let change = PatchChange::new(patch, &self.loader)
                .map_err(|error| trouble(error, "PatchTransformer", &patch.written))?;
            push("PatchTransformer", Transformer::Patch(change));
        }
        if !wanted.namespace.is_empty() {
            push(
                "NamespaceTransformer",
                Transformer::Namespace {
                    namespace: wanted.namespace.clone(),
                    specs: tables.namespace.clone(),
                    unset_only: false,
                    subjects: Subjects::Default,
                },
            );
        }
        let affixes = [
            ("PrefixTransformer", Affix::Prefix, &wanted.name_prefix, &tables.name_prefix),
            ("SuffixTransformer", Affix::Suffix, &wanted.name_suffix, &tables.name_suffix),
        ];
        for (kind, affix, text, specs) in affixes {
            if !text.is_empty() {
                push(kind, Transformer::Affix { affix, text: text.clone(), specs: specs.clone() });
            }
        }
        for labels in self.labels(tables)? {
            push("LabelTransformer", labels);
        }
        if !wanted.common_annotations.is_empty() {
            push(
                "AnnotationsTransformer",
                Transformer::Annotations {
                    pairs: wanted.common_annotations.clone(),
                    specs: tables.common_annotations.clone(),
                },
            );
        }
        for patch in &wanted.patches_json {
            let kind = "PatchJson6902Transformer";
            let change = JsonPatch::new(patch, &self.loader)
                .map_err(|error| trouble(error, kind, &json6902_config(&patch.written)))?;
            push(kind, Transformer::Json6902(change));
        }
        for replica in &wanted.replicas {
            let specs = tables.replicas.clone();
            push("ReplicaCountTransformer", Transformer::Replicas { replica: replica.clone(), specs });
        }
        for image in &wanted.images {
            let specs = tables.images.clone();
            push("ImageTagTransformer", Transformer::Images { image: image.clone(), specs });
        }
        if !wanted.replacements.is_empty() {
            let list = replacements::of_fields(&wanted.replacements, &self.loader)?;
            push("ReplacementTransformer", Transformer::Replacements(list));
        }
        steps.extend(self.external_steps(&wanted.transformers)?);
        Ok(steps)
    }

    /// `labels`, and then `commonLabels`, which are there even if they are empty.
    fn labels(&self, tables: &Tables) -> Built<Vec<Transformer>> {
        let wanted = &self.kustomization;
        if wanted.labels.is_empty() && wanted.common_labels.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |error: BuildError| error.doing("failed to merge labels");
        let mut result = Vec::new();
        for label in &wanted.labels {
            let mut specs = label.fields.clone();
            merge_all(&mut specs, tables.labels.clone()).map_err(failed)?;
            if label.include_selectors {
                merge_all(&mut specs, tables.common_labels.clone()).map_err(failed)?;
            } else {
                if label.include_templates {
                    merge_all(&mut specs, tables.template_labels.clone())
                        .map_err(|error| error.doing("failed to merge template fieldSpec"))?;
                }
                let own =
                    FieldSpec { path: "metadata/labels".to_string(), create: true, ..FieldSpec::default() };
                merge_all(&mut specs, vec![own]).map_err(failed)?;
            }
            result.push(Transformer::Labels { pairs: label.pairs.clone(), specs });
        }
        let specs = tables.common_labels.clone();
        result.push(Transformer::Labels { pairs: wanted.common_labels.clone(), specs });
        Ok(result)
    }
}

fn absorb(resource: Resource, gathered: &mut Gathered) -> Built<()> {
    gathered.resources.absorb(resource).map_err(|error| error.doing("merging from generator"))
}

fn trouble(error: BuildError, kind: &str, config: &Value) -> BuildError {
    error.doing(format!(
        "trouble configuring builtin {kind} with config: `\n{}`",
        crate::output::yaml::to_yaml(config)
    ))
}

fn json6902_config(written: &Value) -> Value {
    let mut config = written.clone();
    if let Value::Object(map) = &mut config
        && let Some(patch) = map.remove("patch")
    {
        map.insert("jsonOp".to_string(), patch);
    }
    config
}

/// Other schemas than the one that is built in decide how lists are merged.
fn check_openapi(kustomization: &Kustomization) -> Built<()> {
    let openapi = &kustomization.openapi;
    if openapi.contains_key("path") {
        return Err(BuildError::told(
            "openapi.path is not offered by this kubectl: lists of other kinds are replaced, not merged, by strategic merge patches",
        ));
    }
    match openapi.get("version").map(String::as_str) {
        None | Some("" | "v1.21.2") => Ok(()),
        Some(_) => Err(BuildError::told("the specified OpenAPI version is not built in")),
    }
}

fn plugin_origin(plugin: &Resource) -> Option<Origin> {
    let origin = plugin.origin.as_ref()?;
    let id = plugin.id();
    Some(Origin {
        path: String::new(),
        configured_in: origin.path.clone(),
        configured_by: ConfiguredBy {
            api_version: id.gvk.api_version(),
            kind: id.gvk.kind,
            name: id.name,
            namespace: id.namespace,
        },
    })
}
