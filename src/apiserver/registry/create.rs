//! Create.

use std::pin::pin;
use std::sync::Arc;

use api::{ApiError, CreateOptions, DryRun, FieldError, Object};
use bytes::Bytes;
use embedded_store::{Op, StoreError};
use serde_json::{Value, json};

use super::claim::{self, Found, Known, Write, WriteTerms, Written};
use super::fence::Refused;
use super::managed::{self, Owners};
use super::request_options::RequestOptions;
use super::{Backing, Call, Registry, body, meta_str, metadata, names, quota};
use crate::admission::{Operation, Request};
use crate::claims::Claims;
use crate::strategy::RequestContext;

/// How often a generated name is tried, as often as upstream does.
const NAME_ATTEMPTS: usize = 8;

impl Registry {
    /// Creates an object from a body; `duplicates` are the fields that decoding it found twice.
    pub(crate) async fn create(
        &self,
        call: &Call<'_>,
        tree: Value,
        duplicates: &[String],
        options: &CreateOptions,
    ) -> Result<Arc<Object>, ApiError> {
        self.create_owned(call, (tree, duplicates), options, None).await
    }

    /// The same; `applied` are the owners if an apply creates the object.
    pub(super) async fn create_owned(
        &self,
        call: &Call<'_>,
        (mut tree, duplicates): (Value, &[String]),
        options: &CreateOptions,
        applied: Option<Owners>,
    ) -> Result<Arc<Object>, ApiError> {
        let ctx = self.context(call);
        body::decode(call, &ctx, &mut tree, duplicates, options.field_validation)?;
        match &call.resource.backing {
            Backing::Review(review) => return self.review(call, *review, tree),
            Backing::Bindings => return self.bind_named(call, tree, options).await,
            Backing::Components | Backing::Metrics => return Err(super::not_allowed()),
            Backing::Stored(_) => {}
        }
        if call.namespace.is_none() && call.row().namespaced() {
            return Err(ApiError::bad_request("an empty namespace may not be set during creation"));
        }
        let given = meta_str(&tree, "name").to_string();
        if given.is_empty() && meta_str(&tree, "generateName").is_empty() {
            let fault = FieldError::required("metadata.name", "name or generateName is required");
            return Err(ApiError::invalid(call.row(), "", vec![fault]));
        }
        call.note_options(RequestOptions::Create(options.clone()));
        metadata::wipe(&mut tree);
        let manager = options.field_manager.as_deref();
        // Before admission: what plugins add is not the client's, as upstream has it.
        let owners = match applied {
            Some(owners) => owners,
            None => self.owners(call, &ctx, manager, None, &mut tree).await?,
        };
        let request = Request { ctx: &ctx, operation: Operation::Create, name: &given, old: None };
        let weight = self.admission.weight(&request, &tree);
        let work = pin!(self.admit_created(call, &request, tree, &owners));
        self.turns.run(&call.user.name, weight, work).await
    }

    /// Everything after the body has been looked at.
    async fn admit_created(
        &self,
        call: &Call<'_>,
        request: &Request<'_>,
        mut tree: Value,
        owners: &Owners,
    ) -> Result<Arc<Object>, ApiError> {
        let given = request.name;
        let prefix = meta_str(&tree, "generateName").to_string();
        self.admit(call, request, None, Some(&mut tree)).await?;
        for attempt in 1.. {
            // Names are generated after mutating admission, as upstream does: plugins see `generateName`.
            let mut tree = if given.is_empty() { tree.clone() } else { std::mem::take(&mut tree) };
            let generated = given.is_empty().then(|| names::generate(&prefix));
            if let Some(name) = &generated {
                tree["metadata"]["name"] = json!(name);
            }
            match self.create_named(call, tree, owners).await {
                Err(error) if error.is_already_exists() && generated.is_some() && attempt < NAME_ATTEMPTS => {
                }
                done => return done,
            }
        }
        Err(ApiError::internal("no name could be generated"))
    }

    /// Everything after the name is known.
    async fn create_named(
        &self,
        call: &Call<'_>,
        mut tree: Value,
        owners: &Owners,
    ) -> Result<Arc<Object>, ApiError> {
        let (row, strategy) = (call.row(), call.strategy());
        let ctx = self.context(call);
        metadata::assign(&mut tree, strategy, ctx.now);
        // The status is written through its subresource. A client that sends one here has copied an object.
        if row.subresource("status").is_some()
            && !strategy.keeps_status_on_create()
            && let Some(members) = tree.as_object_mut()
        {
            members.remove("status");
        }
        strategy.prepare_for_create(&ctx, &mut tree)?;
        // Client libraries of typed languages rely on it.
        if row.subresource("status").is_some()
            && tree["status"].is_null()
            && let Some(status) = api::schema::for_kind(row).and_then(api::schema::empty_status)
        {
            tree["status"] = status;
        }
        metadata::tidy(&mut tree);
        let limited = self.is_limited(call, &ctx, true);
        if !strategy.has_claims(call.subresource) && !limited {
            let created = self.create_prepared(call, &ctx, tree, Claims::default(), None, owners).await?;
            return created.map_err(|_| claim::contended(call, ""));
        }
        let name = meta_str(&tree, "name").to_string();
        let warnings = call.count_warnings();
        let mut records = self.records();
        for _ in 0..claim::ATTEMPTS {
            call.keep_warnings(warnings);
            let mut new = tree.clone();
            let claims = strategy.claim(&ctx, &records, &mut new, None)?;
            let against = limited.then_some(&mut records);
            match self.create_prepared(call, &ctx, new, claims, against, owners).await? {
                Ok(created) => return Ok(created),
                // Another write took what was chosen before this server's cache showed it: choose again.
                Err(found) => records.learn(found),
            }
        }
        Err(claim::contended(call, &name))
    }

    /// Validates an object and stores it with what it claims, and with what it counts against `limits`, the
    /// quotas of its namespace if there are any. The inner error is what was found in the place of what it
    /// claims. If only others were faster to be counted, it is counted again, and nothing else is done again:
    /// of many who create at once each would be checked as often as there are others.
    async fn create_prepared(
        &self,
        call: &Call<'_>,
        ctx: &RequestContext<'_>,
        tree: Value,
        own: Claims,
        mut limits: Option<&mut Known<'_>>,
        owners: &Owners,
    ) -> Result<Result<Arc<Object>, Vec<Found>>, ApiError> {
        let (row, strategy) = (call.row(), call.strategy());
        let name = meta_str(&tree, "name").to_string();
        let key = call.key(&name)?;
        let mut faults = metadata::validate_create(row, strategy, &tree);
        faults.extend(owners.faults());
        let judged = call.resource.faults(&tree, None, (&self.turns, &call.user.name)).await;
        faults.extend(judged.faults);
        call.warn(judged.warnings);
        faults.extend(strategy.validate_create(ctx, &tree));
        if !faults.is_empty() {
            return Err(ApiError::invalid(row, &name, faults));
        }
        call.warn(strategy.warnings(ctx, &tree, None));
        let request = Request { ctx, operation: Operation::Create, name: &name, old: None };
        call.warn(self.admit_finally(call, &request, None, Some(&tree)).await?);
        // A version means that the client has seen the object: it wants an update. What admission says comes
        // first, as upstream's store finds this last.
        if !meta_str(&tree, "resourceVersion").is_empty() {
            return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
        }
        let counted = limits.is_some().then(|| tree.clone());
        let mut bytes = owners.encode(call.resource.inward(tree).await?)?;
        for _ in 0..claim::ATTEMPTS {
            let mut claims = own.clone();
            if let (Some(records), Some(tree)) = (limits.as_deref(), &counted) {
                quota::claim(call, ctx, records, (tree, None), &mut claims)?;
            }
            if call.dry_run == DryRun::All {
                // The cache is as far as a dry run can look: only the transaction is sure.
                if call.resource.cache()?.get(&key).is_some() {
                    return Err(ApiError::already_exists(row, &name));
                }
                let object = Object::from_stored(bytes, 0).map_err(ApiError::internal)?;
                return call.resource.outward(Arc::new(object)).await.map(Ok);
            }
            let stored = (&mut bytes, owners.may_go());
            match self.store_managed(call, &key, 0, stored, &claims, WriteTerms::ORDINARY).await? {
                Written::At(revision) => return self.written(call, &key, bytes, revision).await.map(Ok),
                Written::Raced => return Err(ApiError::already_exists(row, &name)),
                Written::Contended(found) => match &mut limits {
                    Some(records) if own.is_empty() => records.learn(found),
                    _ => return Ok(Err(found)),
                },
            }
        }
        Err(claim::contended(call, &name))
    }

    /// Stores an object; one that is too large with its managed fields is stored without them if they may go.
    pub(super) async fn store_managed(
        &self,
        call: &Call<'_>,
        key: &str,
        version: u64,
        (bytes, may_go): (&mut Bytes, bool),
        claims: &Claims,
        terms: WriteTerms,
    ) -> Result<Written, ApiError> {
        let stored = self.store_object(call, key, version, bytes.clone(), claims, terms).await;
        let smaller = if may_go { managed::if_too_large(&stored, bytes) } else { None };
        let Some(smaller) = smaller else { return stored };
        *bytes = smaller;
        self.store_object(call, key, version, bytes.clone(), claims, terms).await
    }

    /// Stores an object over the version that is expected there (0: none), with what it claims.
    async fn store_object(
        &self,
        call: &Call<'_>,
        key: &str,
        version: u64,
        bytes: Bytes,
        claims: &Claims,
        terms: WriteTerms,
    ) -> Result<Written, ApiError> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        for last in [false, true] {
            let lease = self.event_leases.lease_for(&call.resource, self.store.as_ref()).await?;
            let op = Op::Put { key: key.clone(), value: bytes.clone(), lease };
            let write = Write { key: key.clone(), version, op, claims, terms };
            match self.carry_out(call, write).await {
                // The lease may have ended since it was looked up: once more with a new one.
                Err(Refused::Store(StoreError::LeaseNotFound)) if !last => self.event_leases.forget().await,
                written => return Ok(written?),
            }
        }
        Ok(Written::Raced)
    }
}

pub(super) fn encode(tree: Value) -> Result<Bytes, ApiError> {
    api::object::encode(tree).map_err(ApiError::internal)
}
