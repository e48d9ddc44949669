//! What is special about a kind: defaults that depend on other fields, validation, what an update may change,
//! graceful deletion, selectable fields and table columns. Everything has the behaviour of a plain kind as
//! its default.
//!
//! A strategy works on the JSON tree; where typed checks are easier it decodes to the k8s-openapi type
//! itself. It never blocks: it sees other objects through the caches only.
//!
//! This file is the bottom of the crate (with `claims`): printers, admission, caches and the registry stand
//! on it, and it uses nothing of theirs. Built-in kinds have their strategies in `registry::strategies`; a
//! custom resource's is made at run time, so nothing here is `'static`.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use api::validation::Faults;
use api::{ApiError, DeleteOptions, Identity, KindRow, Object};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::audit::Trail;
use crate::claims::{Claims, Records};
use crate::schemas::SchemaMemo;

/// Text that is either compiled in or comes from a definition.
pub(crate) type Str = Cow<'static, str>;

/// Other objects, as strategies and admission see them: as they are in the watch cache, without waiting.
pub(crate) trait CachedObjects: Send + Sync {
    /// One object, as stored.
    fn get(&self, row: &KindRow, namespace: Option<&str>, name: &str) -> Option<Arc<Object>>;

    /// All objects of a kind, or of one namespace of it, in key order.
    fn list(&self, row: &KindRow, namespace: Option<&str>) -> Vec<Arc<Object>>;

    /// Objects whose indexed field has this value ([`Strategy::indexed_fields`]).
    fn indexed(&self, row: &KindRow, field: &str, value: &str) -> Vec<Arc<Object>>;
}

/// Reads what an object refers to.
#[derive(Clone, Copy)]
pub(crate) struct References {
    /// The part of the object that `of` is given.
    pub(crate) path: &'static str,
    pub(crate) of: fn(&Value) -> Vec<&str>,
}

/// Circumstances of one request.
pub(crate) struct RequestContext<'a> {
    pub row: &'a KindRow,
    pub namespace: Option<&'a str>,
    /// The subresource that is written, such as `status`; none for the object itself.
    pub subresource: Option<&'a str>,
    pub user: &'a Identity,
    pub now: Timestamp,
    pub caches: &'a dyn CachedObjects,
    pub(crate) schemas: &'a SchemaMemo,
    pub services: ServiceRanges<'a>,
    /// What is told of the request; none if nothing is.
    pub(crate) trail: Option<&'a Trail>,
}

/// What services get their addresses and ports from.
#[derive(Clone, Copy)]
pub(crate) struct ServiceRanges<'a> {
    /// The range that the cluster began with, as `ADDRESS/BITS`.
    pub cidr: &'a str,
    pub node_ports: &'a RangeInclusive<u16>,
}

/// A column of a server-side table, as `meta/v1`'s TableColumnDefinition.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub name: Str,
    /// OpenAPI type: `string`, `integer`, `number`, `boolean`, `date`.
    pub kind: Str,
    /// OpenAPI format; `name` marks the primary column.
    pub format: Str,
    pub description: Str,
    /// 0 is always shown; greater only with `-o wide`.
    pub priority: i32,
}

/// A cell: a JSON string, number or boolean.
pub(crate) type Cell = Value;

pub(crate) trait Strategy: Send + Sync {
    /// Defaults beyond the schema's static ones; runs on every decoded body (create, update, patched result)
    /// before admission, also before `prepare_*`.
    fn default(&self, _ctx: &RequestContext<'_>, _object: &mut Value) {}

    /// Sets what a client may not choose. The registry has already dropped `status` if the kind has a status
    /// subresource, and sets generation 1 (see [`Strategy::has_generation`]).
    fn prepare_for_create(&self, _ctx: &RequestContext<'_>, _object: &mut Value) -> Result<(), ApiError> {
        Ok(())
    }

    /// Whether a status update leaves labels, annotations, finalizers and owners as they were: upstream's
    /// `ResetObjectMetaForStatus`.
    fn status_keeps_metadata(&self) -> bool {
        false
    }

    /// Puts back what this kind of update may not change. The registry has already taken `status` from `old`
    /// for a main-resource update of a kind with that subresource, and all but the part and the metadata for
    /// an update of a part.
    fn prepare_for_update(
        &self,
        _ctx: &RequestContext<'_>,
        _new: &mut Value,
        _old: &Value,
    ) -> Result<(), ApiError> {
        Ok(())
    }

    /// Faults of a new object beyond its metadata, which the registry checks.
    fn validate_create(&self, _ctx: &RequestContext<'_>, _object: &Value) -> Faults {
        Faults::new()
    }

    /// Faults of an update; `ctx.subresource` tells which.
    fn validate_update(&self, _ctx: &RequestContext<'_>, _new: &Value, _old: &Value) -> Faults {
        Faults::new()
    }

    /// Texts for `Warning` headers about a write that is accepted.
    fn warnings(&self, _ctx: &RequestContext<'_>, _object: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// The `Warning` of every request on a version of a kind that is going away.
    fn deprecation(&self) -> Option<&str> {
        None
    }

    /// Whether writes of this kind, or of this subresource of it, claim anything beside the object
    /// ([`Strategy::claim`]). Deletions ask about the object itself.
    fn has_claims(&self, _subresource: Option<&str>) -> bool {
        false
    }

    /// Chooses what must be unique and is left to the server (cluster IPs, node ports), writes it into the
    /// object, and says what the write claims. Runs after admission and before validation, again whenever
    /// somebody else was faster. `old` is none on create. A dry run claims nothing,
    /// whatever is said here.
    fn claim(
        &self,
        _ctx: &RequestContext<'_>,
        _records: &dyn Records,
        _new: &mut Value,
        _old: Option<&Value>,
    ) -> Result<Claims, ApiError> {
        Ok(Claims::default())
    }

    /// What goes with an object that is taken out of the store.
    fn release(&self, _ctx: &RequestContext<'_>, _records: &dyn Records, _old: &Value) -> Claims {
        Claims::default()
    }

    /// Whether names follow DNS label, subdomain or other rules: faults of a name, empty if it is good. The
    /// `prefix` form (generateName) may end in `-`.
    fn name_faults(&self, name: &str, prefix: bool) -> Vec<String> {
        api::validation::name_is_dns_subdomain(name, prefix)
    }

    /// Whether metadata.generation counts changes of anything but metadata and status. Kinds without it have
    /// none.
    fn has_generation(&self) -> bool {
        false
    }

    /// Whether a change of the status counts too, as for kinds without a status subresource.
    fn generation_counts_status(&self) -> bool {
        false
    }

    /// Whether a new object may come with its status, as a node's does from its kubelet.
    fn keeps_status_on_create(&self) -> bool {
        false
    }

    /// Whether a PUT to a name that does not exist creates the object.
    fn allows_create_on_update(&self) -> bool {
        false
    }

    /// Whether an update without resourceVersion overwrites whatever is there (else it is an error).
    fn allows_unconditional_update(&self) -> bool {
        true
    }

    /// Seconds a deletion waits for the object's agent, such as a pod's kubelet, to let it go; `None` or 0:
    /// gone at once. `options.grace_period_seconds` is what the caller asks for.
    fn grace_period(
        &self,
        _ctx: &RequestContext<'_>,
        _object: &Value,
        _options: &DeleteOptions,
    ) -> Option<i64> {
        None
    }

    /// Whether what an object owns stays behind where nobody says what is to become of it: upstream's default
    /// policy of garbage collection for kinds that are older than it.
    fn orphans_by_default(&self) -> bool {
        false
    }

    /// Changes an object that is marked for deletion needs, beside deletionTimestamp (a namespace's phase).
    fn mark_deleted(&self, _ctx: &RequestContext<'_>, _object: &mut Value) {}

    /// Whether an object marked for deletion must stay although it has no finalizers in metadata (a namespace
    /// with `spec.finalizers`).
    fn holds_deletion(&self, _object: &Value) -> bool {
        false
    }

    /// Field selector paths beyond `metadata.name` and `metadata.namespace`. Asked for once, when the kind is
    /// registered.
    fn selectable_fields(&self) -> Vec<Str> {
        Vec::new()
    }

    /// Fields among [`Strategy::selectable_fields`] that the cache keeps an index of (`spec.nodeName`).
    fn indexed_fields(&self) -> Vec<Str> {
        Vec::new()
    }

    /// What an object refers to by name in its own namespace, if the cache is to keep an index of it
    /// (`Caches::referring`).
    fn indexed_references(&self) -> Option<References> {
        None
    }

    /// How long an object lives after its last write; none for ever.
    fn time_to_live(&self) -> Option<Duration> {
        None
    }

    /// Where in an object the value of a selectable field is, if not where the field says.
    fn field_source<'a>(&self, path: &'a str) -> &'a str {
        path
    }

    /// Value of a selectable field; absent fields are empty. The tree holds nothing but what lies on the
    /// paths of the selectable fields' sources.
    fn field_value<'a>(&self, object: &'a Value, path: &str) -> Cow<'a, str> {
        let found = self.field_source(path).split('.').try_fold(object, |at, step| at.get(step));
        match found {
            Some(Value::String(text)) => Cow::Borrowed(text),
            None | Some(Value::Null) => Cow::Borrowed(""),
            Some(other) => Cow::Owned(other.to_string()),
        }
    }

    /// Columns of the server-side table; the first is the name.
    fn columns(&self) -> &[Column] {
        DEFAULT_COLUMNS
    }

    /// One cell per column.
    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Cell> {
        let metadata = &object["metadata"];
        vec![json!(metadata["name"].as_str().unwrap_or("")), metadata["creationTimestamp"].clone()]
    }
}

/// Paths of selectable or indexed fields that are known at compile time.
pub(crate) fn fields(paths: &[&'static str]) -> Vec<Str> {
    paths.iter().copied().map(Cow::Borrowed).collect()
}

const DEFAULT_COLUMNS: &[Column] = &[
    Column {
        name: Cow::Borrowed("Name"),
        kind: Cow::Borrowed("string"),
        format: Cow::Borrowed("name"),
        description: Cow::Borrowed("Name must be unique within a namespace."),
        priority: 0,
    },
    Column {
        name: Cow::Borrowed("Created At"),
        kind: Cow::Borrowed("date"),
        format: Cow::Borrowed(""),
        description: Cow::Borrowed("Time at which the server stored the object."),
        priority: 0,
    },
];
