//! One pass over a deployment: the I/O of what `sets`, `scale` and `status` compute.

use std::sync::Arc;

use api::{ApiError, DeleteOptions, Preconditions};
use client::Api;
use client::events::{EventType, reference_to};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::jiff::Timestamp;

use super::scale::{self, replicas};
use super::status::{self, PROGRESSING};
use super::{Controller, sets};
use crate::context::{ReconcileResult, text, unless_gone};

pub(super) struct Rollout<'a> {
    controller: &'a Controller,
    deployment: Deployment,
    new: Option<Arc<ReplicaSet>>,
    /// Oldest first.
    old: Vec<Arc<ReplicaSet>>,
    deployments: Api<Deployment>,
    replica_sets: Api<ReplicaSet>,
}

impl<'a> Rollout<'a> {
    pub(super) fn new(
        controller: &'a Controller,
        deployment: Deployment,
        owned: Vec<Arc<ReplicaSet>>,
    ) -> Self {
        let (new, old) = sets::split(&deployment, &owned);
        let namespace = text(&deployment.metadata.namespace).to_string();
        Rollout {
            controller,
            deployment,
            new,
            old,
            deployments: Api::namespaced(controller.api.clone(), &namespace),
            replica_sets: Api::namespaced(controller.api.clone(), &namespace),
        }
    }

    fn all(&self) -> Vec<Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new).cloned().collect()
    }

    pub(super) fn was_scaled(&self) -> bool {
        scale::was_scaled(&self.deployment, &self.all())
    }

    pub(super) async fn only_status(mut self) -> ReconcileResult {
        self.sync_new_set(false).await?;
        self.write_plain_status().await?;
        Ok(None)
    }

    /// Notes in the Progressing condition that the deployment was paused or resumed, so that its deadline
    /// stands still.
    pub(super) async fn tell_paused(&mut self, paused: bool) -> Result<(), ApiError> {
        if status::deadline(&self.deployment).is_none() {
            return Ok(());
        }
        let mut told = self.deployment.status.clone().unwrap_or_default();
        let reason = status::find(&told, PROGRESSING).and_then(|condition| condition.reason.clone());
        let is_told = reason.as_deref() == Some(status::PAUSED);
        if reason.as_deref() == Some(status::TIMED_OUT) || is_told == paused {
            return Ok(());
        }
        let (reason, message) = if paused {
            (status::PAUSED, "Deployment is paused")
        } else {
            (status::RESUMED, "Deployment is resumed")
        };
        let condition =
            status::condition(PROGRESSING, "Unknown", reason, message.to_string(), Timestamp::now());
        status::set(&mut told, condition);
        self.write_status(told).await
    }

    /// The deployment was scaled or is paused: sizes only, no new template.
    pub(super) async fn scale_and_status(mut self, paused: bool) -> ReconcileResult {
        self.sync_new_set(false).await?;
        let (resizes, annotate) = scale::rescale(&self.deployment, self.new.as_ref(), &self.old);
        for (set, size) in resizes {
            self.resize(&set, size, annotate).await?;
        }
        if paused {
            self.clean_up().await?;
        }
        self.write_plain_status().await?;
        Ok(None)
    }

    pub(super) async fn roll(mut self) -> ReconcileResult {
        self.sync_new_set(true).await?;
        let all = self.all();
        if let Some(new) = self.new.clone() {
            let size = scale::resize_new(&self.deployment, &new, &all);
            if size != replicas(&new) {
                self.resize(&new, size, false).await?;
                return self.write_rollout_status().await;
            }
        }
        let resizes = scale::resize_old(&self.deployment, self.new.as_ref(), &self.old);
        if !resizes.is_empty() {
            for (set, size) in resizes {
                self.resize(&set, size, false).await?;
            }
            return self.write_rollout_status().await;
        }
        self.finish().await
    }

    pub(super) async fn recreate(mut self) -> ReconcileResult {
        self.sync_new_set(false).await?;
        let active = scale::active(&self.old);
        if !active.is_empty() {
            for set in active {
                self.resize(&set, 0, false).await?;
            }
            return self.write_rollout_status().await;
        }
        if self.old_pods_run() {
            return self.write_rollout_status().await;
        }
        if self.new.is_none() {
            self.sync_new_set(true).await?;
        }
        if let Some(new) = self.new.clone() {
            self.resize(&new, scale::wanted(&self.deployment), false).await?;
        }
        self.finish().await
    }

    fn old_pods_run(&self) -> bool {
        let pods = self.old.iter().flat_map(|set| self.controller.pods_by_owner.by(text(&set.metadata.uid)));
        let mut running = pods.filter(|pod| !api::pod::is_terminal(pod));
        running.next().is_some()
    }

    async fn finish(mut self) -> ReconcileResult {
        let status = self.deployment.status.clone().unwrap_or_default();
        if status::is_complete(&self.deployment, &status) {
            self.clean_up().await?;
        }
        self.write_rollout_status().await
    }

    /// Finds or makes the new set and brings revisions up to date.
    async fn sync_new_set(&mut self, create: bool) -> Result<(), ApiError> {
        let revision = sets::next_revision(&self.old);
        match self.new.clone() {
            Some(new) => self.sync_existing(new, revision).await,
            None if create => self.create_new_set(revision).await,
            None => Ok(()),
        }
    }

    async fn sync_existing(&mut self, new: Arc<ReplicaSet>, revision: i64) -> Result<(), ApiError> {
        let mut updated = (*new).clone();
        let mut changed = sets::annotate_new(&mut updated, &self.deployment, revision, None);
        let min_ready = self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        if let Some(spec) = &mut updated.spec {
            changed |= spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0);
            spec.min_ready_seconds = min_ready;
        }
        if changed {
            self.new = Some(self.replica_sets.update(&updated).await?);
        }
        let revision = sets::annotation(&updated.metadata, sets::REVISION).unwrap_or("").to_string();
        let mut told = self.deployment.status.clone().unwrap_or_default();
        if status::deadline(&self.deployment).is_some() && status::find(&told, PROGRESSING).is_none() {
            let message = format!("Found new replica set {:?}", text(&new.metadata.name));
            let now = Timestamp::now();
            status::set(
                &mut told,
                status::condition(PROGRESSING, "True", status::FOUND_NEW_SET, message, now),
            );
        }
        self.write_revision_and_status(&revision, told).await
    }

    async fn create_new_set(&mut self, revision: i64) -> Result<(), ApiError> {
        let Some(mut set) = sets::new_set(&self.deployment) else { return Ok(()) };
        let size = scale::new_set_size(&self.deployment, &self.old, 0);
        if let Some(spec) = &mut set.spec {
            spec.replicas = Some(size);
        }
        sets::annotate_new(&mut set, &self.deployment, revision, Some(scale::sizes(&self.deployment)));
        let name = text(&set.metadata.name).to_string();
        let mut existed = false;
        let created = match self.replica_sets.create(&set).await {
            Ok(created) => created,
            Err(error) if error.is_already_exists() => {
                existed = true;
                self.settle_collision(&name, error).await?
            }
            Err(error) if error.is_namespace_terminating() => return Err(error),
            Err(error) => return self.tell_create_error(&name, error).await,
        };
        if !existed && size > 0 {
            self.tell_scaled(&name, 0, size);
        }
        self.new = Some(created);
        let mut told = self.deployment.status.clone().unwrap_or_default();
        if !existed && status::deadline(&self.deployment).is_some() {
            let message = format!("Created new replica set {name:?}");
            let now = Timestamp::now();
            status::set(
                &mut told,
                status::condition(PROGRESSING, "True", status::NEW_SET_CREATED, message, now),
            );
        }
        self.write_revision_and_status(&revision.to_string(), told).await
    }

    /// A set of this name exists: ours (made by a pass whose outcome we have not seen), or a collision of
    /// hashes, after which the next pass tries another name.
    async fn settle_collision(&mut self, name: &str, error: ApiError) -> Result<Arc<ReplicaSet>, ApiError> {
        let existing = self.replica_sets.get(name).await?;
        let template = existing.spec.as_ref().and_then(|spec| spec.template.as_ref());
        let own = self.deployment.spec.as_ref().map(|spec| &spec.template);
        let same =
            matches!((template, own), (Some(template), Some(own)) if sets::same_template(template, own));
        let uid = text(&self.deployment.metadata.uid);
        if same && api::owner::is_controlled_by(&existing.metadata, uid) {
            return Ok(existing);
        }
        let mut told = self.deployment.status.clone().unwrap_or_default();
        told.collision_count = Some(told.collision_count.unwrap_or(0).saturating_add(1));
        self.write_status(told).await?;
        Err(error)
    }

    async fn tell_create_error(&mut self, name: &str, error: ApiError) -> Result<(), ApiError> {
        let message = format!("Failed to create new replica set {name:?}: {error}");
        let reference = reference_to(&self.deployment);
        self.controller.recorder.event(
            &reference,
            EventType::Warning,
            status::SET_CREATE_ERROR,
            message.clone(),
        );
        if status::deadline(&self.deployment).is_some() {
            let mut told = self.deployment.status.clone().unwrap_or_default();
            let now = Timestamp::now();
            status::set(
                &mut told,
                status::condition(PROGRESSING, "False", status::SET_CREATE_ERROR, message, now),
            );
            self.write_status(told).await?;
        }
        Err(error)
    }

    /// Gives a set its size and the annotations that go with it.
    async fn resize(&mut self, set: &Arc<ReplicaSet>, size: i32, annotate: bool) -> Result<(), ApiError> {
        let before = replicas(set);
        if before == size && !annotate {
            return Ok(());
        }
        let mut updated = (**set).clone();
        let (desired, max) = scale::sizes(&self.deployment);
        let annotated =
            sets::annotate_sizes(updated.metadata.annotations.get_or_insert_default(), desired, max);
        if before == size && !annotated {
            return Ok(());
        }
        if let Some(spec) = &mut updated.spec {
            spec.replicas = Some(size);
        }
        let updated = self.replica_sets.update(&updated).await?;
        if before != size {
            self.tell_scaled(text(&set.metadata.name), before, size);
        }
        for own in self.old.iter_mut().chain(&mut self.new) {
            if own.metadata.uid == updated.metadata.uid {
                *own = updated.clone();
            }
        }
        Ok(())
    }

    fn tell_scaled(&self, set: &str, before: i32, after: i32) {
        let direction = if after > before { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {set} from {before} to {after}");
        let reference = reference_to(&self.deployment);
        self.controller.recorder.event(&reference, EventType::Normal, "ScalingReplicaSet", message);
    }

    /// Deletes old sets beyond the history limit.
    async fn clean_up(&mut self) -> Result<(), ApiError> {
        let limit = self.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit);
        let Some(limit) =
            limit.filter(|limit| *limit != i32::MAX).and_then(|limit| usize::try_from(limit).ok())
        else {
            return Ok(());
        };
        for set in sets::superfluous(&self.old, limit) {
            let preconditions = Preconditions { uid: set.metadata.uid.clone(), ..Preconditions::default() };
            let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
            unless_gone(self.replica_sets.delete(text(&set.metadata.name), &options).await)?;
        }
        Ok(())
    }

    async fn write_plain_status(&mut self) -> Result<(), ApiError> {
        let told = status::calculate(&self.deployment, self.new.as_ref(), &self.all(), Timestamp::now());
        self.write_status(told).await
    }

    async fn write_rollout_status(mut self) -> ReconcileResult {
        let now = Timestamp::now();
        let told = status::rollout(&self.deployment, self.new.as_ref(), &self.all(), now);
        let again = status::look_again(&self.deployment, &told, now);
        self.write_status(told).await?;
        Ok(again)
    }

    async fn write_status(&mut self, told: DeploymentStatus) -> Result<(), ApiError> {
        if self.deployment.status.as_ref() == Some(&told) {
            return Ok(());
        }
        self.deployment.status = Some(told);
        self.deployment = (*self.deployments.update_status(&self.deployment).await?).clone();
        Ok(())
    }

    /// The revision is an annotation of the deployment; the status subresource takes annotations along, as
    /// upstream's does.
    async fn write_revision_and_status(
        &mut self,
        revision: &str,
        told: DeploymentStatus,
    ) -> Result<(), ApiError> {
        let same = sets::annotation(&self.deployment.metadata, sets::REVISION) == Some(revision);
        if same {
            return self.write_status(told).await;
        }
        let annotations = self.deployment.metadata.annotations.get_or_insert_default();
        annotations.insert(sets::REVISION.to_string(), revision.to_string());
        self.deployment.status = Some(told);
        self.deployment = (*self.deployments.update_status(&self.deployment).await?).clone();
        Ok(())
    }
}
