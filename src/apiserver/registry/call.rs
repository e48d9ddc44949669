//! One call on one resource: who asks for what, and the warnings gathered on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::identity::GROUP_MASTERS;
use api::{ApiError, DryRun, Identity, KindRow};
use client::leader::Fence;
use parking_lot::Mutex;
use serde_json::Value;

use super::errors::{not_allowed, unknown};
use super::request_options::RequestOptions;
use super::resource::Resource;
use super::scale_paths::ScalePaths;
use super::subresource::{Part, Subresource};
use crate::audit::Trail;
use crate::strategy::Strategy;

/// Warnings of one call that are kept: more never fit into an answer's headers.
const MAX_WARNINGS: usize = 1000;

/// One call on one resource.
pub(crate) struct Call<'a> {
    pub(crate) resource: Arc<Resource>,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) subresource: Option<&'a str>,
    pub(crate) user: &'a Identity,
    pub(crate) dry_run: DryRun,
    /// What the client calls itself, by which its fields are known if the request names no manager; none for
    /// components in the process, who are known by their identity.
    pub(crate) agent: Option<String>,
    /// Where the replicas are, if the object's Scale is written and with it nothing else.
    pub(super) scales: Option<&'a ScalePaths>,
    /// What the request's options are; none for what has no options.
    options: Mutex<Option<RequestOptions>>,
    /// It is a part of what has been admitted already, such as the deletion that an eviction comes to.
    pub(super) is_internal: bool,
    /// The term that its writes stand under, if it is a component's that leads.
    pub(crate) fence: Option<&'a Fence>,
    /// Texts for `Warning` headers, gathered on the way.
    pub(crate) warnings: Mutex<Vec<String>>,
    /// Whether an update has created its object.
    created: AtomicBool,
    /// What is told of it; none if nothing is.
    pub(crate) trail: Option<Arc<Trail>>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(resource: &Arc<Resource>, namespace: Option<&'a str>, user: &'a Identity) -> Self {
        Call {
            resource: resource.clone(),
            namespace: namespace.filter(|_| resource.row.namespaced()),
            subresource: None,
            user,
            dry_run: DryRun::No,
            agent: None,
            scales: None,
            options: Mutex::default(),
            is_internal: false,
            fence: None,
            warnings: Mutex::default(),
            created: AtomicBool::new(false),
            trail: None,
        }
    }

    pub(crate) fn sub(mut self, subresource: Option<&'a str>) -> Self {
        self.subresource = subresource;
        self
    }

    pub(crate) fn dry(mut self, dry_run: DryRun) -> Self {
        self.dry_run = dry_run;
        self
    }

    pub(crate) fn by_agent(mut self, agent: Option<String>) -> Self {
        self.agent = agent;
        self
    }

    pub(crate) fn told_by(mut self, trail: Option<Arc<Trail>>) -> Self {
        self.trail = trail;
        self
    }

    /// There was nothing to update, so the object was created.
    pub(super) fn note_created(&self) {
        self.created.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_created(&self) -> bool {
        self.created.load(Ordering::Relaxed)
    }

    /// Notes the options for webhooks to see. An update that creates its object has those of a creation.
    pub(super) fn note_options(&self, options: RequestOptions) {
        *self.options.lock() = Some(options);
    }

    /// The options in their JSON form; null if there are none.
    pub(super) fn options_json(&self) -> Value {
        self.options.lock().as_ref().map_or(Value::Null, |options| options.json(self.dry_run))
    }

    pub(super) fn internal(mut self) -> Self {
        self.is_internal = true;
        self
    }

    pub(crate) fn fenced(mut self, fence: Option<&'a Fence>) -> Self {
        self.fence = fence;
        self
    }

    /// Whether the caller's writes must come about for the cluster to go on, even past the store's quota:
    /// administrators, nodes and the components that lead.
    pub(super) fn keeps_cluster_going(&self) -> bool {
        self.fence.is_some() || self.user.in_group(GROUP_MASTERS) || self.user.node_name().is_some()
    }

    pub(crate) fn row(&self) -> &KindRow {
        &self.resource.row
    }

    pub(super) fn strategy(&self) -> &dyn Strategy {
        &*self.resource.strategy
    }

    pub(crate) fn warn(&self, texts: Vec<String>) {
        if !texts.is_empty() {
            let mut warnings = self.warnings.lock();
            let room = MAX_WARNINGS.saturating_sub(warnings.len());
            warnings.extend(texts.into_iter().take(room));
        }
    }

    pub(super) fn count_warnings(&self) -> usize {
        self.warnings.lock().len()
    }

    /// Forgets the warnings of an attempt that came to nothing.
    pub(super) fn keep_warnings(&self, count: usize) {
        self.warnings.lock().truncate(count);
    }

    pub(crate) fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.warnings.lock())
    }

    /// The storage key of an object; an error for kinds that are not stored.
    pub(super) fn key(&self, name: &str) -> Result<String, ApiError> {
        Ok(self.resource.cache()?.key(self.namespace, name))
    }
}

impl Call<'_> {
    /// What the call is about; none for the object itself.
    pub(crate) fn about(&self) -> Option<&Subresource> {
        self.subresource.and_then(|name| self.resource.subresource(name))
    }

    /// The part that the call writes, if it is one.
    pub(super) fn part(&self) -> Option<Part> {
        match self.about() {
            Some(Subresource::Part(part)) => Some(*part),
            _ => None,
        }
    }

    /// Refuses verbs that the resource or subresource does not have.
    pub(crate) fn check_verb(&self, verb: &str) -> Result<(), ApiError> {
        let row: &KindRow = self.row();
        let allowed = match self.subresource {
            None => row.allows(verb),
            Some(name) => {
                let known = row.subresource(name).ok_or_else(unknown)?;
                known.verbs.iter().any(|own| own == verb)
            }
        };
        if allowed { Ok(()) } else { Err(not_allowed()) }
    }
}
