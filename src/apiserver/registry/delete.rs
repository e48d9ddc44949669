//! Delete: preconditions, grace, finalizers, propagation.

use std::sync::Arc;

use api::{ApiError, DeleteOptions, DryRun, ListOptions, Object, PropagationPolicy};
use bytes::Bytes;
use embedded_store::Op;
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::claim::{self, Write, WriteTerms, Written};
use super::create::encode;
use super::request_options::RequestOptions;
use super::{Call, Registry, meta, metadata};
use crate::admission::{Operation, Request};
use crate::strategy::RequestContext;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Deletions of a collection that are under way at once: they share the store's syncs.
const AT_ONCE: usize = 32;

/// What a deletion came to.
pub(crate) struct Deleted {
    /// The last state, or the state marked for deletion.
    pub(crate) object: Arc<Object>,
    pub(crate) gone: bool,
}

/// What is to be done with an object.
enum DeleteStep {
    /// It is being deleted already and this call changes nothing.
    Wait,
    Mark(Value),
    Remove,
}

impl Registry {
    pub(crate) async fn delete(
        &self,
        call: &Call<'_>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        let deleted = self.delete_stored(call, name, options).await?;
        Ok(Deleted { object: call.resource.outward(deleted.object).await?, ..deleted })
    }

    /// The same with the object as it is stored, or in the version that is asked for.
    async fn delete_stored(
        &self,
        call: &Call<'_>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        call.note_options(RequestOptions::Delete(options.clone()));
        loop {
            // The object may change while this goes on. Then everything is decided once more, on what is
            // there.
            let entry = self.find(call, name)?;
            let object = &entry.object;
            check_preconditions(call, object, options)?;
            let ctx = self.context(call);
            let request = Request { ctx: &ctx, operation: Operation::Delete, name, old: Some(object) };
            self.admit(call, &request, None, None).await?;
            call.warn(self.admit_finally(call, &request, None, None).await?);
            match step(call, &ctx, object, options)? {
                DeleteStep::Wait => return Ok(Deleted { object: object.clone(), gone: false }),
                DeleteStep::Mark(tree) => {
                    if let Some(object) = self.mark(call, name, object, tree).await? {
                        return Ok(Deleted { object, gone: false });
                    }
                }
                DeleteStep::Remove => {
                    let last = match call.dry_run {
                        DryRun::All => Some(object.clone()),
                        DryRun::No => self.erase(call, object).await?,
                    };
                    if let Some(object) = last {
                        return Ok(Deleted { object, gone: true });
                    }
                }
            }
        }
    }

    async fn mark(
        &self,
        call: &Call<'_>,
        name: &str,
        old: &Object,
        tree: Value,
    ) -> Result<Option<Arc<Object>>, ApiError> {
        let mut bytes = encode(tree)?;
        if call.dry_run == DryRun::All {
            let object = Object::from_stored(bytes, old.resource_version()).map_err(ApiError::internal)?;
            return Ok(Some(Arc::new(object)));
        }
        self.put(call, name, old.resource_version(), &mut bytes).await
    }

    /// Takes an object out of the store with what it had claimed; its last state at the revision of that, or
    /// none if it has changed meanwhile.
    pub(super) async fn erase(
        &self,
        call: &Call<'_>,
        object: &Object,
    ) -> Result<Option<Arc<Object>>, ApiError> {
        let key = Bytes::from(call.resource.cache()?.key(object.namespace(), object.name()));
        let strategy = call.strategy();
        let old = match strategy.has_claims(None) {
            true => Some(object.tree().map_err(ApiError::internal)?),
            false => None,
        };
        let (ctx, mut records) = (self.context(call), self.records());
        for _ in 0..claim::ATTEMPTS {
            let claims = old.as_ref().map(|old| strategy.release(&ctx, &records, old)).unwrap_or_default();
            let op = Op::Delete { key: key.clone(), range_end: None };
            let version = object.resource_version();
            let terms = WriteTerms::ORDINARY;
            let write = Write { key: key.clone(), version, op, claims: &claims, terms };
            match self.carry_out(call, write).await? {
                Written::At(revision) => {
                    return object
                        .at_version(revision)
                        .map(|last| Some(Arc::new(last)))
                        .map_err(ApiError::internal);
                }
                Written::Raced => return Ok(None),
                Written::Contended(found) => records.learn(found),
            }
        }
        Err(claim::contended(call, object.name()))
    }

    /// Deletes everything that a list with these options finds; returns what was deleted, as it is stored or
    /// in the version that is asked for.
    pub(crate) async fn delete_collection(
        &self,
        call: &Call<'_>,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<Vec<Arc<Object>>, ApiError> {
        let everything = ListOptions { limit: 0, continue_token: None, ..list.clone() };
        // A webhook that cannot convert what is there says so before anything is deleted.
        let found = match call.resource.is_converted_elsewhere() {
            true => self.list(call, &everything).await?,
            false => self.list_stored(call, &everything).await?,
        };
        let deletions = found.items.into_iter().map(|object| async move {
            let one =
                Call::new(&call.resource, object.namespace(), call.user).dry(call.dry_run).fenced(call.fence);
            let deleted = self.delete_stored(&one, object.name(), options).await;
            call.warn(one.take_warnings());
            match deleted {
                Ok(done) => Ok(Some(done.object)),
                // Somebody else was faster: it is gone, which is what was asked for.
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            }
        });
        let deleted: Vec<Option<Arc<Object>>> =
            stream::iter(deletions).buffered(AT_ONCE).try_collect().await?;
        Ok(deleted.into_iter().flatten().collect())
    }
}

fn check_preconditions(call: &Call<'_>, object: &Object, options: &DeleteOptions) -> Result<(), ApiError> {
    let wanted = &options.preconditions;
    let (uid, version) = (object.uid(), object.resource_version().to_string());
    if let Some(wanted) = wanted.uid.as_deref().filter(|wanted| *wanted != uid) {
        let why = format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). \
             The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict(call.row(), object.name(), &why));
    }
    if let Some(wanted) = wanted.resource_version.as_deref().filter(|wanted| *wanted != version) {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record \
             ({version}). The object might have been modified"
        );
        return Err(ApiError::conflict(call.row(), object.name(), &why));
    }
    Ok(())
}

/// Decides, in upstream's order: grace first, then finalizers, else it goes.
fn step(
    call: &Call<'_>,
    ctx: &RequestContext<'_>,
    object: &Object,
    options: &DeleteOptions,
) -> Result<DeleteStep, ApiError> {
    let strategy = call.strategy();
    let old = object.tree().map_err(ApiError::internal)?;
    let mut new = old.clone();
    let graceful = match grace(call, ctx, &mut new, options) {
        Grace::Pending => return Ok(DeleteStep::Wait),
        Grace::Wait(seconds) => seconds > 0,
        Grace::None => false,
    };
    let finalizers = finalizers_after(&old, options, strategy.orphans_by_default());
    let held = !finalizers.is_empty() || strategy.holds_deletion(&old);
    if !graceful && !held {
        return Ok(DeleteStep::Remove);
    }
    match finalizers.is_empty() {
        true => drop(new["metadata"].as_object_mut().map(|metadata| metadata.remove("finalizers"))),
        false => new["metadata"]["finalizers"] = json!(finalizers),
    }
    // What only finalizers hold has no grace: its time is over at once.
    if held && new["metadata"].get("deletionTimestamp").is_none() {
        set_deletion(&mut new, ctx.now, 0);
    }
    if old["metadata"].get("deletionTimestamp").is_none() {
        strategy.mark_deleted(ctx, &mut new);
    }
    Ok(if new == old { DeleteStep::Wait } else { DeleteStep::Mark(new) })
}

enum Grace {
    /// The kind has none, or it is over.
    None,
    /// Marked in the tree, with so many seconds to go.
    Wait(i64),
    /// Marked before, and this call does not shorten it.
    Pending,
}

fn grace(call: &Call<'_>, ctx: &RequestContext<'_>, tree: &mut Value, options: &DeleteOptions) -> Grace {
    let preferred = call.strategy().grace_period(ctx, tree, options);
    let deleted_at = meta(tree, "deletionTimestamp").as_str().and_then(|at| at.parse::<Timestamp>().ok());
    let Some(deleted_at) = deleted_at else {
        return match preferred {
            Some(seconds) => {
                set_deletion(tree, ctx.now, seconds);
                Grace::Wait(seconds)
            }
            None => Grace::None,
        };
    };
    // A kind without grace has nothing pending: a later request may still say what becomes of its dependents.
    if preferred.is_none() {
        return Grace::None;
    }
    // Being deleted already: the grace period may only become shorter.
    let Some(left) = meta(tree, "deletionGracePeriodSeconds").as_i64() else { return Grace::None };
    if left == 0 {
        return Grace::None;
    }
    let Some(asked) = options.grace_period_seconds else { return Grace::Pending };
    // A negative period is the shortest there is, as for the first request.
    let mut asked = if asked < 0 { 1 } else { asked };
    if asked >= left {
        return Grace::Pending;
    }
    // The shorter period counts from the first request as well, but does not end before this one.
    let mut end = deleted_at - SignedDuration::from_secs(left) + SignedDuration::from_secs(asked);
    if end < ctx.now {
        end = ctx.now;
        asked = asked.min(1);
    }
    tree["metadata"]["deletionTimestamp"] = json!(metadata::time(end));
    tree["metadata"]["deletionGracePeriodSeconds"] = json!(asked);
    Grace::Wait(asked)
}

fn set_deletion(tree: &mut Value, now: Timestamp, seconds: i64) {
    tree["metadata"]["deletionTimestamp"] = json!(metadata::time(now + SignedDuration::from_secs(seconds)));
    tree["metadata"]["deletionGracePeriodSeconds"] = json!(seconds);
    // The mark is a change of what is wanted: controllers that compare generations must notice it.
    if meta(tree, "generation").as_i64().unwrap_or(0) > 0 {
        metadata::add_generation(tree);
    }
}

/// The finalizers once the garbage collector's own are set as the propagation policy says; without a policy
/// what is there decides, and without that the kind.
fn finalizers_after(tree: &Value, options: &DeleteOptions, orphans_by_default: bool) -> Vec<String> {
    let present: Vec<&str> =
        meta(tree, "finalizers").as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let orphan = match options.propagation_policy {
        Some(policy) => policy == PropagationPolicy::Orphan,
        None if present.contains(&ORPHAN) => true,
        None => orphans_by_default && !present.contains(&FOREGROUND),
    };
    let foreground = match options.propagation_policy {
        Some(policy) => policy == PropagationPolicy::Foreground,
        None => present.contains(&FOREGROUND),
    };
    let others =
        present.iter().filter(|one| !matches!(**one, ORPHAN | FOREGROUND)).map(|one| one.to_string());
    let mut result: Vec<String> = others.collect();
    if orphan {
        result.push(ORPHAN.to_string());
    }
    if foreground {
        result.push(FOREGROUND.to_string());
    }
    result
}
