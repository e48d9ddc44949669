//! Follows the ConfigMaps `coredns` and `coredns-custom`. What they come to replaces what holds; what cannot
//! be used does not, and an event of the ConfigMap says why.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use api::{FieldSelector, LabelSelector};
use client::events::{EventType, Recorder, reference_to};
use client::{Informer, Informers};
use k8s_openapi::api::core::v1::ConfigMap;
use supervisor::{OnExit, Stage};
use tokio::sync::Notify;

use super::corefile::Maps;
use super::plan::Plan;
use super::server::Server;
use crate::error::chain;

const NAMESPACE: &str = "kube-system";
const MAIN: &str = "coredns";
const CUSTOM: &str = "coredns-custom";

pub(super) fn follow(
    server: &Arc<Server>,
    node: &str,
    own: Vec<IpAddr>,
    informers: &Informers,
    stage: &Stage,
) {
    let changed = Arc::new(Notify::new());
    let of = |name: &str| {
        let only = FieldSelector::equals("metadata.name", name);
        let informer = informers.selected::<ConfigMap>(Some(NAMESPACE), LabelSelector::everything(), only);
        let wake = changed.clone();
        informer.on_object_change(move |_| wake.notify_one());
        informer
    };
    let (main, custom) = (of(MAIN), of(CUSTOM));
    let recorder = Recorder::new(informers.api().clone(), stage, "coredns", Some(node));
    let server = server.clone();
    stage.spawn_cancellable("network: configuration of DNS", OnExit::Stop, async move {
        main.synced().await;
        custom.synced().await;
        // What holds so far is what there is without the objects.
        let mut told = Maps::default();
        loop {
            let maps = Maps { main: data(&main, MAIN), custom: data(&custom, CUSTOM) };
            if maps != told {
                match Plan::of(&maps, &own) {
                    Ok(plan) => {
                        *server.plan.write() = Arc::new(plan);
                        server.metrics.reloads.fetch_add(1, Relaxed);
                        tracing::info!("the Corefile is in use");
                    }
                    Err(error) => {
                        server.metrics.failed_reloads.fetch_add(1, Relaxed);
                        let why = chain(&error);
                        tracing::warn!(why, "the Corefile cannot be used: the last good one holds");
                        let is_main = maps.custom == told.custom;
                        let (informer, name) = if is_main { (&main, MAIN) } else { (&custom, CUSTOM) };
                        if let Some(object) = informer.get(Some(NAMESPACE), name) {
                            let message = format!("the last good configuration of DNS holds: {why}");
                            let reference = reference_to(&*object);
                            recorder.event(&reference, EventType::Warning, "InvalidCorefile", message);
                        }
                    }
                }
                told = maps;
            }
            changed.notified().await;
        }
    });
}

fn data(informer: &Informer<ConfigMap>, name: &str) -> Option<Vec<(String, String)>> {
    let object = informer.get(Some(NAMESPACE), name)?;
    Some(object.data.iter().flatten().map(|(key, text)| (key.clone(), text.clone())).collect())
}
