//! What every controller is started with, and how its workers run.

use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, Identity};
use client::events::Recorder;
use client::{ApiFor, Informers, ObjectApi, WorkQueue};
use supervisor::{OnExit, Stage};

use crate::Config;

/// Namespace and name. The namespace is empty for cluster-scoped kinds.
pub(crate) type Key = (String, String);

/// The outcome of a reconcile: look again after this delay, if given.
pub(crate) type Outcome = Result<Option<Duration>, ApiError>;

pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) api: Arc<dyn ApiFor>,
    /// Shared; they read as `system:kube-controller-manager`.
    pub(crate) informers: Informers,
    pub(crate) stage: Stage,
}

impl Context {
    pub(crate) fn new(config: Config, api: Arc<dyn ApiFor>, stage: &Stage) -> Self {
        let reader = api.as_user(Identity::user(api::identity::USER_CONTROLLER_MANAGER, []));
        Context { config, api, informers: Informers::new(reader, stage.clone()), stage: stage.clone() }
    }

    /// The API as the service account of a controller sees it.
    pub(crate) fn act_as(&self, account: &str) -> Arc<dyn ObjectApi> {
        self.api.as_user(Identity::service_account("kube-system", account))
    }

    pub(crate) fn recorder(&self, account: &str, component: &str) -> Recorder {
        Recorder::new(self.act_as(account), &self.stage, component, None)
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
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let (queue, stage) = (queue.clone(), self.stage.clone());
        self.stage.spawn_cancellable("controller start", OnExit::Done, async move {
            ready.await;
            queue.run(&stage, workers, reconcile);
        });
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
