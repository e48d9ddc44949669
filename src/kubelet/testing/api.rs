//! An API that holds pods and writes down what is changed in them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use api::{
    ApiError, CreateOptions, DeleteOptions, KindRow, ListOptions, Object, Patch, UpdateOptions, WatchOptions,
    schema,
};
use client::{BoxFuture, EventStream, ObjectApi, ObjectList, ObjectRef};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Journal;

/// Answers calls about pods; other kinds are empty.
pub(crate) struct PodApi {
    journal: Journal,
    pods: Mutex<HashMap<String, (Value, u64)>>,
    failures: Mutex<HashMap<&'static str, VecDeque<ApiError>>>,
    /// What is made of objects that are created, by kind: reviews, say, are answered.
    answers: Mutex<HashMap<&'static str, Change>>,
}

type Change = Box<dyn Fn(&mut Value) + Send>;

type Answer<'a, T> = BoxFuture<'a, Result<T, ApiError>>;

fn answer<'a, T: Send + 'a>(answer: Result<T, ApiError>) -> Answer<'a, T> {
    Box::pin(std::future::ready(answer))
}

fn object(tree: &Value, version: u64) -> Arc<Object> {
    Arc::new(Object::from_tree(tree.clone(), version).unwrap())
}

impl PodApi {
    pub(super) fn new(journal: Journal) -> Self {
        PodApi { journal, pods: Mutex::default(), failures: Mutex::default(), answers: Mutex::default() }
    }

    pub(crate) fn put(&self, pod: &Pod) {
        let mut tree = serde_json::to_value(pod).unwrap();
        tree["apiVersion"] = json!("v1");
        tree["kind"] = json!("Pod");
        self.put_object(tree);
    }

    /// An object of any kind, to be read.
    pub(crate) fn put_object(&self, tree: Value) {
        let name = tree["metadata"]["name"].as_str().unwrap().to_string();
        self.pods.lock().insert(name, (tree, 1));
    }

    /// Objects of this kind are changed so when they are created.
    pub(crate) fn answer(&self, kind: &'static str, change: impl Fn(&mut Value) + Send + 'static) {
        self.answers.lock().insert(kind, Box::new(change));
    }

    /// The next call of this verb fails so.
    pub(crate) fn fail(&self, verb: &'static str, error: ApiError) {
        self.failures.lock().entry(verb).or_default().push_back(error);
    }

    fn failure(&self, verb: &str) -> Option<ApiError> {
        self.failures.lock().get_mut(verb)?.pop_front()
    }

    /// Changes a pod as somebody else would; the pod as it is then.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Value)) -> Pod {
        let mut pods = self.pods.lock();
        let (tree, version) = pods.get_mut(name).unwrap();
        change(tree);
        *version += 1;
        tree["metadata"]["resourceVersion"] = json!(version.to_string());
        serde_json::from_value(tree.clone()).unwrap()
    }

    pub(crate) fn status(&self, name: &str) -> Value {
        self.pods.lock().get(name).map(|(tree, _)| tree["status"].clone()).unwrap_or_default()
    }

    pub(crate) fn holds(&self, name: &str) -> bool {
        self.pods.lock().contains_key(name)
    }

    fn patch_pod(&self, row: &KindRow, at: ObjectRef<'_>, patch: &Patch) -> Result<Arc<Object>, ApiError> {
        if let Some(error) = self.failure("patch") {
            self.journal.note(format!("patch refused: {}", error.code()));
            return Err(error);
        }
        let mut pods = self.pods.lock();
        let Some((tree, version)) = pods.get_mut(at.name) else {
            return Err(ApiError::not_found(row, at.name));
        };
        api::patch::apply(schema::for_kind(row), tree, patch)?;
        *version += 1;
        let status = &tree["status"];
        let ready = status["conditions"].as_array().into_iter().flatten();
        let ready = ready.filter(|one| one["type"] == "Ready").any(|one| one["status"] == "True");
        let ready = if ready { ", ready" } else { "" };
        self.journal.note(format!("status {}{ready}", status["phase"].as_str().unwrap_or_default()));
        Ok(object(tree, *version))
    }
}

impl ObjectApi for PodApi {
    fn get<'a>(&'a self, row: &'a KindRow, at: ObjectRef<'a>) -> Answer<'a, Arc<Object>> {
        let pods = self.pods.lock();
        let found = pods.get(at.name).filter(|(tree, _)| tree["kind"] == *row.kind);
        answer(found.map(|(tree, version)| object(tree, *version)).ok_or(ApiError::not_found(row, at.name)))
    }

    fn list<'a>(
        &'a self,
        row: &'a KindRow,
        _namespace: Option<&'a str>,
        _options: &'a ListOptions,
    ) -> Answer<'a, ObjectList> {
        let pods = self.pods.lock();
        let pods = pods.values().filter(|(tree, _)| tree["kind"] == *row.kind);
        let items = pods.map(|(tree, version)| object(tree, *version)).collect();
        answer(Ok(ObjectList { items, resource_version: 1, ..ObjectList::default() }))
    }

    fn watch<'a>(
        &'a self,
        _row: &'a KindRow,
        _namespace: Option<&'a str>,
        _options: &'a WatchOptions,
    ) -> Answer<'a, EventStream> {
        let silent: EventStream = Box::pin(futures::stream::pending());
        answer(Ok(silent))
    }

    fn create<'a>(
        &'a self,
        row: &'a KindRow,
        _namespace: Option<&'a str>,
        mut body: Value,
        _options: &'a CreateOptions,
    ) -> Answer<'a, Arc<Object>> {
        if let Some(error) = self.failure("create") {
            return answer(Err(error));
        }
        let change = self.answers.lock();
        if let Some(change) = change.get(&*row.kind) {
            change(&mut body);
            self.journal.note(format!("create {}", row.kind));
        }
        drop(change);
        answer(Ok(object(&body, 1)))
    }

    fn create_sub<'a>(
        &'a self,
        _row: &'a KindRow,
        at: ObjectRef<'a>,
        _body: Value,
        _options: &'a CreateOptions,
    ) -> Answer<'a, Value> {
        self.journal.note(format!("create {} of {}", at.subresource.unwrap_or_default(), at.name));
        if let Some(error) = self.failure("create_sub") {
            return answer(Err(error));
        }
        answer(Ok(json!({"status": {"token": "t", "expirationTimestamp": "2126-01-01T00:00:00Z"}})))
    }

    fn update<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        _body: Value,
        _options: &'a UpdateOptions,
    ) -> Answer<'a, Arc<Object>> {
        answer(Err(ApiError::not_found(row, at.name)))
    }

    fn patch<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        patch: Patch,
        _options: &'a UpdateOptions,
    ) -> Answer<'a, Arc<Object>> {
        answer(self.patch_pod(row, at, &patch))
    }

    fn delete<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        _options: &'a DeleteOptions,
    ) -> Answer<'a, Option<Arc<Object>>> {
        if let Some(error) = self.failure("delete") {
            self.journal.note(format!("delete refused: {}", error.code()));
            return answer(Err(error));
        }
        self.journal.note(format!("delete {}", at.name));
        let removed = self.pods.lock().remove(at.name);
        answer(removed.map(|_| None).ok_or(ApiError::not_found(row, at.name)))
    }

    fn delete_collection<'a>(
        &'a self,
        _row: &'a KindRow,
        _namespace: Option<&'a str>,
        _list: &'a ListOptions,
        _options: &'a DeleteOptions,
    ) -> Answer<'a, ()> {
        answer(Ok(()))
    }
}
