//! Update and patch: of the object and of those subresources that are parts of it.

use std::sync::Arc;

use api::{
    ApiError, CreateOptions, DryRun, FieldError, FieldValidation, Object, Patch, UpdateOptions, patch,
};
use bytes::Bytes;
use embedded_store::Durability;
use serde_json::{Map, Value, json};

use super::claim::{self, Found, Known, WriteTerms, Written};
use super::managed::{self, Owners};
use super::request_options::RequestOptions;
use super::subresource::Part;
use super::{Call, Registry, body, meta, meta_str, metadata, quota, strategies};
use crate::admission::{Operation, Request};
use crate::cache::Entry;
use crate::claims::Claims;
use crate::strategy::RequestContext;

mod part;

use part::{confine, keep_all_but};

/// How often a write is tried again when somebody else was faster and the caller did not insist on a version.
pub(super) const ATTEMPTS: usize = 50;

/// What the new object is made from.
pub(crate) enum Source<'a> {
    /// The whole object, and the fields that decoding it found twice.
    Body(Value, &'a [String]),
    Patch(&'a Patch),
    /// A change of the stored tree, made by the server itself on behalf of the caller (scale).
    Change(&'a (dyn Fn(&mut Value) -> Result<(), ApiError> + Sync)),
}

/// The writer of an update.
pub(super) enum Writer<'a> {
    /// An update, by the manager that the request names.
    Named(Option<&'a str>),
    /// An apply, which has decided who owns what.
    Applied(Owners),
}

/// What a write of a new version came to.
pub(super) enum Attempt {
    Done(Arc<Object>),
    /// The object has changed under us.
    Raced,
    /// What the write claims has; this was found in its place.
    Contended(Vec<Found>),
}

/// The old object, as seen by the call.
pub(super) struct Current {
    pub(super) entry: Arc<Entry>,
    pub(super) tree: Value,
    /// It was stored under a schema that knew more fields. They are gone from the tree, as if they had never
    /// been there: a caller is not told of unknown fields that he has not sent.
    pub(super) pruned: bool,
}

impl Registry {
    pub(crate) async fn update(
        &self,
        call: &Call<'_>,
        name: &str,
        mut source: Source<'_>,
        options: &UpdateOptions,
    ) -> Result<Arc<Object>, ApiError> {
        call.note_options(match source {
            Source::Patch(_) => RequestOptions::Patch(options.clone()),
            _ => RequestOptions::Update(options.clone()),
        });
        let mut insists = false;
        for _ in 0..ATTEMPTS {
            let Some(entry) = self.present(call, name)? else {
                return self.update_of_nothing(call, name, source, options).await;
            };
            // A patch of managed fields is applied to a tree that has them.
            let mut tree = match &source {
                Source::Patch(patch) if managed::is_touched(patch) => {
                    call.resource.outward_tree(&entry.object).await?
                }
                _ => call.resource.outward_bare_tree(&entry.object).await?,
            };
            let pruned = call.resource.schema.prune(&mut tree);
            let mut current = Current { entry, tree, pruned };
            call.take_warnings();
            let (new, explicit) =
                self.proposed(call, name, &current, &mut source, options.field_validation)?;
            insists |= explicit;
            managed::take(&mut current.tree);
            let writer = Writer::Named(options.field_manager.as_deref());
            match self.replace(call, name, &current, new, writer).await? {
                Attempt::Done(object) => return Ok(object),
                // A patch or change that names a version fails by itself when applied to the next.
                Attempt::Raced if insists && matches!(source, Source::Body(..)) => {
                    return Err(ApiError::modified(call.row(), name));
                }
                Attempt::Raced | Attempt::Contended(_) => {}
            }
        }
        Err(ApiError::modified(call.row(), name))
    }

    /// Changes a stored object as an action asks (binding). What the action itself has admitted is not
    /// admitted again, and the kind's strategy judges the outcome but prepares nothing.
    pub(super) async fn amend(
        &self,
        call: &Call<'_>,
        name: &str,
        change: &(dyn Fn(&mut Value) -> Result<(), ApiError> + Sync),
    ) -> Result<Arc<Object>, ApiError> {
        for _ in 0..ATTEMPTS {
            let object = self.find(call, name)?.object.clone();
            let old = call.resource.outward_bare_tree(&object).await?;
            let mut new = old.clone();
            change(&mut new)?;
            let mut faults = metadata::validate_update(call.row(), &new, &old);
            faults.extend(call.strategy().validate_update(&self.context(call), &new, &old));
            if !faults.is_empty() {
                return Err(ApiError::invalid(call.row(), name, faults));
            }
            // Nobody owns such a change, as upstream has it.
            let owners = Owners::of(&object);
            let mut bytes = owners.encode(call.resource.inward(new).await?)?;
            let version = object.resource_version();
            if call.dry_run == DryRun::All {
                let object = Object::from_stored(bytes, version).map_err(ApiError::internal)?;
                return call.resource.outward(Arc::new(object)).await;
            }
            if let Some(object) = self.put(call, name, version, &mut bytes).await? {
                return Ok(object);
            }
        }
        Err(ApiError::modified(call.row(), name))
    }

    /// A PUT to a name that does not exist creates some kinds; for all others it is a 404.
    async fn update_of_nothing(
        &self,
        call: &Call<'_>,
        name: &str,
        source: Source<'_>,
        options: &UpdateOptions,
    ) -> Result<Arc<Object>, ApiError> {
        let missing = || ApiError::not_found(call.row(), name);
        let Source::Body(tree, duplicates) = source else { return Err(missing()) };
        let wanted = call.subresource.is_none()
            && call.strategy().allows_create_on_update()
            && meta_str(&tree, "resourceVersion").is_empty()
            && meta_str(&tree, "uid").is_empty();
        if !wanted {
            return Err(missing());
        }
        check_name(&tree, name)?;
        // Leave to update is no leave to create.
        self.authorize(call, "create", Some(name), None)?;
        let options = CreateOptions {
            dry_run: options.dry_run,
            field_manager: options.field_manager.clone(),
            field_validation: options.field_validation,
        };
        let object = self.create(call, tree, duplicates, &options).await?;
        call.note_created();
        Ok(object)
    }

    /// The object that the caller wants, before the server has its say; and whether the caller insists on a
    /// version.
    fn proposed(
        &self,
        call: &Call<'_>,
        name: &str,
        current: &Current,
        source: &mut Source<'_>,
        validation: FieldValidation,
    ) -> Result<(Value, bool), ApiError> {
        let ctx = self.context(call);
        let mut new = match source {
            Source::Body(tree, duplicates) => {
                // A body that insists on a version is used once: the next attempt would fail.
                let insists = !matches!(meta_str(tree, "resourceVersion"), "" | "0");
                let mut tree = if insists { tree.take() } else { tree.clone() };
                body::decode(call, &ctx, &mut tree, duplicates, validation)?;
                check_name(&tree, name)?;
                tree
            }
            Source::Patch(patch) => {
                let mut tree = current.tree.clone();
                patch::apply(call.resource.schema.root(), &mut tree, patch)?;
                body::decode(call, &ctx, &mut tree, &[], validation)?;
                check_name(&tree, name)?;
                tree
            }
            Source::Change(change) => {
                let mut tree = current.tree.clone();
                change(&mut tree)?;
                tree
            }
        };
        let explicit = self.expect(call, name, current, &mut new)?;
        Ok((new, explicit))
    }

    /// Holds a proposed object to the version and the identity that it expects, and gives it those of the
    /// present one. Whether the caller insists on a version.
    pub(super) fn expect(
        &self,
        call: &Call<'_>,
        name: &str,
        current: &Current,
        new: &mut Value,
    ) -> Result<bool, ApiError> {
        let version = current.entry.object.resource_version().to_string();
        let given = meta_str(new, "resourceVersion");
        if given.is_empty() && !call.strategy().allows_unconditional_update() {
            let fault = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
            return Err(ApiError::invalid(call.row(), name, vec![fault]));
        }
        let explicit = !given.is_empty() && given != "0";
        if explicit && given != version {
            return Err(ApiError::modified(call.row(), name));
        }
        let uid = meta_str(new, "uid");
        // The same name may belong to a new object by now.
        if !uid.is_empty() && uid != current.entry.object.uid() {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                current.entry.object.uid()
            );
            return Err(ApiError::conflict(call.row(), name, &why));
        }
        new["metadata"]["resourceVersion"] = json!(version);
        Ok(explicit)
    }

    /// Puts the new object in the place of the current one.
    pub(super) async fn replace(
        &self,
        call: &Call<'_>,
        name: &str,
        current: &Current,
        mut new: Value,
        writer: Writer<'_>,
    ) -> Result<Attempt, ApiError> {
        let strategy = call.strategy();
        let ctx = self.context(call);
        let old = &current.tree;
        let object = &current.entry.object;
        new = confine(call, new, old);
        let owners = match writer {
            Writer::Named(manager) => self.owners(call, &ctx, manager, Some((object, old)), &mut new).await?,
            Writer::Applied(owners) => owners,
        };
        let request = Request { ctx: &ctx, operation: Operation::Update, name, old: Some(object) };
        self.admit(call, &request, Some(old), Some(&mut new)).await?;
        self.settle(call, &ctx, &mut new, old)?;
        let limited = self.is_limited(call, &ctx, false);
        if !strategy.has_claims(call.subresource) && !limited {
            let none = (Claims::default(), None);
            return self.replace_settled(&request, call, current, new, &owners, none).await;
        }
        let warnings = call.count_warnings();
        let mut records = self.records();
        for _ in 0..claim::ATTEMPTS {
            call.keep_warnings(warnings);
            let mut new = new.clone();
            let claims = strategy.claim(&ctx, &records, &mut new, Some(old))?;
            let claims = (claims, limited.then_some(&records));
            match self.replace_settled(&request, call, current, new, &owners, claims).await? {
                Attempt::Contended(found) => records.learn(found),
                done => return Ok(done),
            }
        }
        Err(claim::contended(call, name))
    }

    /// Validates the new object and stores it with what it claims, and with what it counts against quotas.
    async fn replace_settled(
        &self,
        request: &Request<'_>,
        call: &Call<'_>,
        current: &Current,
        new: Value,
        owners: &Owners,
        (mut claims, limits): (Claims, Option<&Known<'_>>),
    ) -> Result<Attempt, ApiError> {
        let (row, strategy) = (call.row(), call.strategy());
        let (ctx, name) = (request.ctx, request.name);
        let (old, object) = (&current.tree, &current.entry.object);
        let mut faults = metadata::validate_update(row, &new, old);
        faults.extend(owners.faults());
        let judged = call.resource.faults(&new, Some(old), (&self.turns, &call.user.name)).await;
        faults.extend(judged.faults);
        call.warn(judged.warnings);
        faults.extend(strategy.validate_update(ctx, &new, old));
        if !faults.is_empty() {
            return Err(ApiError::invalid(row, name, faults));
        }
        call.warn(strategy.warnings(ctx, &new, Some(old)));
        call.warn(self.admit_finally(call, request, Some(old), Some(&new)).await?);
        // The last finalizer of a deleted object is gone: the write is its removal.
        if self.is_final(call, &new, old) {
            return self.remove(call, &current.entry, owners.encode(new)?).await;
        }
        if let Some(records) = limits {
            quota::claim(call, ctx, records, (&new, Some(old)), &mut claims)?;
        }
        let lazy = owners.stay() && is_renewal(call, &new, old);
        // What changes nothing but times of managed fields is no change.
        let same = owners.stay() && !current.pruned && new == *old;
        let mut bytes = owners.encode(call.resource.inward(new).await?)?;
        let same = same || bytes == object.stored_bytes();
        if same && !self.store.is_stale(&call.key(name)?) {
            return Ok(Attempt::Done(call.resource.outward(object.clone()).await?));
        }
        if call.dry_run == DryRun::All {
            let object = Object::from_stored(bytes, object.resource_version()).map_err(ApiError::internal)?;
            return Ok(Attempt::Done(call.resource.outward(Arc::new(object)).await?));
        }
        let durability = if lazy { Durability::Lazy } else { Durability::Synced };
        let terms = WriteTerms { durability, ..WriteTerms::ORDINARY };
        let key = call.key(name)?;
        let version = object.resource_version();
        let stored = (&mut bytes, owners.may_go());
        match self.store_managed(call, &key, version, stored, &claims, terms).await? {
            Written::At(revision) => self.written(call, &key, bytes, revision).await.map(Attempt::Done),
            Written::Raced => Ok(Attempt::Raced),
            Written::Contended(found) => Ok(Attempt::Contended(found)),
        }
    }

    /// What the server keeps, counts and tidies in a proposed object.
    fn settle(
        &self,
        call: &Call<'_>,
        ctx: &RequestContext<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        let strategy = call.strategy();
        metadata::keep(new, old);
        if let Some(part) = call.part() {
            keep_all_but(part, new, old);
        }
        if call.part() == Some(Part::Status) && strategy.status_keeps_metadata() {
            strategies::keep_metadata(new, old);
        }
        strategy.prepare_for_update(ctx, new, old)?;
        metadata::tidy(new);
        if strategy.has_generation() && call.part() != Some(Part::Status) {
            metadata::bump_generation(new, old, strategy);
        }
        Ok(())
    }

    /// Stores bytes that claim nothing over a known version; none if that version is no longer the current
    /// one. For marks of deletion and for actions: what they add is little and frees room or starts pods.
    pub(super) async fn put(
        &self,
        call: &Call<'_>,
        name: &str,
        version: u64,
        bytes: &mut Bytes,
    ) -> Result<Option<Arc<Object>>, ApiError> {
        let key = call.key(name)?;
        let stored = (&mut *bytes, true);
        let (claims, terms) = (Claims::default(), WriteTerms::RESERVE);
        match self.store_managed(call, &key, version, stored, &claims, terms).await? {
            Written::At(revision) => self.written(call, &key, bytes.clone(), revision).await.map(Some),
            Written::Raced | Written::Contended(_) => Ok(None),
        }
    }

    /// Whether this update takes away the last thing that kept an object which is marked for deletion.
    fn is_final(&self, call: &Call<'_>, new: &Value, old: &Value) -> bool {
        let marked = old["metadata"].get("deletionTimestamp").is_some_and(|at| !at.is_null());
        marked
            && meta(new, "finalizers").as_array().is_none_or(Vec::is_empty)
            && meta(new, "deletionGracePeriodSeconds").as_i64().unwrap_or(0) == 0
            && !call.strategy().holds_deletion(new)
    }

    async fn remove(&self, call: &Call<'_>, entry: &Entry, last: Bytes) -> Result<Attempt, ApiError> {
        let object = &entry.object;
        if call.dry_run == DryRun::No && self.erase(call, object).await?.is_none() {
            return Ok(Attempt::Raced);
        }
        let last = Object::from_stored(last, object.resource_version()).map_err(ApiError::internal)?;
        Ok(Attempt::Done(Arc::new(last)))
    }
}

pub(super) fn check_name(tree: &Value, name: &str) -> Result<(), ApiError> {
    let given = meta_str(tree, "name");
    if given.is_empty() || given == name {
        // Whether the name may be left out depends on nothing else, so upstream's answer for it is the same.
        return if given.is_empty() { Err(ApiError::bad_request(NAME_REQUIRED)) } else { Ok(()) };
    }
    Err(ApiError::bad_request(format!(
        "the name of the object ({given}) does not match the name on the URL ({name})"
    )))
}

const NAME_REQUIRED: &str = "name must be provided";

/// A Lease update that changes nothing but the time of renewal, which need not wait for the disk.
fn is_renewal(call: &Call<'_>, new: &Value, old: &Value) -> bool {
    if call.row().plural != "leases" || call.row().group != "coordination.k8s.io" {
        return false;
    }
    same_but(&new["spec"], &old["spec"], "renewTime")
        && same_but(&new["metadata"], &old["metadata"], "resourceVersion")
}

/// Whether two JSON objects are the same except for one member.
pub(super) fn same_but(one: &Value, other: &Value, except: &str) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return one == other };
    let covered = |one: &Map<String, Value>, other: &Map<String, Value>| {
        one.iter().all(|(key, value)| key == except || other.get(key) == Some(value))
    };
    covered(one, other) && covered(other, one)
}
