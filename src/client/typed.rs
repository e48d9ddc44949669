//! `Api<K>`: the typed face of [`ObjectApi`], as kube-rs users know it.

use std::marker::PhantomData;
use std::sync::Arc;

use api::{
    ApiError, CreateOptions, DeleteOptions, Kinded, ListOptions, Object, Patch, UpdateOptions, WatchOptions,
};
use serde_json::{Value, json};

use crate::{EventStream, ObjectApi, ObjectRef};

/// Calls on one kind, in one namespace or in all.
pub struct Api<K> {
    inner: Arc<dyn ObjectApi>,
    namespace: Option<String>,
    kind: PhantomData<fn() -> K>,
}

/// Shorthand for the outcome of a call.
pub type ApiStatus<T> = Result<T, ApiError>;

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Api { inner: self.inner.clone(), namespace: self.namespace.clone(), kind: PhantomData }
    }
}

impl<K: Kinded> Api<K> {
    /// For cluster-scoped kinds, and for lists and watches over all namespaces.
    pub fn all(inner: Arc<dyn ObjectApi>) -> Self {
        Api { inner, namespace: None, kind: PhantomData }
    }

    pub fn namespaced(inner: Arc<dyn ObjectApi>, namespace: &str) -> Self {
        Api { inner, namespace: Some(namespace.to_string()), kind: PhantomData }
    }

    fn at<'a>(&'a self, name: &'a str) -> ObjectRef<'a> {
        ObjectRef::new(self.namespace.as_deref(), name)
    }

    pub async fn get(&self, name: &str) -> ApiStatus<Arc<K>> {
        typed(self.inner.get(K::row(), self.at(name)).await?)
    }

    /// `None` if there is no such object.
    pub async fn find(&self, name: &str) -> ApiStatus<Option<Arc<K>>> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub async fn list(&self, options: &ListOptions) -> ApiStatus<Vec<Arc<K>>> {
        let list = self.inner.list(K::row(), self.namespace.as_deref(), options).await?;
        list.items.into_iter().map(typed).collect()
    }

    pub async fn watch(&self, options: &WatchOptions) -> ApiStatus<EventStream> {
        self.inner.watch(K::row(), self.namespace.as_deref(), options).await
    }

    pub async fn create(&self, object: &K) -> ApiStatus<Arc<K>> {
        let options = CreateOptions::default();
        typed(self.inner.create(K::row(), self.namespace.as_deref(), tree(object)?, &options).await?)
    }

    pub async fn update(&self, object: &K) -> ApiStatus<Arc<K>> {
        self.put(object, None).await
    }

    pub async fn update_status(&self, object: &K) -> ApiStatus<Arc<K>> {
        self.put(object, Some("status")).await
    }

    async fn put(&self, object: &K, subresource: Option<&str>) -> ApiStatus<Arc<K>> {
        let name = object.metadata().name.clone().unwrap_or_default();
        let namespace = object.metadata().namespace.clone().or_else(|| self.namespace.clone());
        let at = ObjectRef { namespace: namespace.as_deref(), name: &name, subresource };
        typed(self.inner.update(K::row(), at, tree(object)?, &UpdateOptions::default()).await?)
    }

    pub async fn patch(&self, name: &str, patch: Patch) -> ApiStatus<Arc<K>> {
        typed(self.inner.patch(K::row(), self.at(name), patch, &UpdateOptions::default()).await?)
    }

    pub async fn patch_status(&self, name: &str, patch: Patch) -> ApiStatus<Arc<K>> {
        let at = self.at(name).sub("status");
        typed(self.inner.patch(K::row(), at, patch, &UpdateOptions::default()).await?)
    }

    pub async fn delete(&self, name: &str, options: &DeleteOptions) -> ApiStatus<()> {
        self.inner.delete(K::row(), self.at(name), options).await.map(|_| ())
    }

    /// Posts a body to a subresource, such as `binding` of a pod.
    pub async fn create_sub(&self, name: &str, subresource: &str, body: Value) -> ApiStatus<Value> {
        let at = self.at(name).sub(subresource);
        self.inner.create_sub(K::row(), at, body, &CreateOptions::default()).await
    }
}

fn typed<K: Kinded>(object: Arc<Object>) -> ApiStatus<Arc<K>> {
    object.typed::<K>().map_err(|error| ApiError::internal(format!("decoding {object:?}: {error}")))
}

/// The JSON tree of a typed object. k8s-openapi's types write their own `apiVersion` and `kind`.
fn tree<K: Kinded>(object: &K) -> ApiStatus<Value> {
    let mut tree = object.to_tree().map_err(|error| ApiError::internal(format!("encoding: {error}")))?;
    if tree.get("kind").is_none() {
        tree["apiVersion"] = json!(K::row().api_version());
        tree["kind"] = json!(K::row().kind);
    }
    Ok(tree)
}
