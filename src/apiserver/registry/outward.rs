//! Stored objects in the version that is asked for: a few at a time, in their turn.
//!
//! The tree of an object may take fifty times the room of its bytes. So a list is converted object by
//! object, and what is kept of each is its bytes. Only another server is asked about several at once, and
//! about no more than a question may hold.

use std::pin::pin;
use std::sync::Arc;

use api::{ApiError, Object};
use serde_json::Value;

use super::refine::Refine;
use super::resource::Resource;
use crate::heavy::{HEAVY, Turns};

/// Bytes of objects that are converted before somebody else may be first.
const BATCH: usize = HEAVY;

impl Resource {
    /// Whether another server converts objects: it is asked about a list before the answer begins, and once.
    pub(crate) fn is_converted_elsewhere(&self) -> bool {
        self.question().is_some()
    }

    fn question(&self) -> Option<usize> {
        self.conversion.as_ref().and_then(|conversion| conversion.question())
    }

    /// How many bytes of objects have to be converted.
    pub(crate) fn outward_weight(&self, objects: &[Arc<Object>]) -> usize {
        if !self.is_converted() {
            return 0;
        }
        objects.iter().filter(|object| self.changes(object)).map(|object| object.json_len()).sum()
    }

    fn changes(&self, object: &Object) -> bool {
        self.completes || self.conversion_of(object).is_some()
    }

    /// Stored objects in this row's version.
    pub(crate) async fn outward_all(
        &self,
        mut objects: Vec<Arc<Object>>,
        (turns, user): (&Turns, &str),
    ) -> Result<Vec<Arc<Object>>, ApiError> {
        let weight = self.outward_weight(&objects);
        let mut rest = &mut objects[..];
        while weight > 0 && !rest.is_empty() {
            let count = self.batch(rest);
            let (batch, others) = rest.split_at_mut(count);
            turns.run(user, weight, pin!(self.outward_batch(batch))).await?;
            rest = others;
            pause(weight).await;
        }
        Ok(objects)
    }

    /// Those of some stored objects whose fields are asked for in this row's version; as they are stored,
    /// unless another server would be asked about them once more.
    pub(super) async fn refined(
        &self,
        objects: &[Arc<Object>],
        refine: &Refine,
        (turns, user): (&Turns, &str),
    ) -> Result<Vec<Arc<Object>>, ApiError> {
        let weight = self.outward_weight(objects);
        let mut kept = Vec::new();
        let mut rest = objects;
        while !rest.is_empty() {
            let (batch, others) = rest.split_at(self.batch(rest));
            let mut shown = batch.to_vec();
            turns.run(user, weight, pin!(self.outward_batch(&mut shown))).await?;
            for (stored, shown) in batch.iter().zip(shown).filter(|(_, shown)| refine.matches(shown)) {
                kept.push(if self.is_converted_elsewhere() { shown } else { stored.clone() });
            }
            rest = others;
            pause(weight).await;
        }
        Ok(kept)
    }

    /// How many of some objects are converted next: at least one.
    fn batch(&self, objects: &[Arc<Object>]) -> usize {
        let most = self.question().unwrap_or(BATCH);
        let mut size = 0;
        let fits = |object: &&Arc<Object>| {
            size += object.json_len();
            size <= most
        };
        objects.iter().take_while(fits).count().max(1)
    }

    async fn outward_batch(&self, objects: &mut [Arc<Object>]) -> Result<(), ApiError> {
        let elsewhere = self.conversion.as_ref().filter(|_| self.is_converted_elsewhere());
        let Some(conversion) = elsewhere else { return self.outward_each(objects).await };
        let mut stale: Vec<_> =
            objects.iter_mut().filter(|object| self.conversion_of(object).is_some()).collect();
        let trees: Result<Vec<Value>, _> = stale.iter().map(|object| object.tree()).collect();
        let trees = trees.map_err(ApiError::internal)?;
        if !trees.is_empty() {
            let mut converted = conversion.convert(trees, &self.version).await?.into_iter();
            for object in &mut stale {
                let lost = || ApiError::internal("a conversion lost an object");
                let tree = self.complete(converted.next().ok_or_else(lost)?)?;
                let shown = Object::from_tree(tree, object.resource_version()).map_err(ApiError::internal)?;
                **object = Arc::new(shown);
            }
        }
        if self.completes { self.outward_each(objects).await } else { Ok(()) }
    }

    /// Converts one object after the other.
    async fn outward_each(&self, objects: &mut [Arc<Object>]) -> Result<(), ApiError> {
        for object in objects {
            *object = self.outward(object.clone()).await?;
        }
        Ok(())
    }
}

/// Lets others be first between two batches of a large list.
async fn pause(weight: usize) {
    if weight >= HEAVY {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests;
