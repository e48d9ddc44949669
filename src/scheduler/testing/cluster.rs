//! An API in memory for tests of the whole scheduler: lists, watches, bindings and status patches. Nothing is
//! validated.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{
    ApiError, CreateOptions, DeleteOptions, KindRow, Kinded, ListOptions, Object, Patch, UpdateOptions,
    WatchEvent, WatchOptions,
};
use client::{BoxFuture, EventStream, ObjectApi, ObjectList, ObjectRef};
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

type Key = (String, String, String);

#[derive(Default)]
pub(crate) struct Cluster {
    state: Mutex<State>,
    /// The latest version.
    version: watch::Sender<u64>,
    /// What the next bindings are answered with.
    pub(crate) binding_errors: Mutex<Vec<ApiError>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Value>,
    /// By version, which is the place plus one.
    history: Vec<(String, WatchEvent)>,
}

fn key(row: &KindRow, namespace: Option<&str>, name: &str) -> Key {
    (row.plural.to_string(), namespace.unwrap_or("").to_string(), name.to_string())
}

fn ready<'a, T: Send + 'a>(value: Result<T, ApiError>) -> BoxFuture<'a, Result<T, ApiError>> {
    Box::pin(std::future::ready(value))
}

impl Cluster {
    fn put(&self, row: &KindRow, mut tree: Value) -> Arc<Object> {
        tree["apiVersion"] = json!(row.api_version());
        tree["kind"] = json!(row.kind);
        let namespace = tree["metadata"]["namespace"].as_str().map(str::to_string);
        let name = tree["metadata"]["name"].as_str().unwrap().to_string();
        let mut state = self.state.lock();
        let version = state.history.len() as u64 + 1;
        let object = Arc::new(Object::from_tree(tree.clone(), version).unwrap());
        let old = state.objects.insert(key(row, namespace.as_deref(), &name), tree);
        let event = match old {
            None => WatchEvent::Added(object.clone()),
            Some(_) => WatchEvent::Modified(object.clone()),
        };
        state.history.push((row.plural.to_string(), event));
        self.version.send_replace(version);
        object
    }

    pub(crate) fn add_node(&self, node: Value) {
        self.put(Node::row(), node);
    }

    pub(crate) fn add_pod(&self, pod: Value) {
        self.put(Pod::row(), pod);
    }

    pub(crate) fn add<K: Kinded>(&self, object: Value) {
        self.put(K::row(), object);
    }

    /// An object as it is now, none if it is not there.
    pub(crate) fn object<K: Kinded>(&self, namespace: Option<&str>, name: &str) -> Value {
        self.state.lock().objects.get(&key(K::row(), namespace, name)).cloned().unwrap_or_default()
    }

    /// Returns once the object is as wanted.
    pub(crate) async fn until_object<K: Kinded>(
        &self,
        namespace: Option<&str>,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut version = self.version.subscribe();
        loop {
            let object = self.object::<K>(namespace, name);
            if wanted(&object) {
                return object;
            }
            version.changed().await.unwrap();
        }
    }

    pub(crate) fn remove_pod(&self, name: &str) {
        let mut state = self.state.lock();
        let tree = state.objects.remove(&key(Pod::row(), Some("ns"), name)).unwrap();
        let version = state.history.len() as u64 + 1;
        let object = Arc::new(Object::from_tree(tree, version).unwrap());
        state.history.push((Pod::row().plural.to_string(), WatchEvent::Deleted(object)));
        self.version.send_replace(version);
    }

    pub(crate) fn pod(&self, name: &str) -> Value {
        self.state.lock().objects.get(&key(Pod::row(), Some("ns"), name)).cloned().unwrap_or_default()
    }

    /// What the pod has been.
    pub(crate) fn past(&self, name: &str) -> Vec<Value> {
        let state = self.state.lock();
        let object = |event: &WatchEvent| match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => Some(object.tree().unwrap()),
            _ => None,
        };
        let pods = state.history.iter().filter(|(kind, _)| *kind == *Pod::row().plural);
        pods.filter_map(|(_, event)| object(event)).filter(|pod| pod["metadata"]["name"] == name).collect()
    }

    /// Returns once the pod is as wanted.
    pub(crate) async fn until(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut version = self.version.subscribe();
        loop {
            let pod = self.pod(name);
            if wanted(&pod) {
                return pod;
            }
            version.changed().await.unwrap();
        }
    }

    /// Returns once the pod is bound, with the node.
    pub(crate) async fn until_bound(&self, name: &str) -> String {
        let pod = self.until(name, |pod| pod["spec"]["nodeName"].is_string()).await;
        pod["spec"]["nodeName"].as_str().unwrap().to_string()
    }

    /// Returns once the pod's PodScheduled condition has this message; the answer is its reason.
    pub(crate) async fn until_told(&self, name: &str, message: &str) -> String {
        let condition = |pod: &Value| pod["status"]["conditions"][0].clone();
        let pod = self.until(name, |pod| condition(pod)["message"] == message).await;
        condition(&pod)["reason"].as_str().unwrap().to_string()
    }

    /// Returns once there is an event with this reason and message.
    pub(crate) async fn until_event(&self, reason: &str, message: &str) -> Value {
        let mut version = self.version.subscribe();
        loop {
            let found = {
                let state = self.state.lock();
                let mut events = state.objects.iter().filter(|(key, _)| key.0 == "events");
                events
                    .find(|(_, one)| one["reason"] == reason && one["message"] == message)
                    .map(|(_, one)| one.clone())
            };
            if let Some(found) = found {
                return found;
            }
            version.changed().await.unwrap();
        }
    }
}

impl ObjectApi for Cluster {
    fn get<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        ready(Err(ApiError::not_found(row, at.name)))
    }

    fn list<'a>(
        &'a self,
        row: &'a KindRow,
        _: Option<&'a str>,
        _: &'a ListOptions,
    ) -> BoxFuture<'a, Result<ObjectList, ApiError>> {
        let state = self.state.lock();
        let resource_version = state.history.len() as u64;
        let of_kind = state.objects.iter().filter(|(key, _)| key.0 == *row.plural);
        let object = |tree: &Value| Arc::new(Object::from_tree(tree.clone(), resource_version).unwrap());
        let items = of_kind.map(|(_, tree)| object(tree)).collect();
        ready(Ok(ObjectList { items, resource_version, ..ObjectList::default() }))
    }

    fn watch<'a>(
        &'a self,
        row: &'a KindRow,
        _: Option<&'a str>,
        options: &'a WatchOptions,
    ) -> BoxFuture<'a, Result<EventStream, ApiError>> {
        let from: usize = options.resource_version.as_ref().and_then(|text| text.parse().ok()).unwrap_or(0);
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        // What is there at once; the rest is delivered by the caller's next watch, which begins where this
        // one ends.
        let plural = row.plural.to_string();
        let mut version = self.version.subscribe();
        Box::pin(async move {
            loop {
                let events: Vec<WatchEvent> = {
                    let state = self.state.lock();
                    let later = state.history.iter().skip(from);
                    later.filter(|(kind, _)| *kind == plural).map(|(_, event)| event.clone()).collect()
                };
                if !events.is_empty() {
                    for event in events {
                        sender.unbounded_send(event).unwrap();
                    }
                    let stream: EventStream = Box::pin(receiver);
                    return Ok(stream);
                }
                version.changed().await.unwrap();
            }
        })
    }

    fn create<'a>(
        &'a self,
        row: &'a KindRow,
        namespace: Option<&'a str>,
        mut body: Value,
        _: &'a CreateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        if let Some(namespace) = namespace {
            body["metadata"]["namespace"] = json!(namespace);
        }
        ready(Ok(self.put(row, body)))
    }

    fn create_sub<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        body: Value,
        _: &'a CreateOptions,
    ) -> BoxFuture<'a, Result<Value, ApiError>> {
        assert_eq!(at.subresource, Some("binding"));
        if let Some(error) = self.binding_errors.lock().pop() {
            return ready(Err(error));
        }
        let mut pod = self.pod(at.name);
        if pod.is_null() {
            return ready(Err(ApiError::not_found(row, at.name)));
        }
        pod["spec"]["nodeName"] = body["target"]["name"].clone();
        self.put(row, pod);
        ready(Ok(Value::Null))
    }

    fn update<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        body: Value,
        _: &'a UpdateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        if !self.state.lock().objects.contains_key(&key(row, at.namespace, at.name)) {
            return ready(Err(ApiError::not_found(row, at.name)));
        }
        ready(Ok(self.put(row, body)))
    }

    fn patch<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        patch: Patch,
        _: &'a UpdateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        let key = key(row, at.namespace, at.name);
        let Some(mut tree) = self.state.lock().objects.get(&key).cloned() else {
            return ready(Err(ApiError::not_found(row, at.name)));
        };
        api::patch::apply(api::schema::for_kind(row), &mut tree, &patch).unwrap();
        ready(Ok(self.put(row, tree)))
    }

    fn delete<'a>(
        &'a self,
        _: &'a KindRow,
        at: ObjectRef<'a>,
        _: &'a DeleteOptions,
    ) -> BoxFuture<'a, Result<Option<Arc<Object>>, ApiError>> {
        self.remove_pod(at.name);
        ready(Ok(None))
    }

    fn delete_collection<'a>(
        &'a self,
        _: &'a KindRow,
        _: Option<&'a str>,
        _: &'a ListOptions,
        _: &'a DeleteOptions,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        ready(Ok(()))
    }
}
