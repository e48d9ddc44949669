//! Faults of a definition: names, versions, columns, subresources, conversion. Those of schemas come with
//! their tree.
//!
//! Rules, paths and messages are upstream's. It tells of a part that is the same in all versions as of the
//! definition's (`spec.validation`, not `spec.versions[0].schema`), and so does this. Its lists have no
//! bounds; each of these is looked through for every request on the kind or every row of a table, so here
//! they have.

use api::FieldError;
use api::json::{items, text};
use api::validation::{Faults, Path, dns1035_label, dns1123_subdomain};
use cel::Library;
use serde_json::Value;

use crate::definitions::rules::RuleTree;
use crate::registry::strategies::admission_registration::{review_versions, validate_client};
use crate::schemas::is_same;
use crate::strategy::RequestContext;

/// Versions of a definition.
const MAX_VERSIONS: usize = 100;
/// Short names, and categories.
const MAX_NAMES: usize = 100;
/// Printer columns of a version.
const MAX_COLUMNS: usize = 100;

fn bounded(faults: &mut Faults, path: impl Into<String>, list: &[Value], most: usize) -> bool {
    if list.len() > most {
        faults.push(FieldError::too_many(path, list.len(), i64::try_from(most).unwrap_or(i64::MAX)));
    }
    list.len() <= most
}

pub(super) fn spec(ctx: &RequestContext<'_>, tree: &Value, old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    group_and_scope(tree, &mut faults);
    let versions = items(tree, "spec.versions");
    // What follows is done for each of them.
    if !bounded(&mut faults, "spec.versions", versions, MAX_VERSIONS) {
        return faults;
    }
    for (at, _) in versions.iter().enumerate().filter(|(_, one)| one["schema"]["openAPIV3Schema"].is_null()) {
        faults.push(FieldError::required(format!("spec.versions[{at}].schema.openAPIV3Schema"), ""));
    }
    let names: Vec<&str> = versions.iter().map(|version| text(version, "name")).collect();
    let columns_are_same = is_same(tree, "additionalPrinterColumns");
    let subresources_are_same = is_same(tree, "subresources");
    let fields_are_same = is_same(tree, "selectableFields");
    for (at, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{at}]");
        let errors = dns1035_label(names[at]);
        if !errors.is_empty() {
            faults.push(FieldError::invalid(format!("{path}.name"), names[at], errors.join(",")));
        }
        deprecation(version, &path, &mut faults);
        if !subresources_are_same {
            scale(&version["subresources"]["scale"], &path, &mut faults);
        }
        if !columns_are_same {
            columns(version, &path, &mut faults);
        }
        if !fields_are_same {
            selectable_fields(version, &path, &mut faults);
        }
    }
    faults.extend(ctx.schemas.check(tree).faults.iter().cloned());
    faults.extend(rules(versions, is_same(tree, "schema"), old));
    if names.iter().enumerate().any(|(at, name)| names[..at].contains(name)) {
        faults.push(FieldError::invalid("spec.versions", versions, "must contain unique version names"));
    }
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        faults.push(FieldError::invalid("spec.versions", versions, why));
    }
    for name in ["plural", "singular", "kind", "listKind"] {
        if text(&tree["spec"]["names"], name).is_empty() {
            faults.push(FieldError::required(format!("spec.names.{name}"), ""));
        }
    }
    faults.extend(self::names(&tree["spec"]["names"], "spec.names"));
    if let Some(first) = versions.first() {
        if subresources_are_same {
            scale(&first["subresources"]["scale"], "spec", &mut faults);
        }
        if columns_are_same {
            columns(first, "spec", &mut faults);
        }
        if fields_are_same {
            selectable_fields(first, "spec", &mut faults);
        }
    }
    conversion(tree, &mut faults);
    faults
}

fn group_and_scope(tree: &Value, faults: &mut Faults) {
    let group = text(tree, "spec.group");
    if group.is_empty() {
        faults.push(FieldError::required("spec.group", ""));
    } else if let errors = dns1123_subdomain(group)
        && !errors.is_empty()
    {
        faults.push(FieldError::invalid("spec.group", group, errors.join(",")));
    } else if !group.contains('.') {
        faults.push(FieldError::invalid("spec.group", group, "should be a domain with at least one dot"));
    }
    let scope = text(tree, "spec.scope");
    if scope.is_empty() {
        faults.push(FieldError::required("spec.scope", ""));
    } else if !matches!(scope, "Cluster" | "Namespaced") {
        faults.push(FieldError::not_supported("spec.scope", scope, &["Cluster", "Namespaced"]));
    }
}

pub(super) fn preserve_unknown_fields(tree: &Value) -> Option<FieldError> {
    let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
    let fault = || FieldError::invalid("spec.preserveUnknownFields", true, why);
    (tree["spec"]["preserveUnknownFields"] == true).then(fault)
}

fn conversion(tree: &Value, faults: &mut Faults) {
    let conversion = &tree["spec"]["conversion"];
    let strategy = text(conversion, "strategy");
    if strategy.is_empty() {
        faults.push(FieldError::required("spec.conversion.strategy", ""));
    } else if !matches!(strategy, "None" | "Webhook") {
        let supported = ["None", "Webhook"];
        faults.push(FieldError::not_supported("spec.conversion.strategy", strategy, &supported));
    }
    // Upstream names them as the internal form of the definition does.
    let spec = Path::new("spec");
    let at = spec.child("conversion");
    let (client_at, versions_at) = (at.child("webhookClientConfig"), at.child("conversionReviewVersions"));
    let client = &conversion["webhook"]["clientConfig"];
    let versions = items(conversion, "webhook.conversionReviewVersions");
    if strategy == "Webhook" {
        if client.is_object() {
            validate_client(client, &client_at, faults);
        } else {
            faults.push(FieldError::required(client_at, "required when strategy is set to Webhook"));
        }
        if versions.is_empty() {
            faults.push(FieldError::required(versions_at, ""));
        } else {
            review_versions(versions, &versions_at, faults);
        }
        return;
    }
    let why = "should not be set when strategy is not set to Webhook";
    if client.is_object() {
        faults.push(FieldError::forbidden(client_at, why));
    }
    if !versions.is_empty() {
        faults.push(FieldError::forbidden(versions_at, why));
    }
}

/// Rules that are no expressions. Those that are stored already may stay.
fn rules(versions: &[Value], are_same: bool, old: Option<&Value>) -> Faults {
    let before = old.map_or(&[][..], |old| items(old, "spec.versions"));
    let spec = Path::new("spec");
    let (validation, list) = (spec.child("validation"), spec.child("versions"));
    let mut faults = Faults::new();
    let checked = if are_same { versions.get(..1).unwrap_or_default() } else { versions };
    let is_known = |version: &&Value| {
        let schema = &version["schema"]["openAPIV3Schema"];
        before.iter().any(|one| one["schema"]["openAPIV3Schema"] == *schema)
    };
    let library = Library::default();
    if !checked.iter().all(|version| is_known(&version)) {
        // Their patterns count.
        for known in checked.iter().filter(is_known) {
            RuleTree::of(&known["schema"]["openAPIV3Schema"], &library);
        }
    }
    for (at, version) in checked.iter().enumerate() {
        let schema = &version["schema"]["openAPIV3Schema"];
        if is_known(&version) {
            continue;
        }
        let own = list.index(at);
        let path = if are_same { validation.child("openAPIV3Schema") } else { own.child("schema") };
        faults.extend(match are_same {
            true => RuleTree::check(schema, &path, &library),
            false => RuleTree::check(schema, &path.child("openAPIV3Schema"), &library),
        });
    }
    faults
}

/// Fields of a version that selectors may name.
fn selectable_fields(version: &Value, path: &str, faults: &mut Faults) {
    const MOST: usize = 8;
    const TYPES: &str = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
    let list = format!("{path}.selectableFields");
    let mut seen: Vec<&str> = Vec::new();
    for (at, field) in items(version, "selectableFields").iter().enumerate() {
        let (at, given) = (format!("{list}[{at}].jsonPath"), text(field, "jsonPath"));
        if given.is_empty() {
            faults.push(FieldError::required(at, ""));
            continue;
        }
        let steps = given.strip_prefix('.').map(|path| path.split('.'));
        let schema = &version["schema"]["openAPIV3Schema"];
        let into = |schema: &'_ Value, step: &str| match step {
            "" => None,
            step => schema["properties"].get(step).cloned(),
        };
        let found = steps.and_then(|mut steps| steps.try_fold(schema.clone(), |at, step| into(&at, step)));
        let Some(found) = found else {
            let why = "is an invalid path: does not refer to a valid field";
            faults.push(FieldError::invalid(at, given, why));
            continue;
        };
        if given.starts_with(".metadata.") || given == ".metadata" {
            faults.push(FieldError::invalid(&*at, given, "must not point to fields in metadata"));
        }
        if !matches!(text(&found, "type"), "string" | "boolean" | "integer") {
            faults.push(FieldError::invalid(&*at, given, TYPES));
        }
        if seen.contains(&given) {
            faults.push(FieldError::duplicate(at, given));
        } else {
            seen.push(given);
        }
    }
    if seen.len() > MOST {
        faults.push(FieldError::too_many(list, seen.len(), 8));
    }
}

/// Names, as they are asked for or accepted; none of them must be there.
pub(super) fn names(names: &Value, path: &str) -> Faults {
    let mut faults = Faults::new();
    for name in ["plural", "singular", "kind", "listKind"] {
        let value = text(names, name);
        let is_kind = matches!(name, "kind" | "listKind");
        let errors = dns1035_label(&if is_kind { value.to_lowercase() } else { value.to_string() });
        if !value.is_empty() && !errors.is_empty() {
            let prefix = if is_kind { "may have mixed case, but should otherwise match: " } else { "" };
            let why = format!("{prefix}{}", errors.join(","));
            faults.push(FieldError::invalid(format!("{path}.{name}"), value, why));
        }
    }
    list_of_names(names, "shortNames", path, &mut faults);
    let (kind, list) = (text(names, "kind"), text(names, "listKind"));
    if !kind.is_empty() && kind == list {
        let why = "kind and listKind may not be the same";
        faults.push(FieldError::invalid(format!("{path}.listKind"), list, why));
    }
    list_of_names(names, "categories", path, &mut faults);
    faults
}

fn list_of_names(names: &Value, part: &str, path: &str, faults: &mut Faults) {
    let list = items(names, part);
    if !bounded(faults, format!("{path}.{part}"), list, MAX_NAMES) {
        return;
    }
    for (at, value) in list.iter().filter_map(Value::as_str).enumerate() {
        let errors = dns1035_label(value);
        if !errors.is_empty() {
            faults.push(FieldError::invalid(format!("{path}.{part}[{at}]"), value, errors.join(",")));
        }
    }
}

/// No version may go that objects may have been stored in.
pub(super) fn stored_versions(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let path = "status.storedVersions";
    let stored = items(tree, path);
    if stored.is_empty() {
        faults.push(FieldError::invalid(path, stored, "must have at least one stored version"));
        return faults;
    }
    let versions = items(tree, "spec.versions");
    if let Some(storage) = versions.iter().find(|version| version["storage"] == true)
        && !stored.contains(&storage["name"])
    {
        let why = format!("must have the storage version {}", text(storage, "name"));
        faults.push(FieldError::invalid(path, stored, why));
    }
    for (at, name) in stored.iter().filter_map(Value::as_str).enumerate() {
        if !versions.iter().any(|version| version["name"] == name) {
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            faults.push(FieldError::invalid(format!("{path}[{at}]"), name, why));
        }
    }
    faults
}

fn deprecation(version: &Value, path: &str, faults: &mut Faults) {
    let Some(warning) = version["deprecationWarning"].as_str() else { return };
    let mut fault = |why: String| {
        faults.push(FieldError::invalid(format!("{path}.deprecationWarning"), warning, why));
    };
    if version["deprecated"] != true {
        return fault("can only be set for deprecated versions".into());
    }
    if warning.len() > 256 {
        fault("must be <= 256 characters long".into());
    }
    if warning.is_empty() {
        fault("must not be an empty string".into());
    }
    let hidden = |one: char| one.is_control() || one.is_whitespace() && one != ' ';
    if let Some((at, _)) = warning.char_indices().find(|(_, one)| hidden(*one)) {
        fault(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        ));
    }
}

fn columns(version: &Value, path: &str, faults: &mut Faults) {
    const TYPES: &str = "boolean,date,integer,number,string";
    const FORMATS: &str = "byte,date,date-time,double,float,int32,int64,password";
    let path = format!("{path}.additionalPrinterColumns");
    let list = items(version, "additionalPrinterColumns");
    if !bounded(faults, path.clone(), list, MAX_COLUMNS) {
        return;
    }
    for (at, column) in list.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let (kind, format) = (text(column, "type"), text(column, "format"));
        if text(column, "name").is_empty() {
            faults.push(FieldError::required(format!("{path}.name"), ""));
        }
        if kind.is_empty() {
            faults.push(FieldError::required(format!("{path}.type"), format!("must be one of {TYPES}")));
        } else if !TYPES.split(',').any(|one| one == kind) {
            faults.push(FieldError::invalid(format!("{path}.type"), kind, format!("must be one of {TYPES}")));
        }
        if !format.is_empty() && !FORMATS.split(',').any(|one| one == format) {
            let why = format!("must be one of {FORMATS}");
            faults.push(FieldError::invalid(format!("{path}.format"), format, why));
        }
        match text(column, "jsonPath") {
            "" => faults.push(FieldError::required(format!("{path}.JSONPath"), "")),
            // One that cannot be read shows nothing, as upstream.
            given => simple_path(given, &format!("{path}.JSONPath"), faults),
        }
    }
}

fn simple_path(given: &str, path: &str, faults: &mut Faults) {
    if !given.starts_with('.') {
        faults.push(FieldError::invalid(path, given, "must be a simple json path starting with ."));
    }
}

fn scale(scale: &Value, path: &str, faults: &mut Faults) {
    if !scale.is_object() {
        return;
    }
    let path = format!("{path}.subresources.scale");
    for (name, roots, why) in [
        ("specReplicasPath", &[".spec."][..], "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."][..], "should be a json path under .status"),
        (
            "labelSelectorPath",
            &[".spec.", ".status."][..],
            "should be a json path under either .spec or .status",
        ),
    ] {
        let (at, given) = (format!("{path}.{name}"), text(scale, name));
        if given.is_empty() {
            if name != "labelSelectorPath" {
                faults.push(FieldError::required(at, ""));
            }
        } else if !given.starts_with('.') {
            simple_path(given, &at, faults);
        } else if !roots.iter().any(|root| given.starts_with(root)) {
            faults.push(FieldError::invalid(at, given, why));
        }
    }
}
