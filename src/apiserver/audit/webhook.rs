//! The webhook back-end: batches are posted as an `EventList`, several at a time, and again after a failure.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bytes::Bytes;
use client::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::sink::{Errors, count};

/// Carries the JSON of an `EventList` to where it belongs; an error is tried again.
pub type Post = Arc<dyn Fn(Bytes) -> BoxFuture<'static, io::Result<()>> + Send + Sync>;

/// Where batches go.
pub struct WebhookOptions {
    pub post: Post,
    /// The pause after the first failure. The next ones are half as long again each.
    pub first_pause: Duration,
}

/// How often a batch is tried.
const TRIES: u32 = 5;
/// Batches under way at a time. While they are, events wait in the queue.
const UNDER_WAY: u32 = 16;

pub(super) struct Sender {
    options: Arc<WebhookOptions>,
    errors: Arc<Errors>,
    runtime: Handle,
    places: Arc<Semaphore>,
}

impl Sender {
    pub(super) fn new(options: WebhookOptions, errors: Arc<Errors>) -> Sender {
        let places = Arc::new(Semaphore::new(UNDER_WAY as usize));
        Sender { options: Arc::new(options), errors, runtime: Handle::current(), places }
    }

    /// Sends a batch, once there is a place for it.
    pub(super) fn send(&mut self, batch: &[Vec<u8>]) {
        let mut body =
            br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_vec();
        for (index, event) in batch.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            body.extend_from_slice(event);
        }
        body.extend_from_slice(b"]}");
        let (body, events) = (Bytes::from(body), batch.len());
        let (options, errors, places) = (self.options.clone(), self.errors.clone(), self.places.clone());
        let (placed, wait) = sync_channel(1);
        self.runtime.spawn(async move {
            // The semaphore is never closed.
            let Ok(_place) = places.acquire_owned().await else { return };
            let _ = placed.send(());
            let mut pause = options.first_pause;
            for attempt in 1..=TRIES {
                match (options.post)(body.clone()).await {
                    Ok(()) => return,
                    Err(error) if attempt == TRIES => {
                        count(&errors.back_end, events);
                        tracing::error!(%error, events, "audit events cannot be sent");
                    }
                    Err(error) => {
                        tracing::debug!(%error, events, "audit events are sent again");
                        tokio::time::sleep(pause).await;
                        pause = pause.mul_f64(1.5);
                    }
                }
            }
        });
        // An error means that the runtime is gone, and the process with it.
        let _ = wait.recv();
    }

    /// Waits until nothing is under way.
    pub(super) fn flush(&mut self) {
        let (places, (done, wait)) = (self.places.clone(), sync_channel(1));
        self.runtime.spawn(async move {
            let _all = places.acquire_many(UNDER_WAY).await;
            let _ = done.send(());
        });
        let _ = wait.recv();
    }
}
