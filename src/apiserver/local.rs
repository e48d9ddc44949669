//! The API in process: the same path as over the network, from authorization on, for one identity.
//!
//! Writes take their turn among everybody's, with the levels of [`crate::fairness`]: what a user asks of a
//! controller (a set of a billion replicas) must not take more of the server than what the user asks of the
//! server. How many calls are under way is bounded, not their rate: upstream's 20 a second
//! (`--kube-api-qps`) would hold back every rollout.

use std::pin::pin;
use std::sync::Arc;

use api::{
    ApiError, CreateOptions, DeleteOptions, FieldSelector, Identity, KindRow, ListOptions, Object, Patch,
    UpdateOptions, WatchOptions,
};
use bytes::Bytes;
use client::leader::Fence;
use client::{ApiFor, BoxFuture, EventStream, ExtensionApi, ObjectApi, ObjectList, ObjectRef, ServedKinds};
use serde_json::Value;

use crate::aggregation::reader::ExtensionReader;
use crate::audit::{Attributes, Origin, Trail};
use crate::fairness::{self, Fairness, Seat};
use crate::heavy::HEAVY;
use crate::registry::{Call, Registry, Resource, Source, Watch, unknown};

/// [`ObjectApi`] for one identity.
pub(crate) struct Local {
    registry: Arc<Registry>,
    fairness: Arc<Fairness>,
    identity: Arc<Identity>,
    fence: Option<Arc<Fence>>,
}

/// The API for any identity, under one fence: reads are as ever, writes take effect only during the fence's
/// term.
pub(crate) struct Fenced {
    pub(crate) registry: Arc<Registry>,
    pub(crate) fairness: Arc<Fairness>,
    pub(crate) fence: Arc<Fence>,
}

impl ApiFor for Fenced {
    fn as_user(&self, identity: Identity) -> Arc<dyn ObjectApi> {
        let local = Local::new(self.registry.clone(), self.fairness.clone(), identity);
        Arc::new(Local { fence: Some(self.fence.clone()), ..local })
    }

    fn served(&self) -> ServedKinds {
        self.registry.resources.served()
    }

    fn extensions(&self, identity: Identity) -> Arc<dyn ExtensionApi> {
        Arc::new(ExtensionReader::new(self.registry.clone(), identity))
    }
}

impl Local {
    pub(crate) fn new(registry: Arc<Registry>, fairness: Arc<Fairness>, identity: Identity) -> Self {
        Local { registry, fairness, identity: Arc::new(identity), fence: None }
    }

    fn call<'a>(&'a self, row: &KindRow, at: Place<'a>) -> Result<Call<'a>, ApiError> {
        let resources = self.registry.resources.load();
        let resource = resources.of_row(row)?;
        // There is no such path. Users name kinds that controllers then look up in the user's namespace.
        if at.namespace.is_some() && !resource.row.namespaced() {
            return Err(unknown());
        }
        let call = Call::new(resource, at.namespace, &self.identity);
        Ok(call.sub(at.subresource).fenced(self.fence.as_deref()))
    }
}

impl Local {
    /// What is told of a call, as if it had come over the network; none if nothing is.
    fn begin(
        &self,
        row: &KindRow,
        verb: &str,
        (at, name): (Place<'_>, Option<&str>),
        body: Option<&Value>,
    ) -> Result<Option<Arc<Trail>>, ApiError> {
        let Some(audit) = &self.registry.config.audit else { return Ok(None) };
        let namespace = at.namespace;
        let mut uri = if row.group.is_empty() { "/api".to_string() } else { format!("/apis/{}", row.group) };
        uri.push_str(&format!("/{}", row.version));
        for (part, value) in
            [("/namespaces/", namespace), ("/", Some(&*row.plural)), ("/", name), ("/", at.subresource)]
        {
            if let Some(value) = value {
                uri.push_str(part);
                uri.push_str(value);
            }
        }
        if verb == "watch" {
            uri.push_str("?watch=true");
        }
        let text = |part: Option<&str>| part.unwrap_or_default().to_string();
        let what = Attributes {
            verb: verb.to_string(),
            path: uri.split('?').next().unwrap_or_default().to_string(),
            is_resource: true,
            group: row.group.to_string(),
            version: row.version.to_string(),
            resource: row.plural.to_string(),
            subresource: text(at.subresource),
            namespace: text(namespace),
            name: text(name),
        };
        let origin = || Origin {
            uri,
            source_ips: vec!["127.0.0.1".to_string()],
            user_agent: "minik8s".to_string(),
            ..Origin::default()
        };
        let trail = audit.begin(&self.identity, what, origin)?;
        if let (Some(trail), Some(body)) = (&trail, body) {
            if verb != "patch" {
                trail.about(body);
            }
            trail.request_tree(body);
        }
        Ok(trail)
    }

    /// Whether the identity may do this; else the 403.
    fn authorize(
        &self,
        call: &Call<'_>,
        verb: &str,
        name: Option<&str>,
        fields: Option<&FieldSelector>,
    ) -> Result<(), ApiError> {
        let decided = self.registry.authorize(call, verb, name, fields);
        if let Some(trail) = &call.trail {
            trail.decided(decided.is_ok());
        }
        decided
    }
}

/// Tells of the end of a call that has a trail.
fn ended<T>(
    trail: Option<&Arc<Trail>>,
    outcome: Result<T, ApiError>,
    shown: impl FnOnce(&T) -> Option<Bytes>,
) -> Result<T, ApiError> {
    if let Some(trail) = trail {
        trail.ended(&outcome, shown);
    }
    outcome
}

fn json(object: &Arc<Object>) -> Option<Bytes> {
    Some(object.to_json())
}

impl Local {
    /// A write of so many bytes, of an object that is there if it has a name, when its turn has come; what is
    /// large leaves the reactor's threads.
    async fn paced<F>(
        &self,
        call: &Call<'_>,
        verb: &str,
        name: Option<&str>,
        body: usize,
        work: F,
    ) -> F::Output
    where
        F: Future + Unpin,
    {
        let weight = self.registry.weight(call, name, body);
        let _seat = self.seat(call, verb, body).await;
        self.registry.turns.run(&self.identity.name, weight, work).await
    }

    async fn seat(&self, call: &Call<'_>, verb: &str, body: usize) -> Seat {
        let row = call.row();
        let request = fairness::Request {
            user: &self.identity,
            verb,
            group: &row.group,
            resource: &row.plural,
            subresource: call.subresource,
            namespace: call.namespace,
        };
        self.fairness.seat_in_process(&request, body).await
    }
}

/// Where a call goes.
struct Place<'a> {
    namespace: Option<&'a str>,
    subresource: Option<&'a str>,
}

impl<'a> From<ObjectRef<'a>> for Place<'a> {
    fn from(at: ObjectRef<'a>) -> Self {
        Place { namespace: at.namespace, subresource: at.subresource }
    }
}

impl<'a> From<Option<&'a str>> for Place<'a> {
    fn from(namespace: Option<&'a str>) -> Self {
        Place { namespace, subresource: None }
    }
}

impl ObjectApi for Local {
    fn get<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        Box::pin(async move {
            let trail = self.begin(row, "get", (at.into(), Some(at.name)), None)?;
            let work = pin!(async {
                let call = self.call(row, at.into())?.told_by(trail.clone());
                self.authorize(&call, "get", Some(at.name), None)?;
                self.registry.read(&call, at.name, None).await
            });
            ended(trail.as_ref(), work.await, json)
        })
    }

    fn list<'a>(
        &'a self,
        row: &'a KindRow,
        namespace: Option<&'a str>,
        options: &'a ListOptions,
    ) -> BoxFuture<'a, Result<ObjectList, ApiError>> {
        Box::pin(async move {
            let trail = self.begin(row, "list", (namespace.into(), None), None)?;
            let work = pin!(async {
                let call = self.call(row, namespace.into())?.told_by(trail.clone());
                self.authorize(&call, "list", None, Some(&options.fields))?;
                self.registry.list(&call, options).await
            });
            ended(trail.as_ref(), work.await, |_| None)
        })
    }

    fn watch<'a>(
        &'a self,
        row: &'a KindRow,
        namespace: Option<&'a str>,
        options: &'a WatchOptions,
    ) -> BoxFuture<'a, Result<EventStream, ApiError>> {
        Box::pin(async move {
            let trail = self.begin(row, "watch", (namespace.into(), None), None)?;
            let work = pin!(async {
                let call = self.call(row, namespace.into())?.told_by(trail.clone());
                self.authorize(&call, "watch", None, Some(&options.fields))?;
                let watch = self.registry.watch(&call, options).await?;
                Ok((watch, call.resource.clone()))
            });
            match work.await {
                Ok((watch, resource)) => Ok(stream(watch, resource, trail.clone().map(Followed::new))),
                Err(error) => ended(trail.as_ref(), Err(error), |_| None),
            }
        })
    }

    fn create<'a>(
        &'a self,
        row: &'a KindRow,
        namespace: Option<&'a str>,
        body: Value,
        options: &'a CreateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        Box::pin(async move {
            let trail = self.begin(row, "create", (namespace.into(), None), Some(&body))?;
            let work = pin!(async {
                let call = self.call(row, namespace.into())?.dry(options.dry_run).told_by(trail.clone());
                self.authorize(&call, "create", None, None)?;
                let size = size(&body);
                let work = pin!(self.registry.create(&call, body, &[], options));
                self.paced(&call, "create", None, size, work).await
            });
            ended(trail.as_ref(), work.await, json)
        })
    }

    fn create_sub<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        body: Value,
        options: &'a CreateOptions,
    ) -> BoxFuture<'a, Result<Value, ApiError>> {
        Box::pin(async move {
            let trail = self.begin(row, "create", (at.into(), Some(at.name)), Some(&body))?;
            let work = pin!(async {
                let call = self.call(row, at.into())?.dry(options.dry_run).told_by(trail.clone());
                self.authorize(&call, "create", Some(at.name), None)?;
                let size = size(&body);
                let work = pin!(self.registry.post(&call, at.name, body, &[], options));
                self.paced(&call, "create", Some(at.name), size, work).await
            });
            ended(trail.as_ref(), work.await, |tree| serde_json::to_vec(tree).ok().map(Bytes::from))
        })
    }

    fn update<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        body: Value,
        options: &'a UpdateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        Box::pin(async move {
            let trail = self.begin(row, "update", (at.into(), Some(at.name)), Some(&body))?;
            let work = pin!(async {
                let call = self.call(row, at.into())?.dry(options.dry_run).told_by(trail.clone());
                self.authorize(&call, "update", Some(at.name), None)?;
                let size = size(&body);
                let work = pin!(self.registry.write(&call, at.name, Source::Body(body, &[]), options));
                self.paced(&call, "update", Some(at.name), size, work).await
            });
            ended(trail.as_ref(), work.await, json)
        })
    }

    fn patch<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        patch: Patch,
        options: &'a UpdateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        Box::pin(async move {
            let trail = self.begin(row, "patch", (at.into(), Some(at.name)), Some(&patch.body))?;
            let work = pin!(async {
                let call = self.call(row, at.into())?.dry(options.dry_run).told_by(trail.clone());
                self.authorize(&call, "patch", Some(at.name), None)?;
                let size = size(&patch.body);
                let work = pin!(self.registry.write(&call, at.name, Source::Patch(&patch), options));
                self.paced(&call, "patch", Some(at.name), size, work).await
            });
            ended(trail.as_ref(), work.await, json)
        })
    }

    fn delete<'a>(
        &'a self,
        row: &'a KindRow,
        at: ObjectRef<'a>,
        options: &'a DeleteOptions,
    ) -> BoxFuture<'a, Result<Option<Arc<Object>>, ApiError>> {
        Box::pin(async move {
            let trail = self.begin(row, "delete", (at.into(), Some(at.name)), None)?;
            let work = pin!(async {
                let call = self.call(row, at.into())?.dry(options.dry_run).told_by(trail.clone());
                self.authorize(&call, "delete", Some(at.name), None)?;
                call.check_verb("delete")?;
                let work = pin!(self.registry.delete(&call, at.name, options));
                self.paced(&call, "delete", Some(at.name), 0, work).await.map(|deleted| Some(deleted.object))
            });
            ended(trail.as_ref(), work.await, |object| object.as_ref().and_then(json))
        })
    }

    fn delete_collection<'a>(
        &'a self,
        row: &'a KindRow,
        namespace: Option<&'a str>,
        list: &'a ListOptions,
        options: &'a DeleteOptions,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            let trail = self.begin(row, "deletecollection", (namespace.into(), None), None)?;
            let work = pin!(async {
                let call = self.call(row, namespace.into())?.dry(options.dry_run).told_by(trail.clone());
                self.authorize(&call, "deletecollection", None, Some(&list.fields))?;
                let work = pin!(self.registry.delete_collection(&call, list, options));
                let _seat = self.seat(&call, "deletecollection", 0).await;
                self.registry.turns.run(&self.identity.name, HEAVY, work).await.map(drop)
            });
            ended(trail.as_ref(), work.await, |()| None)
        })
    }
}

/// About how many bytes a tree takes in writing; what is heavy is not counted to its end. A user's object can
/// make what a component writes large: a template is copied into every pod that is made from it.
fn size(tree: &Value) -> usize {
    let mut bytes = 0;
    let mut open = vec![tree];
    while let Some(tree) = open.pop() {
        bytes += match tree {
            Value::String(text) => text.len() + 2,
            Value::Array(items) => {
                open.extend(items);
                2
            }
            Value::Object(members) => {
                open.extend(members.values());
                members.keys().map(|key| key.len() + 4).sum::<usize>()
            }
            _ => 4,
        };
        if bytes >= HEAVY {
            break;
        }
    }
    bytes
}

/// The trail of a watch, which ends when it is dropped.
struct Followed(Arc<Trail>);

impl Followed {
    fn new(trail: Arc<Trail>) -> Self {
        trail.started(200);
        Followed(trail)
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.0.complete(200, None);
    }
}

/// A watch as a stream, in the row's version.
fn stream(watch: Watch, resource: Arc<Resource>, followed: Option<Followed>) -> EventStream {
    let state = (watch, resource, followed);
    Box::pin(futures::stream::unfold(state, |(mut watch, resource, followed)| async move {
        loop {
            let event = watch.next().await?;
            if let Some(event) = watch.outward(&resource, event).await {
                return Some((event, (watch, resource, followed)));
            }
        }
    }))
}

#[cfg(test)]
mod tests;
