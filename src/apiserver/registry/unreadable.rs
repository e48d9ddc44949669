//! Values of the store that cannot be decrypted are tried again.
//!
//! Those that open are written anew: the caches take them in as a change, and watches learn of them.

use std::sync::Arc;
use std::time::Duration;

use super::Registry;

/// How long they rest before they are tried again without a reason.
const AGAIN: Duration = Duration::from_secs(30);

/// When there is reason to hope, and now and then. Never ends.
pub(crate) async fn try_again(registry: Arc<Registry>) {
    let (store, caches) = (&registry.store, &registry.caches);
    loop {
        let hoped = store.encryption.hope().notified();
        match caches.unreadable().is_empty() {
            true => hoped.await,
            false => drop(tokio::time::timeout(AGAIN, hoped).await),
        }
        for key in caches.unreadable() {
            match store.rewrite_one(key.clone()).await {
                Ok(_) => {
                    tracing::info!(key = %String::from_utf8_lossy(&key), "a value can be read again");
                }
                Err(error) => tracing::debug!(%error, "a value still cannot be read"),
            }
        }
    }
}
