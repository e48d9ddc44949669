//! Beginning a watch: which topic it reads, from where, and what it starts with.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use api::Object;

use super::{KindCache, State, below};
use crate::cache::entry::Filter;
use crate::cache::topic::{Cut, Topic, TopicKey};
use crate::cache::watcher::{Initial, Start, Watcher};
use crate::strategy::Str;

impl KindCache {
    /// A watcher that begins as asked, or how far back the history reaches.
    pub(crate) fn watch(&self, filter: Filter, start: Start) -> Result<Watcher, u64> {
        // Held throughout: a change is either among the objects, or in the ring behind the cursor.
        let state = self.state.read();
        let topic = self.topic(&filter);
        let mut watcher = Watcher {
            cursor: topic.end(),
            topic,
            backlog: VecDeque::new(),
            initial: Initial::default(),
            revision: self.progress.get().max(state.revision),
            skip_to: 0,
            progress: self.progress.clone(),
            filter,
        };
        match start {
            Start::Now => {}
            Start::Present => {
                watcher.initial.objects = Some(self.present(&state, &watcher));
            }
            Start::After(after) => {
                watcher.skip_to = after;
                let from = self.all.after(after).map_err(|lagged| lagged.floor)?;
                if Arc::ptr_eq(&watcher.topic, &self.all) {
                    watcher.cursor = from;
                } else {
                    // A confined topic may be younger than the version asked for: what it lacks comes from
                    // the whole.
                    match self.all.read(from, usize::MAX, &mut watcher.backlog) {
                        Err(Cut::Lagged(lagged)) => return Err(lagged.floor),
                        Ok(_) | Err(Cut::Closed) => {}
                    }
                }
            }
        }
        Ok(watcher)
    }

    /// The objects that a watcher starts with. Watchers of a topic that want everything share one list:
    /// thousands may begin at once, after a restart for instance.
    fn present(&self, state: &State, watcher: &Watcher) -> Arc<[Arc<Object>]> {
        let (filter, prefix) = (&watcher.filter, self.prefix_of(&watcher.filter));
        if filter.is_everything() {
            let objects = || below(&state.objects, None, &prefix).map(|(_, entry)| entry.object.clone());
            return watcher.topic.present((state.revision, state.objects.len()), || objects().collect());
        }
        let candidates = below(&state.objects, None, &prefix).filter(|(_, entry)| filter.matches(entry));
        candidates.map(|(_, entry)| entry.object.clone()).collect()
    }

    /// The most confined topic that holds all a filter can match: the fewer changes it has, the less often
    /// its watchers are woken for nothing. The caller holds the state's lock, so the topic misses no change
    /// that is not among the objects.
    fn topic(&self, filter: &Filter) -> Arc<Topic> {
        let field = |(at, field): (usize, &Str)| {
            filter
                .demands(field)
                .filter(|value| !value.is_empty())
                .map(|value| TopicKey::Field(at, value.into()))
        };
        let by_name = || {
            let name = filter.demands("metadata.name")?;
            Some(TopicKey::Object(format!("{}{name}", self.prefix_of(filter)).into()))
        };
        let key = by_name()
            .filter(|_| filter.namespace.is_some() || !self.namespaced)
            .or_else(|| self.selectable.indexed.iter().enumerate().find_map(field))
            .or_else(|| filter.namespace.as_deref().map(|namespace| TopicKey::Namespace(namespace.into())));
        let Some(key) = key else { return self.all.clone() };
        let mut confined = self.confined.lock();
        if let Some(topic) = confined.get(&key).and_then(Weak::upgrade) {
            return topic;
        }
        let topic = Arc::new(Topic::new(0));
        confined.insert(key, Arc::downgrade(&topic));
        topic
    }
}
