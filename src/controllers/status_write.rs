//! Writing a status, once more if the object has changed meanwhile.

use std::sync::Arc;

use api::{ApiError, Kinded};
use client::Api;

use crate::context::text;

/// Writes the object with the status that `tell` gives it, unless it has that already. After one conflict the
/// newest version is tried; after that the queue's back-off takes over. An object that is gone needs none.
pub(crate) async fn write<K: Kinded + PartialEq>(
    api: &Api<K>,
    object: &Arc<K>,
    tell: impl Fn(&K) -> K,
) -> Result<(), ApiError> {
    let mut object = object.clone();
    let mut first = true;
    loop {
        let told = tell(&object);
        if told == *object {
            return Ok(());
        }
        match api.update_status(&told).await {
            Err(error) if error.is_conflict() && first => {
                first = false;
                match api.find(text(&object.metadata().name)).await? {
                    Some(newest) if newest.metadata().uid == object.metadata().uid => object = newest,
                    _ => return Ok(()),
                }
            }
            Err(error) if error.is_not_found() => return Ok(()),
            outcome => return outcome.map(|_| ()),
        }
    }
}
