//! Which kinds a server serves. They come and go with definitions; whoever cares for all kinds follows them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use api::KindRow;

/// The newest set, and news of every change of it.
pub type ServedKinds = tokio::sync::watch::Receiver<Arc<Served>>;

/// All kinds that are served at one time.
#[derive(Default)]
pub struct Served {
    generation: u64,
    rows: Vec<Arc<KindRow>>,
    /// By `apiVersion` and kind; made for the first who asks.
    by_kind: OnceLock<HashMap<(String, String), usize>>,
}

impl Served {
    pub fn new(generation: u64, rows: Vec<Arc<KindRow>>) -> Self {
        Served { generation, rows, by_kind: OnceLock::new() }
    }

    /// Greater for every later set.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// In the order of discovery.
    pub fn rows(&self) -> &[Arc<KindRow>] {
        &self.rows
    }

    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<KindRow>> {
        let index = self.by_kind.get_or_init(|| {
            let named = |(at, row): (usize, &Arc<KindRow>)| ((row.api_version(), row.kind.to_string()), at);
            self.rows.iter().enumerate().map(named).collect()
        });
        index.get(&(api_version.to_string(), kind.to_string())).map(|at| &self.rows[*at])
    }
}
