//! Amounts of resources as the scheduler compares them: plain numbers for the common ones, a short list for
//! the rest.

use api::resources::{Amounts, CPU, EPHEMERAL_STORAGE, MEMORY, PODS};

/// What a pod without requests is taken to use when nodes are compared (not when they are filtered).
pub(crate) const DEFAULT_MILLI_CPU: i64 = 100;
pub(crate) const DEFAULT_MEMORY: i64 = 200 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) milli_cpu: i64,
    pub(crate) memory: i64,
    pub(crate) ephemeral: i64,
    /// Pods that are allowed (of a node) or counted (of its pods).
    pub(crate) pods: i64,
    /// Extended resources and huge pages, sorted by name.
    pub(crate) others: Vec<(Box<str>, i64)>,
}

impl Resources {
    pub(crate) fn of(amounts: &Amounts) -> Self {
        let mut resources = Resources::default();
        for (name, amount) in amounts {
            match name.as_str() {
                CPU => resources.milli_cpu = *amount,
                MEMORY => resources.memory = *amount,
                EPHEMERAL_STORAGE => resources.ephemeral = *amount,
                PODS => resources.pods = *amount,
                _ => resources.others.push((name.as_str().into(), *amount)),
            }
        }
        resources
    }

    pub(crate) fn add(&mut self, more: &Resources) {
        self.apply(more, 1);
    }

    pub(crate) fn remove(&mut self, less: &Resources) {
        self.apply(less, -1);
    }

    fn apply(&mut self, other: &Resources, sign: i64) {
        self.milli_cpu += sign * other.milli_cpu;
        self.memory += sign * other.memory;
        self.ephemeral += sign * other.ephemeral;
        self.pods += sign * other.pods;
        for (name, amount) in &other.others {
            match self.others.binary_search_by(|(own, _)| own.cmp(name)) {
                Ok(at) => self.others[at].1 += sign * amount,
                Err(at) => self.others.insert(at, (name.clone(), sign * amount)),
            }
        }
    }

    /// Some amount is smaller than the other's.
    pub(crate) fn less_than(&self, other: &Resources) -> bool {
        self.milli_cpu < other.milli_cpu
            || self.memory < other.memory
            || self.ephemeral < other.ephemeral
            || other.others.iter().any(|(name, amount)| self.other(name) < *amount)
    }

    pub(crate) fn other(&self, name: &str) -> i64 {
        self.others.binary_search_by(|(own, _)| (**own).cmp(name)).map_or(0, |at| self.others[at].1)
    }
}
