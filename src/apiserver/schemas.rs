//! Schemas of definitions, parsed once: for the definition's validation, then for what is served of it.
//!
//! What validation has parsed waits here until the loop that serves definitions takes it, within bounds: a
//! definition that is refused after all, or only tried, leaves nothing for long. A definition whose schemas
//! stay the same is not parsed again while they are served.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use api::schema::structural::{MAX_NODES, Parser, Structural};
use api::validation::{Faults, Path};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Definitions whose schemas wait to be served.
const WAITING: usize = 64;

/// The schemas of one definition, by version.
pub(crate) struct Schemas {
    by_version: Vec<(String, Arc<Structural>)>,
    /// What they cannot be accepted with. Those of a definition that is stored already are served all the
    /// same.
    pub(crate) faults: Faults,
    nodes: usize,
    key: Key,
}

type Key = [u8; 32];

impl Schemas {
    /// None for versions without a schema, and if the schemas are too large to be read.
    pub(crate) fn of(&self, version: &str) -> Option<Arc<Structural>> {
        self.by_version.iter().find(|(name, _)| name == version).map(|(_, schema)| schema.clone())
    }

    fn parse(definition: &Value, key: Key) -> Self {
        let versions = versions(definition);
        let mut parser = Parser::default();
        let (mut by_version, mut faults) = (Vec::new(), Faults::new());
        let spec = Path::new("spec");
        let list = spec.child("versions");
        if is_same(definition, "schema") {
            let status = versions.iter().any(has_status);
            if let Some(schema) = versions.first().map(schema_of).filter(|schema| !schema.is_null()) {
                let path = spec.child("validation");
                let (root, found) = parser.read(schema, &path.child("openAPIV3Schema"), status);
                faults = found;
                let root = Arc::new(root);
                by_version.extend(versions.iter().map(|version| (name_of(version), root.clone())));
            }
        } else {
            for (at, version) in versions.iter().enumerate().filter(|(_, one)| !schema_of(one).is_null()) {
                let (version_path, status) = (list.index(at), has_status(version));
                let path = version_path.child("schema");
                let (root, found) = parser.read(schema_of(version), &path.child("openAPIV3Schema"), status);
                faults.extend(found);
                by_version.push((name_of(version), Arc::new(root)));
            }
        }
        if parser.is_over() {
            by_version.clear();
        }
        Schemas { by_version, faults, nodes: parser.nodes(), key }
    }
}

fn versions(definition: &Value) -> &[Value] {
    definition["spec"]["versions"].as_array().map_or(&[], Vec::as_slice)
}

fn schema_of(version: &Value) -> &Value {
    &version["schema"]["openAPIV3Schema"]
}

fn name_of(version: &Value) -> String {
    version["name"].as_str().unwrap_or("").to_string()
}

fn has_status(version: &Value) -> bool {
    version["subresources"]["status"].is_object()
}

/// Whether a part is the same in all versions: upstream's faults then name it as the definition's.
pub(crate) fn is_same(definition: &Value, part: &str) -> bool {
    let is_nothing = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    versions(definition).windows(2).all(|pair| {
        let (one, other) = (&pair[0][part], &pair[1][part]);
        one == other || is_nothing(one) && is_nothing(other)
    })
}

/// Schemas that have been parsed.
#[derive(Default)]
pub(crate) struct SchemaMemo {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Parsed schemas, those that are served included; each lives as long as something holds it.
    known: HashMap<Key, Weak<Schemas>>,
    waiting: VecDeque<Arc<Schemas>>,
    /// How many there may be before those that nothing holds any more are dropped.
    sweep_at: usize,
}

impl SchemaMemo {
    /// The schemas of a definition that is about to be written.
    pub(crate) fn check(&self, definition: &Value) -> Arc<Schemas> {
        let schemas = self.get(definition);
        let mut inner = self.inner.lock();
        if schemas.faults.is_empty() && !inner.waiting.iter().any(|one| one.key == schemas.key) {
            inner.waiting.push_back(schemas.clone());
            while inner.waiting.len() > WAITING
                || inner.waiting.iter().map(|one| one.nodes).sum::<usize>() > 2 * MAX_NODES
            {
                inner.waiting.pop_front();
            }
        }
        schemas
    }

    /// The schemas of a definition that is about to be served.
    pub(crate) fn take(&self, definition: &Value) -> Arc<Schemas> {
        let schemas = self.get(definition);
        self.inner.lock().waiting.retain(|one| one.key != schemas.key);
        schemas
    }

    fn get(&self, definition: &Value) -> Arc<Schemas> {
        let key = key_of(definition);
        if let Some(known) = self.inner.lock().known.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let schemas = Arc::new(Schemas::parse(definition, key));
        let mut inner = self.inner.lock();
        inner.known.insert(key, Arc::downgrade(&schemas));
        if inner.known.len() > inner.sweep_at {
            inner.known.retain(|_, schemas| schemas.strong_count() > 0);
            inner.sweep_at = 2 * inner.known.len() + WAITING;
        }
        schemas
    }
}

fn key_of(definition: &Value) -> Key {
    let mut hash = Sha256::new();
    for version in versions(definition) {
        hash.update(version["name"].to_string());
        hash.update(version["schema"].to_string());
        hash.update([u8::from(has_status(version))]);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
