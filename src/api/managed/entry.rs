//! Entries of `metadata.managedFields` and their form in JSON.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::manager::manager_faults;
use super::set::Fields;
use super::{Author, UNKNOWN};
use crate::FieldError;
use crate::validation::Faults;

/// Longest `subresource` that upstream accepts.
const LONGEST_SUBRESOURCE: usize = 256;
const FIELDS_V1: &str = "FieldsV1";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Operation {
    Apply,
    Update,
}

/// What one manager has written in one way.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// RFC 3339.
    pub time: Option<String>,
    pub fields: Fields,
}

/// Why managed fields of a client are passed over.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    #[error("managed fields are not a list of entries")]
    Shape(#[from] serde_json::Error),
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    #[error("apiVersion must not be empty")]
    Version,
    #[error("fieldsType must be `FieldsV1`")]
    FieldsType,
    #[error("{0:?} is no element of a path")]
    Element(String),
}

/// An entry as it is written; the order of fields is that of the stored form.
#[derive(Serialize, Deserialize, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields_type: Option<String>,
    #[serde(rename = "fieldsV1", skip_serializing_if = "Option::is_none")]
    fields_v1: Option<Fields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manager: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subresource: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
}

impl Entry {
    /// The still empty entry of an author's updates.
    pub(crate) fn of(author: &Author<'_>) -> Self {
        let manager = if author.manager.is_empty() { UNKNOWN } else { author.manager };
        Entry {
            manager: manager.to_string(),
            operation: Operation::Update,
            api_version: author.api_version.to_string(),
            subresource: author.subresource.to_string(),
            time: None,
            fields: Fields::default(),
        }
    }

    pub(super) fn is_of(&self, author: &Author<'_>) -> bool {
        let manager = if author.manager.is_empty() { UNKNOWN } else { author.manager };
        self.operation == Operation::Update
            && self.manager == manager
            && self.api_version == author.api_version
            && self.subresource == author.subresource
    }

    /// Seconds since 1970; 0 without a time.
    pub(super) fn seconds(&self) -> i64 {
        let time = self.time.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
        time.map_or(0, Timestamp::as_second)
    }

    /// What distinguishes entries. Applying in another version replaces the entry.
    pub(crate) fn identity(&self) -> (String, Operation, String, String) {
        let version = if self.operation == Operation::Apply { "" } else { &self.api_version };
        (self.manager.clone(), self.operation, version.to_string(), self.subresource.clone())
    }
}

impl TryFrom<Written> for Entry {
    type Error = EntryError;

    fn try_from(written: Written) -> Result<Self, EntryError> {
        let operation = match written.operation.as_deref() {
            Some("Apply") => Operation::Apply,
            Some("Update") => Operation::Update,
            _ => return Err(EntryError::Operation),
        };
        let api_version = written.api_version.filter(|version| !version.is_empty());
        if written.fields_type.as_deref() != Some(FIELDS_V1) {
            return Err(EntryError::FieldsType);
        }
        Ok(Entry {
            manager: written.manager.unwrap_or_default(),
            operation,
            api_version: api_version.ok_or(EntryError::Version)?,
            subresource: written.subresource.unwrap_or_default(),
            time: written.time,
            fields: written.fields_v1.unwrap_or_default(),
        })
    }
}

impl From<&Entry> for Written {
    fn from(entry: &Entry) -> Self {
        let some = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
        Written {
            api_version: Some(entry.api_version.clone()),
            fields_type: Some(FIELDS_V1.to_string()),
            fields_v1: Some(entry.fields.clone()),
            manager: some(&entry.manager),
            operation: Some(format!("{:?}", entry.operation)),
            subresource: some(&entry.subresource),
            time: entry.time.clone(),
        }
    }
}

/// Entries as they are stored.
pub fn decode(bytes: &[u8]) -> Result<Vec<Entry>, EntryError> {
    let written: Vec<Written> = serde_json::from_slice(bytes)?;
    written.into_iter().map(Entry::try_from).collect()
}

/// Entries that a client has sent: their paths are brought into the form of ours, entries of one identity are
/// one.
pub fn accept(list: &Value) -> Result<Vec<Entry>, EntryError> {
    let written = Vec::<Written>::deserialize(list)?;
    let mut entries: Vec<Entry> = Vec::with_capacity(written.len());
    for written in written {
        let mut entry = Entry::try_from(written)?;
        entry.fields = entry.fields.canonical()?;
        // As upstream, the last of several counts.
        entries.retain(|other| other.identity() != entry.identity());
        entries.push(entry);
    }
    Ok(entries)
}

/// Entries in the form that is stored; none if there are no entries.
pub fn encode(entries: &[Entry]) -> Option<Vec<u8>> {
    if entries.is_empty() {
        return None;
    }
    let written: Vec<Written> = entries.iter().map(Written::from).collect();
    serde_json::to_vec(&written).ok()
}

/// Whether a client has sent what drops all entries: an empty list, or one empty entry.
pub fn are_reset(list: &Value) -> bool {
    match list.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([only]) => Written::deserialize(only).is_ok_and(|only| only == Written::default()),
        _ => false,
    }
}

/// Faults of entries that can be read.
pub fn faults(entries: &[Entry]) -> Faults {
    let mut faults = Faults::new();
    for (at, entry) in entries.iter().enumerate() {
        let path = format!("metadata.managedFields[{at}]");
        faults.extend(manager_faults(&entry.manager, &format!("{path}.manager")));
        if entry.subresource.len() > LONGEST_SUBRESOURCE {
            faults.push(FieldError::too_long(format!("{path}.subresource"), LONGEST_SUBRESOURCE));
        }
    }
    faults
}

/// Upstream's order: applies first, then by time and names.
pub(crate) fn sort(entries: &mut [Entry]) {
    entries.sort_by(|one, other| {
        let names = |entry: &Entry| (entry.operation, entry.seconds());
        names(one)
            .cmp(&names(other))
            .then_with(|| one.manager.cmp(&other.manager))
            .then_with(|| one.api_version.cmp(&other.api_version))
            .then_with(|| one.subresource.cmp(&other.subresource))
    });
}
