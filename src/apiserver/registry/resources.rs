//! What is served: all resources, by group, version and plural name.
//!
//! A [`Resources`] is immutable; a request takes the one there is and keeps it until it is done. The set
//! changes by putting another in its place ([`ResourceSet::change`]), which shares every group that has not
//! changed, so adding a kind costs what its own group costs, however many there are. What is derived from a
//! group (its OpenAPI documents) hangs on the group and goes with it.

use std::sync::{Arc, OnceLock};

use api::{ApiError, KindRow, kinds, openapi};
use arc_swap::ArcSwap;
use bytes::Bytes;
use client::{Served, ServedKinds};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::errors::unknown;
use super::metrics;
use super::resource::{Resource, built_in};
use crate::cache::Caches;

/// The resources of one API group.
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) resources: Vec<Arc<Resource>>,
    documents: OnceLock<Vec<Document>>,
    /// Its entry in the aggregated discovery.
    discovery: OnceLock<String>,
}

/// An answer that is the same for as long as what it is made from.
pub(crate) struct Answer {
    content: Content,
    /// Its hash in quotes, by which clients ask whether it has changed.
    pub(crate) etag: String,
}

enum Content {
    Plain(Bytes),
    /// Compressed: large, and seldom asked for.
    Packed(Box<[u8]>),
}

/// The packer's effort: documents shrink to a twentieth at the least.
const LEVEL: i32 = 1;

impl Answer {
    pub(crate) fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Answer { etag: etag(&bytes), content: Content::Plain(bytes) }
    }

    /// An answer that is kept compressed.
    pub(crate) fn packed(bytes: Bytes) -> Self {
        let etag = etag(&bytes);
        let content = match zstd::encode_all(&bytes[..], LEVEL) {
            Ok(packed) => Content::Packed(packed.into_boxed_slice()),
            Err(_) => Content::Plain(bytes),
        };
        Answer { content, etag }
    }

    pub(crate) fn bytes(&self) -> Result<Bytes, ApiError> {
        match &self.content {
            Content::Plain(bytes) => Ok(bytes.clone()),
            Content::Packed(packed) => {
                zstd::decode_all(&packed[..]).map(Bytes::from).map_err(ApiError::internal)
            }
        }
    }
}

fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", openapi::hash(bytes))
}

/// What is made of all groups together, when first asked for. It goes with the set.
#[derive(Default)]
pub(crate) struct Derived {
    pub(crate) openapi_v2: OnceLock<Answer>,
    pub(crate) openapi_v2_json: OnceLock<Answer>,
    /// One of the core group and one of all others, in both versions of the form.
    pub(crate) discovery: [[OnceLock<Answer>; 2]; 2],
}

/// A changed copy of a set begins with nothing.
impl Clone for Derived {
    fn clone(&self) -> Self {
        Derived::default()
    }
}

/// The OpenAPI document of one group version.
pub(crate) struct Document {
    pub(crate) version: String,
    pub(crate) answer: Answer,
}

impl Document {
    pub(crate) fn hash(&self) -> &str {
        self.answer.etag.trim_matches('"')
    }
}

impl Group {
    fn new(name: &str, resources: Vec<Arc<Resource>>) -> Self {
        let (documents, discovery) = (OnceLock::new(), OnceLock::new());
        Group { name: name.to_string(), resources, documents, discovery }
    }

    /// Versions in order of preference, with their resources.
    pub(crate) fn versions(&self) -> Vec<(&str, Vec<&Resource>)> {
        let mut versions: Vec<(&str, Vec<&Resource>)> = Vec::new();
        for resource in &self.resources {
            match versions.iter_mut().find(|(version, _)| *version == resource.row.version) {
                Some((_, resources)) => resources.push(resource),
                None => versions.push((&resource.row.version, vec![resource])),
            }
        }
        versions
    }

    /// The entry in the aggregated discovery, made when first asked for.
    pub(crate) fn discovery(&self, make: impl FnOnce(&Group) -> String) -> &str {
        self.discovery.get_or_init(|| make(self))
    }

    /// Whether the OpenAPI documents are still to be made, which takes a while.
    pub(crate) fn lacks_documents(&self) -> bool {
        self.documents.get().is_none()
    }

    /// One document per version; made when first asked for.
    pub(crate) fn documents(&self) -> &[Document] {
        self.documents.get_or_init(|| {
            let document = |(version, resources): (&str, Vec<&Resource>)| {
                let kinds: Vec<_> = resources.iter().map(|resource| resource.described()).collect();
                let bytes = openapi::v3_document(&self.name, version, &kinds);
                Document { version: version.to_string(), answer: Answer::packed(bytes) }
            };
            self.versions().into_iter().map(document).collect()
        })
    }
}

/// All resources at one time, in the order of discovery: built-in groups as in the table, then others by
/// name.
#[derive(Clone)]
pub(crate) struct Resources {
    groups: Vec<Arc<Group>>,
    /// How many groups are built in.
    built_in: usize,
    pub(crate) derived: Derived,
}

impl Resources {
    /// The rows of the table, and those that are turned on beside them.
    pub(crate) fn built_in(caches: &Caches, more: &[KindRow]) -> Self {
        let mut groups: Vec<(&str, Vec<Arc<Resource>>)> = Vec::new();
        for row in kinds::ALL.iter().copied().chain(more) {
            let resource = Arc::new(built_in(row, caches));
            match groups.iter_mut().find(|(name, _)| *name == row.group) {
                Some((_, resources)) => resources.push(resource),
                None => groups.push((&row.group, vec![resource])),
            }
        }
        let groups: Vec<_> =
            groups.into_iter().map(|(name, resources)| Arc::new(Group::new(name, resources))).collect();
        let mut all = Resources { built_in: groups.len(), groups, derived: Derived::default() };
        metrics::resources().into_iter().for_each(|resource| all.put(Arc::new(resource)));
        all
    }

    fn position(&self, group: &str) -> Result<usize, usize> {
        match self.groups[..self.built_in].iter().position(|one| one.name == group) {
            Some(at) => Ok(at),
            None => self.defined(group),
        }
    }

    /// Where a group is, or belongs, among those that are not built in.
    fn defined(&self, group: &str) -> Result<usize, usize> {
        let own = self.built_in;
        let others = self.groups[own..].binary_search_by(|one| (*one.name).cmp(group));
        others.map(|at| own + at).map_err(|at| own + at)
    }

    /// A group that is built in; definitions add nothing to it and take nothing from it.
    pub(crate) fn built_in_group(&self, name: &str) -> Option<&Arc<Group>> {
        self.groups[..self.built_in].iter().find(|one| one.name == name)
    }

    /// Puts a resource in the place of the one with its group, version and name, or adds it. Groups that are
    /// built in are out of reach.
    pub(crate) fn put(&mut self, resource: Arc<Resource>) {
        let row = resource.row.clone();
        match self.defined(&row.group) {
            Ok(at) => {
                let mut all = self.groups[at].resources.clone();
                match all.iter_mut().find(|one| same(&one.row, &row)) {
                    Some(present) => *present = resource,
                    None => all.push(resource),
                }
                self.groups[at] = Arc::new(Group::new(&row.group, all));
            }
            Err(_) if self.built_in_group(&row.group).is_some() => {}
            Err(at) => self.groups.insert(at, Arc::new(Group::new(&row.group, vec![resource]))),
        }
    }

    /// Takes a resource away; a group goes with its last. Those that are built in stay.
    pub(crate) fn remove(&mut self, row: &KindRow) {
        let Ok(at) = self.defined(&row.group) else { return };
        let group = &self.groups[at];
        let left: Vec<_> = group.resources.iter().filter(|one| !same(&one.row, row)).cloned().collect();
        if left.is_empty() {
            self.groups.remove(at);
        } else {
            self.groups[at] = Arc::new(Group::new(&row.group, left));
        }
    }

    pub(crate) fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    pub(crate) fn group(&self, name: &str) -> Option<&Arc<Group>> {
        self.position(name).ok().map(|at| &self.groups[at])
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.groups.iter().flat_map(|group| &group.resources)
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        let group = self.group(group)?;
        group.resources.iter().find(|one| one.row.plural == plural && one.row.version == version)
    }

    /// The resource of a row, which may be any copy of it.
    pub(crate) fn of_row(&self, row: &KindRow) -> Result<&Arc<Resource>, ApiError> {
        self.find(&row.group, &row.version, &row.plural).ok_or_else(unknown)
    }
}

fn same(one: &KindRow, other: &KindRow) -> bool {
    one.plural == other.plural && one.version == other.version && one.group == other.group
}

/// The present set, and news of every other that takes its place.
pub(crate) struct ResourceSet {
    current: ArcSwap<Resources>,
    served: watch::Sender<Arc<Served>>,
    changing: Mutex<()>,
}

impl ResourceSet {
    pub(crate) fn new(resources: Resources) -> Self {
        let served = watch::Sender::new(Arc::new(served(1, &resources)));
        ResourceSet { current: ArcSwap::from_pointee(resources), served, changing: Mutex::new(()) }
    }

    /// The set as it is; whoever serves a request keeps it for as long as that takes.
    pub(crate) fn load(&self) -> Arc<Resources> {
        self.current.load_full()
    }

    /// Puts a changed copy in the place of the set. Changes do not overtake each other.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Resources)) {
        let _changing = self.changing.lock();
        let mut next = Resources::clone(&self.current.load());
        change(&mut next);
        let generation = self.served.borrow().generation() + 1;
        let served = Arc::new(served(generation, &next));
        self.current.store(Arc::new(next));
        self.served.send_replace(served);
    }

    pub(crate) fn served(&self) -> ServedKinds {
        self.served.subscribe()
    }
}

fn served(generation: u64, resources: &Resources) -> Served {
    Served::new(generation, resources.all().map(|resource| resource.row.clone()).collect())
}
