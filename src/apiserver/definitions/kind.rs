//! What a definition defines: rows, schema, strategy and conversion of its kind, one resource per version
//! served.
//!
//! A custom resource takes the same way through the registry as a built-in kind; only these parts differ.
//! Absent: pruning of objects that were stored under an earlier schema, until they are written again.

use std::borrow::Cow;
use std::sync::Arc;

use api::json::{items, text};
use api::jsonpath::{JsonPath, text_of};
use api::schema::structural::{CustomSchema, Structural};
use api::{ApiError, KindRow, Scope};
use cel::Library;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::rules::RuleTree;
use crate::cache::{Entry, KindCache};
use crate::outbound::Outbound;
use crate::printers::since;
use crate::registry::{Backing, Conversion, FieldPath, Part, Resource, ScalePaths, Subresource};
use crate::schemas::Schemas;
use crate::strategy::{Cell, Column, RequestContext, Str, Strategy};

const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const PART_VERBS: [&str; 3] = ["get", "patch", "update"];

/// Gives the cache of a kind.
pub(super) type CacheOf<'a> = &'a dyn Fn(&KindRow, Arc<dyn Strategy>) -> Result<Arc<KindCache>, ApiError>;

/// The resources of a definition whose names have been accepted.
pub(super) fn resources(
    definition: &Value,
    schemas: &Arc<Schemas>,
    outbound: &Arc<Outbound>,
    cache_of: CacheOf<'_>,
) -> Result<Vec<Resource>, ApiError> {
    let versions = items(definition, "spec.versions");
    let storage = versions.iter().find(|version| version["storage"] == true);
    let Some(storage) = storage.map(|version| text(version, "name")) else {
        return Err(ApiError::internal("the definition has no storage version"));
    };
    let conversion = (versions.len() > 1).then(|| super::conversion::of(definition, schemas, outbound));
    let served = versions.iter().filter(|version| version["served"] == true);
    let library = Library::default();
    let all = served.map(|version| {
        let schema = schemas.of(text(version, "name"));
        let schema =
            schema.ok_or_else(|| ApiError::internal("a version without a schema that can be read"))?;
        resource(definition, (version, &library), schema, (storage, conversion.clone()), cache_of)
    });
    all.collect()
}

fn resource(
    definition: &Value,
    (version, library): (&Value, &Library),
    root: Arc<Structural>,
    (storage, conversion): (&str, Option<Arc<dyn Conversion>>),
    cache_of: CacheOf<'_>,
) -> Result<Resource, ApiError> {
    let row = row(definition, version, storage);
    let schema = &version["schema"]["openAPIV3Schema"];
    let scale = &version["subresources"]["scale"];
    let path = |name: &str| FieldPath::parse(text(scale, name));
    let mut subresources = Vec::new();
    if version["subresources"]["status"].is_object() {
        subresources.push((Cow::Borrowed("status"), Subresource::Part(Part::Status)));
    }
    if scale.is_object() {
        let paths = ScalePaths {
            spec_replicas: path("specReplicasPath"),
            status_replicas: path("statusReplicasPath"),
            selector: Some(path("labelSelectorPath")).filter(|path| !path.is_empty()),
        };
        subresources.push((Cow::Borrowed("scale"), Subresource::Scale(paths)));
    }
    let strategy: Arc<dyn Strategy> = Arc::new(CustomResources::new(definition, version));
    let cache = cache_of(&row, strategy.clone())?;
    let completes = lacks_defaults(&root, &cache);
    let fields = items(version, "selectableFields").iter();
    let fields = fields.map(|field| text(field, "jsonPath").trim_start_matches('.').to_string());
    Ok(Resource {
        backing: Backing::Stored(cache),
        strategy,
        schema: Arc::new(CustomSchema::new(&row.version, &row.kind, root)),
        conversion,
        completes,
        rules: RuleTree::of(schema, library),
        fields: fields.collect(),
        version: row.api_version(),
        stored_version: format!("{}/{storage}", row.group),
        subresources,
        openapi: Some(schema.to_string().into()),
        row: Arc::new(row),
    })
}

/// Whether objects that are there lack what the schema has as a default: they were stored under an earlier
/// one, and are completed when they are read. What is written from now on has it. Where there are very many
/// objects nobody looks, and each is completed when it is read.
fn lacks_defaults(root: &Structural, cache: &KindCache) -> bool {
    const MOST: usize = 20_000;
    if !root.has_defaults() || cache.len() == 0 {
        return false;
    }
    let lacks = |entry: &Arc<Entry>| {
        entry.object.tree_without_managed_fields().is_ok_and(|tree| root.lacks_defaults(&tree))
    };
    cache.len() > MOST || cache.list(&cache.prefix(None)).iter().any(lacks)
}

fn owned(text: &str) -> Str {
    Cow::Owned(text.to_string())
}

fn row(definition: &Value, version: &Value, storage: &str) -> KindRow {
    let names = &definition["status"]["acceptedNames"];
    let group = text(definition, "spec.group");
    let list =
        |name: &str| -> Vec<Str> { items(names, name).iter().filter_map(Value::as_str).map(owned).collect() };
    let verbs = |verbs: &[&'static str]| verbs.iter().copied().map(Cow::Borrowed).collect::<Vec<Str>>();
    let (kind, plural) = (text(names, "kind"), text(names, "plural"));
    let mut subresources = Vec::new();
    let mut part = |name: &str, group: &str, version: &str, kind: &str| {
        subresources.push(api::Subresource {
            name: owned(name),
            group: owned(group),
            version: owned(version),
            kind: owned(kind),
            verbs: Cow::Owned(verbs(&PART_VERBS)),
        });
    };
    if version["subresources"]["status"].is_object() {
        part("status", "", "", kind);
    }
    if version["subresources"]["scale"].is_object() {
        part("scale", "autoscaling", "v1", "Scale");
    }
    let own = text(version, "name");
    KindRow {
        group: owned(group),
        version: owned(own),
        kind: owned(kind),
        plural: owned(plural),
        singular: owned(text(names, "singular")),
        scope: if text(definition, "spec.scope") == "Cluster" { Scope::Cluster } else { Scope::Namespaced },
        short_names: Cow::Owned(list("shortNames")),
        categories: Cow::Owned(list("categories")),
        verbs: Cow::Owned(verbs(&VERBS)),
        subresources: Cow::Owned(subresources),
        storage: Some(Cow::Owned(format!("{group}/{plural}"))),
        stored_as: (own != storage).then(|| Cow::Owned(format!("{group}/{storage}"))),
    }
}

/// What is special about a kind from a definition.
struct CustomResources {
    columns: Vec<Column>,
    /// One per column after the name; none where the expression cannot be read.
    cells: Vec<Option<JsonPath>>,
    status: bool,
    /// The definition is being deleted: nothing new is taken.
    terminating: bool,
    deprecation: Option<String>,
}

impl CustomResources {
    fn new(definition: &Value, version: &Value) -> Self {
        let age = [json!({ "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" })];
        let given = items(version, "additionalPrinterColumns");
        // Columns of one's own replace the age; only the name is always there.
        let given = if given.is_empty() { &age[..] } else { given };
        let mut columns = vec![crate::printers::NAME];
        columns.extend(given.iter().map(column));
        let parsed = |column: &Value| JsonPath::parse(&format!("{{{}}}", text(column, "jsonPath"))).ok();
        let deprecation = (version["deprecated"] == true).then(|| {
            let (group, name) = (text(definition, "spec.group"), text(version, "name"));
            let kind = text(definition, "spec.names.kind");
            match text(version, "deprecationWarning") {
                "" => format!("{group}/{name} {kind} is deprecated"),
                given => given.to_string(),
            }
        });
        CustomResources {
            columns,
            cells: given.iter().map(parsed).collect(),
            status: version["subresources"]["status"].is_object(),
            terminating: !text(definition, "metadata.deletionTimestamp").is_empty(),
            deprecation,
        }
    }
}

fn column(given: &Value) -> Column {
    let description = match text(given, "description") {
        "" => format!("Custom resource definition column (in JSONPath format): {}", text(given, "jsonPath")),
        given => given.to_string(),
    };
    Column {
        name: owned(text(given, "name")),
        kind: owned(text(given, "type")),
        format: owned(text(given, "format")),
        description: Cow::Owned(description),
        priority: given["priority"].as_i64().and_then(|number| i32::try_from(number).ok()).unwrap_or(0),
    }
}

impl Strategy for CustomResources {
    fn prepare_for_create(&self, ctx: &RequestContext<'_>, _tree: &mut Value) -> Result<(), ApiError> {
        if self.terminating {
            return Err(ApiError::method_not_supported(ctx.row, "create"));
        }
        Ok(())
    }

    fn prepare_for_update(
        &self,
        ctx: &RequestContext<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        if ctx.subresource == Some("status") {
            // The status subresource changes no metadata, as upstream has it for custom resources.
            let version = new["metadata"]["resourceVersion"].take();
            new["metadata"] = old["metadata"].clone();
            new["metadata"]["resourceVersion"] = version;
        }
        Ok(())
    }

    fn deprecation(&self) -> Option<&str> {
        self.deprecation.as_deref()
    }

    fn has_generation(&self) -> bool {
        true
    }

    /// Without the subresource the status is a field as any other.
    fn generation_counts_status(&self) -> bool {
        !self.status
    }

    /// Upstream demands a version in an update of a custom resource.
    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        let mut cells = vec![crate::printers::name(tree)];
        let others = self.cells.iter().zip(&self.columns[1..]);
        cells.extend(others.map(|(path, column)| cell(path.as_ref(), &column.kind, tree, now)));
        cells
    }
}

/// Values that the path of one cell may look at: many more than a path that names a place needs.
const CELL_VALUES: u64 = 10_000;

fn cell(path: Option<&JsonPath>, kind: &str, tree: &Value, now: Timestamp) -> Cell {
    let found = path.and_then(|path| path.first(tree, CELL_VALUES).ok()).flatten();
    let Some(value) = found else { return Value::Null };
    match (kind, &value) {
        (_, Value::Null) => Value::Null,
        ("string", value) => json!(text_of(value)),
        ("date", Value::String(time)) => json!(since(time, now)),
        ("integer", Value::Number(number)) => match number.as_i64() {
            Some(number) => json!(number),
            None => json!(number.as_f64().map(|number| number as i64)),
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value,
        _ => Value::Null,
    }
}
