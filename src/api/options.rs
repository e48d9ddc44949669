//! Parameters of API calls, and what a watch delivers. Shapes follow `meta/v1`'s options.
//!
//! Parsing them from a query string is the API server's, writing them into one is the HTTPS client's.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::{ApiError, FieldSelector, LabelSelector, Object};

/// `resourceVersionMatch` of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceVersionMatch {
    Exact,
    NotOlderThan,
}

#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    /// Most items to return; 0 means all.
    pub limit: usize,
    /// Opaque token of the previous page.
    pub continue_token: Option<String>,
    pub resource_version: Option<String>,
    pub resource_version_match: Option<ResourceVersionMatch>,
}

#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    /// Start after this version. `None` and `"0"` begin with synthetic `Added` events of the present state.
    pub resource_version: Option<String>,
    pub allow_bookmarks: bool,
    /// Send the present state first, then a bookmark annotated `k8s.io/initial-events-end`.
    pub send_initial_events: Option<bool>,
    /// The server ends the watch after this time.
    pub timeout: Option<Duration>,
}

/// One message of a watch.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    Added(Arc<Object>),
    Modified(Arc<Object>),
    /// The last state, with the resource version of the deletion.
    Deleted(Arc<Object>),
    /// Everything up to this version has been delivered; `initial_events_end` marks the end of the present
    /// state.
    Bookmark {
        resource_version: u64,
        initial_events_end: bool,
    },
    /// The watch ends here; `410 Gone` (reason `Expired`) means list again.
    Error(ApiError),
}

/// What to do with fields the schema does not know, or that occur twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// `dryRun=All`: everything but persistence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DryRun {
    #[default]
    No,
    All,
}

#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    pub dry_run: DryRun,
    pub field_manager: Option<String>,
    pub field_validation: FieldValidation,
}

#[derive(Clone, Debug, Default)]
pub struct UpdateOptions {
    pub dry_run: DryRun,
    pub field_manager: Option<String>,
    pub field_validation: FieldValidation,
    /// Server-side apply: take fields over from other managers.
    pub force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// `application/json-patch+json` (RFC 6902).
    Json,
    /// `application/merge-patch+json` (RFC 7386).
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
    /// `application/apply-patch+yaml` (server-side apply).
    Apply,
}

#[derive(Clone, Debug)]
pub struct Patch {
    pub kind: PatchKind,
    pub body: Value,
    /// For an apply: keys that the body has twice, as field validation names them.
    pub duplicates: Vec<String>,
}

impl Patch {
    pub fn new(kind: PatchKind, body: Value) -> Self {
        Patch { kind, body, duplicates: Vec::new() }
    }

    pub fn merge(body: Value) -> Self {
        Patch::new(PatchKind::Merge, body)
    }

    pub fn strategic(body: Value) -> Self {
        Patch::new(PatchKind::Strategic, body)
    }

    /// Server-side apply.
    pub fn apply(body: Value) -> Self {
        Patch::new(PatchKind::Apply, body)
    }

    pub fn json(body: Value) -> Self {
        Patch::new(PatchKind::Json, body)
    }
}

/// How dependents of a deleted object are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropagationPolicy {
    Orphan,
    Background,
    Foreground,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Seconds; `None` means the kind's (for a pod its own) default, 0 means at once.
    pub grace_period_seconds: Option<i64>,
    pub preconditions: Preconditions,
    pub propagation_policy: Option<PropagationPolicy>,
    pub dry_run: DryRun,
}
