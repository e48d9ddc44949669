//! A whole API server over a store in memory, for tests.

use std::sync::Arc;
use std::time::Duration;

use api::{
    ApiError, CreateOptions, DeleteOptions, Identity, KindRow, ListOptions, Object, Patch, UpdateOptions,
    WatchEvent, WatchOptions,
};
use client::{ApiFor, ObjectApi, ObjectRef};
use embedded_store::MemoryStore;
use futures::StreamExt;
use serde_json::{Value, json};
use supervisor::Supervisor;

use crate::{ApiServer, Config};

mod fixture;

pub(crate) use fixture::config;

/// Longer than anything in a test takes.
const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Harness {
    pub(crate) server: Arc<ApiServer>,
    pub(crate) supervisor: Supervisor,
    pub(crate) store: Arc<MemoryStore>,
    /// As a master.
    pub(crate) api: Arc<dyn ObjectApi>,
}

pub(crate) fn master() -> Identity {
    Identity::user("admin", [api::identity::GROUP_MASTERS])
}

impl Harness {
    pub(crate) async fn start() -> Harness {
        Self::with(config()).await
    }

    pub(crate) async fn with(config: Config) -> Harness {
        Self::over(Arc::new(MemoryStore::new()), config).await
    }

    /// A server over a store that may have another.
    pub(crate) async fn over(store: Arc<MemoryStore>, config: Config) -> Harness {
        let supervisor = Supervisor::new();
        let server = ApiServer::start(config, store.clone(), &supervisor.stage("API server")).await.unwrap();
        let api = server.as_user(master());
        Harness { server, supervisor, store, api }
    }

    pub(crate) async fn create(&self, row: &KindRow, namespace: Option<&str>, body: Value) -> Arc<Object> {
        self.api.create(row, namespace, body, &CreateOptions::default()).await.unwrap()
    }

    pub(crate) async fn config_map(&self, name: &str) -> Arc<Object> {
        let body = json!({ "metadata": { "name": name, "labels": { "app": name } }, "data": { "k": "v" } });
        self.create(&api::kinds::CONFIG_MAP, Some("default"), body).await
    }

    /// Creates an object and gives its tree, or the faults that it was refused for.
    pub(crate) async fn try_create(
        &self,
        row: &KindRow,
        namespace: Option<&str>,
        body: Value,
    ) -> Result<Value, Vec<String>> {
        let created = self.api.create(row, namespace, body, &CreateOptions::default()).await;
        created.map(|object| object.tree().unwrap()).map_err(|error| faults(&error))
    }

    /// Changes an object, or a part of it, by a merge patch.
    pub(crate) async fn try_patch(
        &self,
        row: &KindRow,
        at: ObjectRef<'_>,
        change: Value,
    ) -> Result<Value, Vec<String>> {
        let patched = self.api.patch(row, at, Patch::merge(change), &UpdateOptions::default()).await;
        patched.map(|object| object.tree().unwrap()).map_err(|error| faults(&error))
    }

    pub(crate) async fn get(
        &self,
        row: &KindRow,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, ApiError> {
        let object = self.api.get(row, ObjectRef::new(namespace, name)).await?;
        Ok(object.tree().unwrap())
    }

    pub(crate) async fn delete(
        &self,
        row: &KindRow,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, ApiError> {
        let options = DeleteOptions::default();
        let object = self.api.delete(row, ObjectRef::new(namespace, name), &options).await?;
        Ok(object.unwrap().tree().unwrap())
    }

    pub(crate) async fn names(&self, row: &KindRow, options: &ListOptions) -> Vec<String> {
        let list = self.api.list(row, Some("default"), options).await.unwrap();
        list.items.iter().map(|object| object.name().to_string()).collect()
    }

    pub(crate) async fn watch(&self, row: &KindRow, options: &WatchOptions) -> Events {
        Events(self.api.watch(row, Some("default"), options).await.unwrap())
    }

    pub(crate) async fn stop(self) {
        self.supervisor.shutdown(TIMEOUT).await;
    }
}

/// The causes of a refusal, `field: message` each; of one without causes its message.
pub(crate) fn faults(error: &ApiError) -> Vec<String> {
    let causes =
        error.status().details.as_ref().and_then(|details| details.causes.clone()).unwrap_or_default();
    if causes.is_empty() {
        return vec![error.message().to_string()];
    }
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    causes.iter().map(|cause| format!("{}: {}", text(&cause.field), text(&cause.message))).collect()
}

/// The messages of a watch as short texts: `ADDED name`.
pub(crate) struct Events(pub(crate) client::EventStream);

impl Events {
    pub(crate) async fn next(&mut self) -> String {
        tokio::time::timeout(TIMEOUT, self.next_unbounded()).await.expect("an event in time")
    }

    /// [`Events::next`] for tests that hold the clock themselves.
    pub(crate) async fn next_unbounded(&mut self) -> String {
        match self.0.next().await {
            None => "the end".into(),
            Some(WatchEvent::Added(object)) => format!("ADDED {}", object.name()),
            Some(WatchEvent::Modified(object)) => format!("MODIFIED {}", object.name()),
            Some(WatchEvent::Deleted(object)) => format!("DELETED {}", object.name()),
            Some(WatchEvent::Bookmark { initial_events_end, .. }) => format!("BOOKMARK {initial_events_end}"),
            Some(WatchEvent::Error(error)) => format!("ERROR {} {}", error.code(), error.reason()),
        }
    }
}

/// A Deployment that passes validation.
pub(crate) fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "c", "image": "image:1" }] },
            },
        },
    })
}

/// A Pod that passes validation.
pub(crate) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "serviceAccountName": "default", "automountServiceAccountToken": false,
                  "containers": [{ "name": "c", "image": "image:1" }] },
    })
}
