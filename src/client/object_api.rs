//! The untyped interface to the API that every component uses.
//!
//! Object-safe on purpose: components are compiled once, not once per transport.

use std::pin::Pin;
use std::sync::Arc;

use api::{
    ApiError, CreateOptions, DeleteOptions, Identity, KindRow, ListOptions, Object, Patch, UpdateOptions,
    WatchEvent, WatchOptions,
};
use futures::Stream;
use serde_json::Value;

use crate::ServedKinds;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Ends after an error event, at the watch's timeout, or when the server goes away.
pub type EventStream = Pin<Box<dyn Stream<Item = WatchEvent> + Send>>;

/// Where an object is: its namespace (none for cluster-scoped kinds), name and, for a call on part of it, the
/// subresource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectRef<'a> {
    pub namespace: Option<&'a str>,
    pub name: &'a str,
    pub subresource: Option<&'a str>,
}

impl<'a> ObjectRef<'a> {
    pub fn new(namespace: Option<&'a str>, name: &'a str) -> Self {
        ObjectRef { namespace, name, subresource: None }
    }

    pub fn of(object: &'a Object) -> Self {
        Self::new(object.namespace(), object.name())
    }

    #[expect(clippy::should_implement_trait, reason = "nobody subtracts from an object")]
    pub fn sub(self, subresource: &'a str) -> Self {
        ObjectRef { subresource: Some(subresource), ..self }
    }
}

/// The result of a list.
#[derive(Clone, Debug, Default)]
pub struct ObjectList {
    pub items: Vec<Arc<Object>>,
    /// Version to start a watch from.
    pub resource_version: u64,
    /// Token of the next page, if there is one, and how many items remain if that is known.
    pub continue_token: Option<String>,
    pub remaining: Option<u64>,
}

/// Calls on objects of any kind. Every failure is a `Status`.
///
/// Bodies are JSON trees with `apiVersion` and `kind`. What comes back is the object in the row's version.
pub trait ObjectApi: Send + Sync {
    fn get<'a>(&'a self, row: &'a KindRow, at: ObjectRef<'a>)
    -> BoxFuture<'a, Result<Arc<Object>, ApiError>>;

    /// All namespaces if `namespace` is none.
    fn list<'a>(
        &'a self,
        row: &'a KindRow,
        namespace: Option<&'a str>,
        options: &'a ListOptions,
    ) -> BoxFuture<'a, Result<ObjectList, ApiError>>;

    fn watch<'a>(
        &'a self,
        row: &'a KindRow,
        namespace: Option<&'a str>,
        options: &'a WatchOptions,
    ) -> BoxFuture<'a, Result<EventStream, ApiError>>;

    /// Creates an object; its name, or `metadata.generateName`, is in the body.
    fn create<'a>(
        &'a self,
        row: &'a KindRow,
        namespace: Option<&'a str>,
        body: Value,
        options: &'a CreateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>>;

    /// Posts to a subresource such as `binding`, `eviction` or `token`; answers with the body that the server
    /// sent.
    fn create_sub<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        body: Value,
        options: &'a CreateOptions,
    ) -> BoxFuture<'a, Result<Value, ApiError>>;

    fn update<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        body: Value,
        options: &'a UpdateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>>;

    fn patch<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        patch: Patch,
        options: &'a UpdateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>>;

    /// The object's last state, or its state marked for deletion if grace or finalizers keep it; none where
    /// the server only answers `Success`.
    fn delete<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        options: &'a DeleteOptions,
    ) -> BoxFuture<'a, Result<Option<Arc<Object>>, ApiError>>;

    /// Deletes all objects that the selectors of `list` match.
    fn delete_collection<'a>(
        &'a self,
        row: &'a KindRow,
        namespace: Option<&'a str>,
        list: &'a ListOptions,
        options: &'a DeleteOptions,
    ) -> BoxFuture<'a, Result<(), ApiError>>;
}

/// Something that can act for any user, as the API server's registry can in process.
pub trait ApiFor: Send + Sync {
    /// The API as this user sees it: authorization and admission apply as they would over the network.
    fn as_user(&self, identity: Identity) -> Arc<dyn ObjectApi>;

    /// The kinds that are served, as they come and go.
    fn served(&self) -> ServedKinds;

    /// What other API servers serve behind this one, as this user sees it.
    fn extensions(&self, identity: Identity) -> Arc<dyn ExtensionApi>;
}

/// Groups of other API servers, which an `APIService` names. They are read by path: kinds that this server
/// does not have are not described here.
pub trait ExtensionApi: Send + Sync {
    /// The versions of a group that can be had now, the preferred one first.
    fn versions(&self, group: &str) -> Vec<String>;

    /// The document at a path with its query, such as `/apis/external.metrics.k8s.io/v1beta1/…`.
    fn read<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Value, ApiError>>;
}
