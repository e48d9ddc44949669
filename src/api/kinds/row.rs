//! What a kind is: the form of a row, and the tie between a row and the Rust type of its objects.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(crate) type Str = Cow<'static, str>;

/// Whether objects of a kind live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    Cluster,
    Namespaced,
}

/// One kind in one version, as served.
#[derive(Clone, Debug)]
pub struct KindRow {
    /// API group, empty for the core group.
    pub group: Str,
    pub version: Str,
    pub kind: Str,
    /// Resource name in paths: lower-case plural.
    pub plural: Str,
    pub singular: Str,
    pub scope: Scope,
    pub short_names: Cow<'static, [Str]>,
    pub categories: Cow<'static, [Str]>,
    /// Verbs of the main resource, in discovery's order.
    pub verbs: Cow<'static, [Str]>,
    pub subresources: Cow<'static, [Subresource]>,
    /// Path below `/registry/` where objects are stored, such as `pods` or `services/specs`; none for kinds
    /// that are only posted and answered, such as reviews. Rows of the same kind in several versions share
    /// it; objects are stored in the form of the row that `stored_as` names.
    pub storage: Option<Str>,
    /// The `group/version` whose form is stored, if it is not this row's own.
    pub stored_as: Option<Str>,
}

/// A subresource of a kind, such as `status`, `scale` or `log`.
#[derive(Clone, Debug)]
pub struct Subresource {
    pub name: Str,
    /// Group, version and kind of what it takes and returns; empty group and version mean the parent's.
    pub group: Str,
    pub version: Str,
    pub kind: Str,
    pub verbs: Cow<'static, [Str]>,
}

impl KindRow {
    /// `v1` or `apps/v1`, as in `apiVersion`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// `pods` or `deployments.apps`: upstream's GroupResource, as error messages print it.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_string()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }

    /// URL path of the collection: `/api/v1/namespaces/NS/pods`, `/apis/apps/v1/deployments` (all
    /// namespaces).
    pub fn collection_path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api".to_string() } else { format!("/apis/{}", self.group) };
        match namespace.filter(|_| self.namespaced()) {
            Some(namespace) => format!("{root}/{}/namespaces/{namespace}/{}", self.version, self.plural),
            None => format!("{root}/{}/{}", self.version, self.plural),
        }
    }

    /// Storage prefix of the kind, or of one namespace of it: `/registry/pods/`, `/registry/pods/NS/`; none
    /// if its objects are not stored.
    pub fn storage_prefix(&self, namespace: Option<&str>) -> Option<String> {
        let storage = self.storage.as_deref()?;
        Some(match namespace.filter(|_| self.namespaced()) {
            Some(namespace) => format!("/registry/{storage}/{namespace}/"),
            None => format!("/registry/{storage}/"),
        })
    }

    /// Storage key of one object: `/registry/pods/NS/NAME`, `/registry/minions/NAME`.
    pub fn storage_key(&self, namespace: Option<&str>, name: &str) -> Option<String> {
        let mut key = self.storage_prefix(namespace)?;
        key.push_str(name);
        Some(key)
    }
}

/// A Rust type that is one of the built-in kinds: what `Api<K>` and informers are generic over.
///
/// Decoding and encoding are methods, not bounds on serde's traits: the machine code of a kind's decoder is
/// large, and each crate that decodes through serde's generic functions gets a copy of its own.
pub trait Kinded: k8s_openapi::Metadata<Ty = ObjectMeta> + Clone + Send + Sync + 'static {
    fn row() -> &'static KindRow;

    /// From the JSON of one object.
    fn from_json(json: &[u8]) -> serde_json::Result<Self>;

    /// From the tree of one object.
    fn from_tree(tree: &serde_json::Value) -> serde_json::Result<Self> {
        Self::from_json(&serde_json::to_vec(tree)?)
    }

    /// The object as a JSON tree, with `apiVersion` and `kind`.
    fn to_tree(&self) -> serde_json::Result<serde_json::Value>;
}
