//! What the two makers of EndpointSlices share: which slices are theirs, and how a plan for one service is
//! carried out.

use std::sync::Arc;

use api::{ApiError, DeleteOptions, LabelSelector, ListOptions, Preconditions};
use client::{Api, Informers, WorkQueue};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::context::{Key, text, unless_gone};

pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The most endpoints of one slice.
pub(crate) const CAPACITY: usize = 100;

#[derive(Debug, Default)]
pub(crate) struct SlicePlan {
    pub(crate) create: Vec<EndpointSlice>,
    pub(crate) update: Vec<EndpointSlice>,
    pub(crate) delete: Vec<Arc<EndpointSlice>>,
}

/// Queues the service of each slice of this manager that changes. The manager's own writes come back here as
/// well and turn out to need nothing; what others did to its slices is put right.
pub(crate) fn watch(informers: &Informers, manager: &'static str, queue: &WorkQueue<Key>) {
    let keys = queue.clone();
    let slices = informers.of::<EndpointSlice>();
    slices.on_object_change(move |change| {
        let slice = change.latest();
        if slice.labels().get(MANAGED_BY).map(String::as_str) == Some(manager)
            && let Some(service) = slice.labels().get(SERVICE_NAME)
        {
            keys.add((slice.namespace().unwrap_or("").to_string(), service.clone()));
        }
    });
}

/// The slices that this manager keeps for a service. Read from the API: with an informer's copy, which may
/// lag, slices would be made twice.
pub(crate) async fn present(
    api: &Api<EndpointSlice>,
    manager: &str,
    service: &str,
) -> Result<Vec<Arc<EndpointSlice>>, ApiError> {
    let labels =
        [(SERVICE_NAME.to_string(), service.to_string()), (MANAGED_BY.to_string(), manager.to_string())];
    let options = ListOptions { labels: LabelSelector::from_map(&labels.into()), ..ListOptions::default() };
    api.list(&options).await
}

impl SlicePlan {
    pub(crate) async fn carry_out(self, api: &Api<EndpointSlice>) -> Result<(), ApiError> {
        for slice in self.create {
            api.create(&slice).await?;
        }
        for slice in self.update {
            api.update(&slice).await?;
        }
        for slice in self.delete {
            let preconditions = Preconditions { uid: slice.metadata.uid.clone(), ..Preconditions::default() };
            let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
            unless_gone(api.delete(text(&slice.metadata.name), &options).await)?;
        }
        Ok(())
    }
}
