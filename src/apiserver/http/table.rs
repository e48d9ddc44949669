//! Server-side tables and metadata-only forms, derived per request.

use std::sync::Arc;

use api::{ApiError, KindRow, Object};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::head::Head;
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
}

/// Makes tables of one kind.
pub(crate) struct Printer<'a> {
    row: &'a KindRow,
    strategy: &'a Arc<dyn Strategy>,
    include: Include,
}

impl<'a> Printer<'a> {
    pub(crate) fn new(resource: &'a Resource, head: &Head<'_>) -> Result<Self, ApiError> {
        Self::including(resource, head.query.get("includeObject"))
    }

    pub(crate) fn including(resource: &'a Resource, include: Option<&str>) -> Result<Self, ApiError> {
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
        Ok(Printer { row: &resource.row, strategy: &resource.strategy, include })
    }

    pub(crate) fn row(&self) -> &'a KindRow {
        self.row
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
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
            "columnDefinitions": columns, "rows": rows?,
        }))
    }

    pub(crate) fn rows(&self) -> Rows {
        Rows { strategy: Arc::clone(self.strategy), include: self.include }
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
            Include::Metadata => json!({ "cells": cells, "object": partial_of(&tree) }),
            Include::Object => json!({ "cells": cells, "object": tree }),
        })
    }
}

/// `PartialObjectMetadata` of an object.
pub(crate) fn partial(object: &Object) -> Result<Value, ApiError> {
    Ok(partial_of(&object.tree().map_err(ApiError::internal)?))
}

fn partial_of(tree: &Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": tree["metadata"] })
}
