//! What a definition's schemas, and the check of one object against its schema, may cost.
//!
//! Upstream bounds neither: it has the body's size, and budgets for CEL alone. Here a body of a megabyte
//! could hold schemas and values whose product is hours of work, so both are counted while they are walked,
//! and the excess is a fault that names the budget and the field where it ran out.

/// Nodes that the schemas of all versions of a definition may have. The largest definitions in use have about
/// 15,000.
pub const MAX_NODES: usize = 50_000;

/// How deep a schema may nest.
pub(super) const MAX_DEPTH: usize = 64;

/// Bytes that one pattern may take once it is compiled.
pub(super) const MAX_PATTERN: usize = 1 << 20;

/// Bytes that the patterns of a definition may take once they are compiled, each counted once, and as at
/// least 4 KiB.
pub(crate) const MAX_PATTERNS: usize = 8 << 20;

/// `x-kubernetes-list-map-keys` of one list: every element is looked through for each of them.
pub(super) const MAX_MAP_KEYS: usize = 64;

/// Steps that the check of one object, or of all defaults of a definition, may take. A value that is compared
/// with a node takes [`VISIT`], a byte that is matched with a pattern a quarter of what the pattern has
/// states; a hundred million are a second or two at worst. An object of 3 MiB under a common schema takes
/// some millions.
pub const MAX_STEPS: u64 = 100_000_000;

/// A value is compared with a node.
pub(super) const VISIT: u64 = 10;
