//! Attachments of volumes to nodes: asked for once, then told about.

use api::FieldError;
use api::json::text;
use api::validation::{Faults, Path, immutable};
use jiff::Timestamp;
use serde_json::Value;

use super::volume::validate_spec;
use crate::printers;
use crate::registry::strategies::rules::{driver_name, subdomain};
use crate::strategy::{Cell, Column, RequestContext, Strategy};

const METADATA_MAX: usize = 256 * 1024;
const MESSAGE_MAX: usize = 1024;

pub(in super::super) struct VolumeAttachments;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let spec = &tree["spec"];
    driver_name(&mut faults, &at.child("attacher"), text(spec, "attacher"));
    source(&spec["source"], &at.child("source"), &mut faults);
    subdomain(&mut faults, &at.child("nodeName"), text(spec, "nodeName"));
    status(&tree["status"], &mut faults);
    faults
}

fn source(source: &Value, at: &Path<'_>, faults: &mut Faults) {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let (inline, name) = (&source["inlineVolumeSpec"], &source["persistentVolumeName"]);
    let field = at.child("persistentVolumeName");
    match (inline.is_null(), name.as_str()) {
        (true, None) => faults.push(FieldError::required(at, ONE)),
        (false, Some(_)) => faults.push(FieldError::forbidden(at, ONE)),
        (true, Some("")) => {
            faults.push(FieldError::required(field, "must specify non empty persistentVolumeName"));
        }
        (true, Some(_)) => {}
        (false, None) => validate_spec(inline, "", true, &at.child("inlineVolumeSpec"), faults),
    }
    if let Some(name) = name.as_str() {
        subdomain(faults, &field, name);
    }
}

fn status(status: &Value, faults: &mut Faults) {
    let at = Path::new("status");
    let metadata = status["attachmentMetadata"].as_object().into_iter().flatten();
    let size: usize = metadata.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > METADATA_MAX {
        faults.push(FieldError::too_long(at.child("attachmentMetadata"), METADATA_MAX));
    }
    for field in ["attachError", "detachError"] {
        let (at, error) = (at.child(field), &status[field]);
        if text(error, "message").len() > MESSAGE_MAX {
            // The number is upstream's.
            faults.push(FieldError::too_long(at.child("message"), METADATA_MAX));
        }
        if let Some(code) = error["errorCode"].as_i64().filter(|code| *code < 0) {
            let message = "must be between 0 and 2147483647, inclusive";
            faults.push(FieldError::invalid(at.child("errorCode"), code, message));
        }
    }
}

impl Strategy for VolumeAttachments {
    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = validate(new);
        immutable(&mut faults, &Path::new("spec"), &new["spec"], &old["spec"]);
        faults
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &[Column] {
        printers::storage::VOLUME_ATTACHMENT
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::storage::volume_attachment(tree, now)
    }
}
