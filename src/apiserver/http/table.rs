//! Server-side tables and metadata-only forms, derived per request.

use std::sync::Arc;

use api::{ApiError, KindRow, Object};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer;
use super::head::Head;
use super::negotiate::Accepted;
use crate::registry::Resource;
use crate::strategy::{Column, Strategy};

/// What a table's rows hold beside their cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Include {
    None,
    Metadata,
    Object,
}

/// Makes rows of one kind's tables.
#[derive(Clone)]
pub(crate) struct Rows {
    strategy: Arc<dyn Strategy>,
    include: Include,
    version: &'static str,
}

/// Makes tables of one kind.
pub(crate) struct Printer<'a> {
    row: &'a KindRow,
    strategy: &'a Arc<dyn Strategy>,
    include: Include,
    accepted: Accepted,
}

impl<'a> Printer<'a> {
    pub(crate) fn new(resource: &'a Resource, head: &Head<'_>) -> Result<Self, ApiError> {
        let accepted = answer::accepted_of(&resource.row, head)?;
        Self::including(resource, head.query.get("includeObject"), accepted)
    }

    pub(crate) fn including(
        resource: &'a Resource,
        include: Option<&str>,
        accepted: Accepted,
    ) -> Result<Self, ApiError> {
        let include = match include {
            None | Some("Metadata") => Include::Metadata,
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            Some(other) => {
                let message = format!(
                    "unrecognized includeObject value: {other:?}: supported values: \"Metadata\", \"None\", \"Object\""
                );
                return Err(ApiError::bad_request(message));
            }
        };
        Ok(Printer { row: &resource.row, strategy: &resource.strategy, include, accepted })
    }

    pub(crate) fn row(&self) -> &'a KindRow {
        self.row
    }

    /// The form in which the kind is given to the client.
    pub(crate) fn accepted(&self) -> Accepted {
        self.accepted
    }

    /// A Table of some objects. The later events of a watch leave the columns out.
    pub(crate) fn table(
        &self,
        objects: &[Arc<Object>],
        meta: Value,
        columns: bool,
    ) -> Result<Value, ApiError> {
        let rows = self.rows();
        let rows: Result<Vec<Value>, ApiError> = objects.iter().map(|object| rows.row(object)).collect();
        let columns = if columns { self.columns() } else { Value::Null };
        Ok(json!({
            "kind": "Table", "apiVersion": self.accepted.version, "metadata": meta,
            "columnDefinitions": columns, "rows": rows?,
        }))
    }

    pub(crate) fn rows(&self) -> Rows {
        Rows { strategy: Arc::clone(self.strategy), include: self.include, version: self.accepted.version }
    }

    pub(crate) fn columns(&self) -> Value {
        let column = |column: &Column| {
            json!({
                "name": column.name, "type": column.kind, "format": column.format,
                "description": column.description, "priority": column.priority,
            })
        };
        self.strategy.columns().iter().map(column).collect()
    }
}

impl Rows {
    pub(crate) fn row(&self, object: &Arc<Object>) -> Result<Value, ApiError> {
        let tree = object.tree().map_err(ApiError::internal)?;
        let cells = self.strategy.cells(&tree, Timestamp::now());
        Ok(match self.include {
            Include::None => json!({ "cells": cells }),
            Include::Metadata => json!({ "cells": cells, "object": partial_of(&tree, self.version) }),
            Include::Object => json!({ "cells": cells, "object": tree }),
        })
    }
}

/// `PartialObjectMetadata` of an object, in a version of `meta.k8s.io`.
pub(crate) fn partial(object: &Object, version: &str) -> Result<Value, ApiError> {
    Ok(partial_of(&object.tree().map_err(ApiError::internal)?, version))
}

fn partial_of(tree: &Value, version: &str) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": version, "metadata": tree["metadata"] })
}
