//! How many objects are converted at once, and by whom.

use api::{DeleteOptions, Identity, ListOptions, kinds};
use client::BoxFuture;
use parking_lot::Mutex;
use serde_json::json;

use super::super::resource::built_in;
use super::super::{Call, Conversion};
use super::*;
use crate::cache::Caches;
use crate::testing::{Harness, master};

const OBJECT: usize = 30_000;

/// Counts the objects of each conversion.
#[derive(Default)]
struct Counting {
    batches: Mutex<Vec<usize>>,
    question: Option<usize>,
    fails: bool,
}

impl Conversion for Counting {
    fn convert<'a>(
        &'a self,
        mut objects: Vec<Value>,
        version: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Value>, ApiError>> {
        self.batches.lock().push(objects.len());
        objects.iter_mut().for_each(|object| object["apiVersion"] = json!(version));
        let answer = if self.fails { Err(ApiError::internal("no")) } else { Ok(objects) };
        Box::pin(std::future::ready(answer))
    }

    fn question(&self) -> Option<usize> {
        self.question
    }
}

/// Events in another version than the stored one.
fn resource(counting: Counting, caches: &Caches) -> (Arc<Resource>, Arc<Counting>) {
    let counting = Arc::new(counting);
    let mut resource = built_in(kinds::by_kind("events.k8s.io/v1", "Event").unwrap(), caches);
    resource.conversion = Some(counting.clone());
    (Arc::new(resource), counting)
}

fn event(name: &str, size: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event", "metadata": { "name": name, "annotations": { "k": "x".repeat(size) } },
        "involvedObject": { "namespace": "default" },
    })
}

async fn converted(counting: Counting, sizes: &[usize]) -> (Result<Vec<String>, ApiError>, Vec<usize>) {
    let (resource, counting) = resource(counting, &Caches::new());
    let object = |size: &usize| Arc::new(Object::from_tree(event("e", *size), 7).unwrap());
    let objects = sizes.iter().map(object).collect();
    let shown = resource.outward_all(objects, (&Turns::new(), "user")).await;
    let version = |object: &Arc<Object>| object.api_version().unwrap_or_default().to_string();
    (shown.map(|shown| shown.iter().map(version).collect()), counting.batches.lock().clone())
}

#[tokio::test]
async fn one_object_at_a_time_is_a_tree() {
    let (shown, batches) = converted(Counting::default(), &[OBJECT, OBJECT, 1, OBJECT]).await;
    assert_eq!(shown.unwrap(), ["events.k8s.io/v1"; 4]);
    assert_eq!(batches, [1; 4]);
}

#[tokio::test]
async fn another_server_is_asked_about_as_many_as_fit_into_a_question() {
    let asks = || Counting { question: Some(4 * OBJECT), ..Counting::default() };
    let (shown, batches) = converted(asks(), &[OBJECT; 10]).await;
    assert_eq!((shown.unwrap().len(), batches), (10, vec![3, 3, 3, 1]));
    let (_, batches) = converted(asks(), &[1, 1, 9 * OBJECT, 1]).await;
    assert_eq!(batches, [2, 1, 1]);
    let (shown, batches) = converted(Counting { fails: true, ..asks() }, &[OBJECT; 10]).await;
    assert_eq!((shown.unwrap_err().code(), batches.len()), (500, 1));
}

#[tokio::test]
async fn a_deletion_of_a_collection_converts_nothing_itself() {
    let h = Harness::start().await;
    for name in ["a", "b", "c"] {
        h.create(&kinds::EVENT, Some("default"), event(name, 1)).await;
    }
    let registry = &h.server.registry;
    let (resource, counting) = resource(Counting::default(), &registry.caches);
    let user: Identity = master();
    let call = Call::new(&resource, Some("default"), &user);
    let everything = ListOptions::default();
    assert_eq!(registry.list_stored(&call, &everything).await.unwrap().items.len(), 3);
    let deleted = registry.delete_collection(&call, &everything, &DeleteOptions::default()).await.unwrap();
    assert_eq!((deleted.len(), counting.batches.lock().len()), (3, 0));
    let left = registry.list(&call, &everything).await.unwrap();
    assert!(left.items.is_empty());
    h.stop().await;
}
