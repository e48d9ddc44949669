//! What every controller is started with, and how its workers run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, Identity, KindRow, Object};
use client::events::Recorder;
use client::{
    ApiFor, BoxFuture, Change, ExtensionApi, Informer, Informers, ObjectApi, Served, ServedKinds,
    Subscription, WorkQueue,
};
use k8s_openapi::api::core::v1::Pod;
use supervisor::{OnExit, Stage};

use crate::Config;
use crate::owned::Owned;

/// Namespace and name. The namespace is empty for cluster-scoped kinds.
pub(crate) type Key = (String, String);

/// The outcome of a reconcile: look again after this delay, if given.
pub(crate) type ReconcileResult = Result<Option<Duration>, ApiError>;

pub(crate) struct ControllerContext {
    pub(crate) config: Config,
    pub(crate) api: Arc<dyn ApiFor>,
    /// Shared; they read as `system:kube-controller-manager`.
    pub(crate) informers: Informers,
    /// Shared: many controllers look pods up by their owner.
    pub(crate) pods_by_owner: Owned<Pod>,
    pub(crate) stage: Stage,
}

impl ControllerContext {
    pub(crate) fn new(config: Config, api: Arc<dyn ApiFor>, stage: &Stage) -> Self {
        let reader = api.as_user(Identity::user(api::identity::USER_CONTROLLER_MANAGER, []));
        let informers = Informers::new(reader, stage.clone());
        let pods_by_owner = Owned::follow(&informers.of());
        ControllerContext { config, api, informers, pods_by_owner, stage: stage.clone() }
    }

    /// The API as the service account of a controller sees it.
    pub(crate) fn act_as(&self, account: &str) -> Arc<dyn ObjectApi> {
        self.api.as_user(Identity::service_account("kube-system", account))
    }

    /// What other API servers serve, as the service account of a controller sees it.
    pub(crate) fn extensions_as(&self, account: &str) -> Arc<dyn ExtensionApi> {
        self.api.extensions(Identity::service_account("kube-system", account))
    }

    pub(crate) fn recorder(&self, account: &str, component: &str) -> Recorder {
        Recorder::new(self.act_as(account), &self.stage, component, None)
    }

    /// The kinds that are served now, for those who look one up.
    pub(crate) fn served(&self) -> ServedKinds {
        self.api.served()
    }

    /// Calls `handler` for every change of every object of the kinds that `wanted` picks, as kinds come and
    /// go: a kind that goes takes its objects with it. Returns what is over once those that are there now are
    /// all known.
    pub(crate) fn follow_kinds(
        &self,
        what: &str,
        wanted: impl Fn(&KindRow) -> bool + Send + 'static,
        handler: impl Fn(&Arc<KindRow>, &Change<Object>) + Clone + Send + 'static,
    ) -> BoxFuture<'static, ()> {
        let mut served = self.api.served();
        let mut follower = KindFollower::new(self.informers.clone(), wanted, handler);
        let first = served.borrow_and_update().clone();
        let begun = follower.bring_to(&first);
        self.stage.spawn_cancellable(&format!("kinds of the {what}"), OnExit::Done, async move {
            while served.changed().await.is_ok() {
                let now = served.borrow_and_update().clone();
                follower.bring_to(&now);
            }
        });
        Box::pin(async move {
            for informer in begun {
                informer.synced().await;
            }
        })
    }

    /// Runs workers on the queue, once `ready` (the informers have their first list) is over.
    pub(crate) fn run<T, F, Fut>(
        &self,
        queue: &WorkQueue<T>,
        workers: usize,
        ready: impl Future<Output = ()> + Send + 'static,
        reconcile: F,
    ) where
        T: Clone + Eq + std::hash::Hash + Send + Sync + std::fmt::Debug + 'static,
        F: Fn(T) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = ReconcileResult> + Send + 'static,
    {
        let (queue, stage) = (queue.clone(), self.stage.clone());
        self.stage.spawn_cancellable("controller start", OnExit::Done, async move {
            ready.await;
            queue.run(&stage, workers, reconcile);
        });
    }
}

/// One informer per kind that is wanted and served.
struct KindFollower<W, H> {
    informers: Informers,
    wanted: W,
    handler: H,
    followed: HashMap<(String, String), Subscription>,
}

impl<W, H> KindFollower<W, H>
where
    W: Fn(&KindRow) -> bool,
    H: Fn(&Arc<KindRow>, &Change<Object>) + Clone + Send + 'static,
{
    fn new(informers: Informers, wanted: W, handler: H) -> Self {
        KindFollower { informers, wanted, handler, followed: HashMap::new() }
    }

    /// Begins to follow the kinds that have come and lets go of those that have gone; returns the informers
    /// of the former.
    fn bring_to(&mut self, served: &Served) -> Vec<Informer<Object>> {
        let wanted: HashMap<(String, String), &Arc<KindRow>> = served
            .rows()
            .iter()
            .filter(|row| (self.wanted)(row))
            .map(|row| ((row.api_version(), row.plural.to_string()), row))
            .collect();
        let gone = self.followed.extract_if(|key, _| !wanted.contains_key(key));
        gone.for_each(|(_, subscription)| subscription.end_of_kind());
        let mut begun = Vec::new();
        for (key, row) in wanted {
            self.followed.entry(key).or_insert_with(|| {
                let informer = self.informers.untyped(row);
                let (row, handler) = (row.clone(), self.handler.clone());
                begun.push(informer.clone());
                informer.subscribe(move |change| handler(&row, change))
            });
        }
        begun
    }
}

/// The key of an object's metadata.
pub(crate) fn key_of(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Key {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// The text, or nothing if it is empty or absent.
pub(crate) fn text(part: &Option<String>) -> &str {
    part.as_deref().unwrap_or("")
}

/// Not found is as good as done.
pub(crate) fn unless_gone<T>(outcome: Result<T, ApiError>) -> Result<(), ApiError> {
    match outcome {
        Err(error) if error.is_not_found() => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}
