//! Get and list, from the cache; only lists at an older revision go to the store.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, FieldSelector, ListOptions, Object, ResourceVersionMatch};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use client::ObjectList;
use embedded_store::{RangeRequest, Store, StoreError};
use serde::{Deserialize, Serialize};

use super::{Backing, Call, Registry, store_error};
use crate::cache::{Entry, Filter, Selection};

/// How long a read waits for a revision that this server has not seen yet.
const FRESHNESS_TIMEOUT: Duration = Duration::from_secs(3);
/// Objects read from the store at a time when a selector leaves few of them.
const STORE_PAGE: usize = 500;

/// A continue token: the consistent revision (-1: whatever is current) and where to go on, relative to the
/// prefix.
#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

impl Registry {
    pub(crate) async fn get(&self, call: &Call<'_>, name: &str) -> Result<Arc<Object>, ApiError> {
        match &call.resource.backing {
            Backing::Components => return self.component(call, name),
            Backing::Metrics => return self.measured(call, name).await,
            _ => {}
        }
        let entry = self.find(call, name)?;
        let weight = call.resource.outward_weight(std::slice::from_ref(&entry.object));
        let shown = pin!(call.resource.outward(entry.object.clone()));
        self.turns.run(&call.user.name, weight, shown).await
    }

    /// [`Registry::get`] that waits for a resource version, as the `resourceVersion` parameter asks.
    pub(crate) async fn get_at(
        &self,
        call: &Call<'_>,
        name: &str,
        version: Option<&str>,
    ) -> Result<Arc<Object>, ApiError> {
        self.reach(parse_version(version)?).await?;
        self.be_current(call, version).await;
        self.get(call, name).await
    }

    /// Waits, for a read that names no version, until this server has seen what any server has acknowledged.
    /// If that cannot be found out, what is here is the answer, and a warning says so.
    async fn be_current(&self, call: &Call<'_>, version: Option<&str>) {
        let unnamed = version.is_none_or(str::is_empty);
        if !unnamed || self.store.is_led().is_none() {
            return;
        }
        if let Err(error) = self.store.read_barrier().await {
            tracing::warn!(%error, "a read is answered from this server's copy, which may be old");
            call.warn(vec![format!("the answer may be out of date: {error}")]);
        }
    }

    /// Waits until this server has seen a revision: a client may have read a newer state from another one.
    pub(super) async fn reach(&self, version: u64) -> Result<(), ApiError> {
        let progress = self.caches.progress();
        if progress.get() >= version || progress.reach(version, FRESHNESS_TIMEOUT).await {
            return Ok(());
        }
        let message = format!("Too large resource version: {version}, current: {}", progress.get());
        Err(ApiError::timeout(message).with_cause(
            "ResourceVersionTooLarge",
            None,
            "Too large resource version",
        ))
    }

    pub(super) fn filter(
        &self,
        call: &Call<'_>,
        labels: &api::LabelSelector,
        fields: &FieldSelector,
    ) -> Result<Filter, ApiError> {
        let selectable = call.resource.cache()?.selectable();
        let mut fields = fields.clone();
        for term in &mut fields.terms {
            if let Some(conversion) = &call.resource.conversion {
                term.path = conversion.stored_path(&term.path);
            }
            if !selectable.knows(&term.path) {
                return Err(ApiError::bad_request(format!("field label not supported: {}", term.path)));
            }
        }
        Ok(Filter {
            namespace: call.namespace.map(str::to_string),
            labels: labels.clone(),
            fields,
            selectable: selectable.clone(),
        })
    }

    pub(crate) async fn list(&self, call: &Call<'_>, options: &ListOptions) -> Result<ObjectList, ApiError> {
        let mut list = self.list_stored(call, options).await?;
        let turns = (&*self.turns, &*call.user.name);
        list.items = call.resource.outward_all(list.items, turns).await?;
        Ok(list)
    }

    /// The same with objects as they are stored, for those who convert them one by one or not at all.
    pub(crate) async fn list_stored(
        &self,
        call: &Call<'_>,
        options: &ListOptions,
    ) -> Result<ObjectList, ApiError> {
        match &call.resource.backing {
            Backing::Components => return self.components(options),
            Backing::Metrics => return self.all_measured(call, options).await,
            _ => {}
        }
        let (filter, refine) = self.filters(call, &options.labels, &options.fields)?;
        let mut list = self.list_filtered(call, options, filter).await?;
        if let Some(refine) = refine {
            let turns = (&*self.turns, &*call.user.name);
            list.items = call.resource.refined(&list.items, &refine, turns).await?;
            list.remaining = None;
        }
        Ok(list)
    }

    async fn list_filtered(
        &self,
        call: &Call<'_>,
        options: &ListOptions,
        filter: Filter,
    ) -> Result<ObjectList, ApiError> {
        let version = parse_version(options.resource_version.as_deref())?;
        let matching = options.resource_version_match;
        check_version(options, version)?;
        if let Some(token) = options.continue_token.as_deref().filter(|token| !token.is_empty()) {
            return self.list_on(call, &filter, token, options.limit).await;
        }
        self.reach(version).await?;
        self.be_current(call, options.resource_version.as_deref()).await;
        // A first page at a version is an exact read: its later pages go on from the same state.
        let exact = matching == Some(ResourceVersionMatch::Exact)
            || (matching.is_none() && options.limit > 0 && version > 0);
        if exact && version != 0 {
            return self.list_at(call, &filter, version, None, options.limit).await;
        }
        self.check_readable(call)?;
        let selection = call.resource.cache()?.select(&filter, None, options.limit);
        listed(call, &filter, selection, None)
    }

    /// A list that is not complete would be taken for one that is.
    pub(super) fn check_readable(&self, call: &Call<'_>) -> Result<(), ApiError> {
        let cache = call.resource.cache()?;
        cache.unreadable(&cache.prefix(call.namespace)).map_or(Ok(()), |why| Err(ApiError::internal(why)))
    }

    /// The next page of a list.
    async fn list_on(
        &self,
        call: &Call<'_>,
        filter: &Filter,
        token: &str,
        limit: usize,
    ) -> Result<ObjectList, ApiError> {
        let token = read_token(token)?;
        self.check_readable(call)?;
        let prefix = call.resource.cache()?.prefix(call.namespace);
        let start = token.start.trim_end_matches('\0');
        let after = format!("{prefix}{start}");
        let oldest = self.store.compacted_revision();
        match u64::try_from(token.rv) {
            // Clients rely on a token's end: it comes with the end of its revision, changes or not.
            Ok(revision) if revision + 1 < oldest => {
                Err(too_old(StoreError::Compacted { oldest }, Some(start)))
            }
            // Without a change since the first page the cache still is that state, and is cheaper to read.
            Ok(revision) if call.resource.cache()?.last_change() > revision => {
                self.list_at(call, filter, revision, Some(&after), limit).await
            }
            Ok(revision) => {
                let selection = call.resource.cache()?.select(filter, Some(&after), limit);
                listed(call, filter, selection, Some(revision))
            }
            Err(_) => {
                let selection = call.resource.cache()?.select(filter, Some(&after), limit);
                listed(call, filter, selection, None)
            }
        }
    }

    /// A list as of an older revision, from the store's history.
    async fn list_at(
        &self,
        call: &Call<'_>,
        filter: &Filter,
        revision: u64,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ObjectList, ApiError> {
        let prefix = call.resource.cache()?.prefix(call.namespace);
        let mut selection = Selection { revision, ..Selection::default() };
        let mut from = after.map_or(prefix.clone(), |after| format!("{after}\0")).into_bytes();
        // A selector may leave few objects of each page, so pages are read until there are enough.
        'pages: loop {
            let page = self.store.range(&RangeRequest {
                key: from.clone().into(),
                range_end: Some(prefix_end(&prefix).into()),
                limit: STORE_PAGE,
                revision,
                ..RangeRequest::default()
            });
            let page = page.map_err(|error| too_old(error, after.map(|after| &after[prefix.len()..])))?;
            let total = page.kvs.len();
            for (at, kv) in page.kvs.into_iter().enumerate() {
                from = [&kv.key[..], b"\0"].concat();
                let object = Object::from_stored(kv.value, kv.mod_revision).map_err(ApiError::internal)?;
                let entry = Entry::new(Arc::new(object));
                if !filter.matches(&entry) {
                    continue;
                }
                selection.objects.push(entry.object);
                if limit != 0 && selection.objects.len() == limit {
                    selection.remaining = page.count.saturating_sub(at as u64 + 1);
                    selection.last_key = (selection.remaining > 0).then_some(kv.key);
                    break 'pages;
                }
            }
            if !page.more || total == 0 {
                break;
            }
        }
        listed(call, filter, selection, Some(revision))
    }
}

/// `""` and `"0"` are 0.
pub(super) fn parse_version(version: Option<&str>) -> Result<u64, ApiError> {
    match version {
        None | Some("") => Ok(0),
        Some(text) => text.parse().map_err(|_| {
            ApiError::bad_request(format!(
                "Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
            ))
        }),
    }
}

fn check_version(options: &ListOptions, version: u64) -> Result<(), ApiError> {
    let forbidden = |why: &str| {
        Err(ApiError::new(
            422,
            "Invalid",
            format!("ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: {why}"),
        ))
    };
    let unset = options.resource_version.as_deref().unwrap_or("").is_empty();
    let goes_on = options.continue_token.as_deref().is_some_and(|token| !token.is_empty());
    match options.resource_version_match {
        Some(_) if unset => forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"),
        Some(_) if goes_on => forbidden("resourceVersionMatch is forbidden when continue is provided"),
        Some(ResourceVersionMatch::Exact) if version == 0 => {
            forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
        }
        _ if goes_on && !unset && version != 0 => {
            Err(ApiError::bad_request("specifying resource version is not allowed when using continue"))
        }
        _ => Ok(()),
    }
}

/// A selection with the token of the next page.
fn listed(
    call: &Call<'_>,
    filter: &Filter,
    selection: Selection,
    revision: Option<u64>,
) -> Result<ObjectList, ApiError> {
    let revision = revision.unwrap_or(selection.revision);
    let prefix = call.resource.cache()?.prefix(call.namespace);
    let continue_token = selection.last_key.as_deref().map(|key| {
        let last = String::from_utf8_lossy(key.get(prefix.len()..).unwrap_or_default());
        write_token(i64::try_from(revision).unwrap_or(-1), &format!("{last}\0"))
    });
    // How many remain is known only if all of them match.
    let remaining = (continue_token.is_some() && filter.is_everything()).then_some(selection.remaining);
    Ok(ObjectList { items: selection.objects, resource_version: revision, continue_token, remaining })
}

fn write_token(rv: i64, start: &str) -> String {
    let token = Token { v: TOKEN_VERSION.to_string(), rv, start: start.to_string() };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

fn read_token(text: &str) -> Result<Token, ApiError> {
    let invalid = |why: String| ApiError::bad_request(format!("invalid continue token: {why}"));
    let bytes = URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| ApiError::bad_request("continue key is not valid: invalid base64"))?;
    let token: Token = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
    if token.v != TOKEN_VERSION || token.rv == 0 || token.start.is_empty() || token.start.contains("..") {
        return Err(invalid("incorrect encoded start resourceVersion or key".into()));
    }
    Ok(token)
}

/// The end of the range of all keys with a prefix.
fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// 410 for a revision that is gone; of a continued list with a token that goes on at the current revision.
fn too_old(error: StoreError, start: Option<&str>) -> ApiError {
    let StoreError::Compacted { .. } = error else { return store_error(error) };
    let Some(start) = start else {
        return ApiError::expired("The resourceVersion for the provided list is too old.");
    };
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a new \
        list without the continue parameter, or use the continue token in this response to retrieve the remainder of \
        the results. Continuing with the provided token results in an inconsistent list - objects that were created, \
        modified, or deleted between the time the first chunk was returned and now may show up in the list.";
    let mut status = ApiError::expired(message).status().clone();
    status.metadata.continue_ = Some(write_token(-1, &format!("{start}\0")));
    ApiError::from_status(status)
}
