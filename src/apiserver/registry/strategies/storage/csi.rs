//! What CSI drivers tell of themselves: the driver, the nodes it runs on, the capacity it has left.

use std::collections::HashSet;

use api::json::{items, text};
use api::validation::{Faults, Path, immutable, invalid_each, qualified_name, validate_label_selector};
use api::{ApiError, FieldError};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use crate::printers;
use crate::registry::strategies::rules::{driver_name, non_negative_amount, one_of, required, subdomain};
use crate::registry::strategies::{non_negative, typed};
use crate::strategy::{Cell, Column, RequestContext, Strategy};

const NODE_ID_MAX: usize = 256;
const MIN_TOKEN_SECONDS: i64 = 600;
const FS_GROUP_POLICIES: [&str; 3] = ["File", "None", "ReadWriteOnceWithFSType"];
const LIFECYCLES: [&str; 2] = ["Persistent", "Ephemeral"];
const TOKENS_IN_SECRETS: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";

pub(in super::super) struct CsiDrivers;
pub(in super::super) struct CsiNodes;
pub(in super::super) struct CsiStorageCapacities;

fn validate_driver(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let spec = &tree["spec"];
    let at = Path::new("spec");
    // The path is upstream's, slip and all.
    for (field, called) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if spec[field].is_null() {
            faults.push(FieldError::required(at.child(called), ""));
        }
    }
    if let Some(policy) = spec["fsGroupPolicy"].as_str() {
        one_of(&mut faults, &at.child("fsGroupPolicy"), policy, &FS_GROUP_POLICIES);
    }
    token_requests(items(spec, "tokenRequests"), &at.child("tokenRequests"), &mut faults);
    for mode in items(spec, "volumeLifecycleModes").iter().filter_map(Value::as_str) {
        one_of(&mut faults, &at.child("volumeLifecycleModes"), mode, &LIFECYCLES);
    }
    if spec["seLinuxMount"].is_null() {
        faults.push(FieldError::required(at.child("seLinuxMount"), ""));
    }
    if let Some(period) = spec["nodeAllocatableUpdatePeriodSeconds"].as_i64().filter(|period| *period < 10) {
        let message = "must be greater than or equal to 10 seconds";
        faults.push(FieldError::invalid(at.child("nodeAllocatableUpdatePeriodSeconds"), period, message));
    }
    let in_secrets = &spec["serviceAccountTokenInSecrets"];
    if !in_secrets.is_null() && items(spec, "tokenRequests").is_empty() {
        let message = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        faults.push(FieldError::invalid(at.child("serviceAccountTokenInSecrets"), in_secrets, message));
    }
    faults
}

fn token_requests(requests: &[Value], at: &Path<'_>, faults: &mut Faults) {
    let mut audiences = HashSet::new();
    for (index, request) in requests.iter().enumerate() {
        let at = at.index(index);
        if !audiences.insert(text(request, "audience")) {
            faults.push(FieldError::duplicate(at.child("audience"), text(request, "audience")));
            continue;
        }
        let Some(seconds) = request["expirationSeconds"].as_i64() else { continue };
        let at = at.child("expirationSeconds");
        if seconds < MIN_TOKEN_SECONDS {
            let message = "may not specify a duration less than 10 minutes";
            faults.push(FieldError::invalid(at, seconds, message));
        }
        if seconds > 1 << 32 {
            let message = "may not specify a duration larger than 2^32 seconds";
            faults.push(FieldError::invalid(at, seconds, message));
        }
    }
}

/// Takes out what an alpha feature would use, which is off.
fn drop_alpha(new: &mut Value, old: Option<&Value>) {
    const FIELD: &str = "preventPodSchedulingIfMissing";
    let used = old.is_some_and(|old| !old["spec"][FIELD].is_null());
    if let (false, Some(spec)) = (used, new.get_mut("spec").and_then(Value::as_object_mut)) {
        spec.remove(FIELD);
    }
}

impl Strategy for CsiDrivers {
    fn prepare_for_create(&self, _ctx: &RequestContext<'_>, tree: &mut Value) -> Result<(), ApiError> {
        drop_alpha(tree, None);
        Ok(())
    }

    fn prepare_for_update(
        &self,
        _ctx: &RequestContext<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        drop_alpha(new, Some(old));
        Ok(())
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate_driver(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = validate_driver(new);
        let at = Path::new("spec");
        for (field, called) in
            [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
        {
            immutable(&mut faults, &at.child(called), &new["spec"][field], &old["spec"][field]);
        }
        faults
    }

    fn warnings(&self, _ctx: &RequestContext<'_>, tree: &Value, old: Option<&Value>) -> Vec<String> {
        let requests = &tree["spec"]["tokenRequests"];
        let is_new = old.is_none_or(|old| old["spec"]["tokenRequests"] != *requests);
        let is_open = tree["spec"]["serviceAccountTokenInSecrets"].is_null();
        let asks = requests.as_array().is_some_and(|list| !list.is_empty());
        if asks && is_new && is_open { vec![TOKENS_IN_SECRETS.to_string()] } else { Vec::new() }
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &[Column] {
        printers::storage::CSI_DRIVER
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::storage::csi_driver(tree, now)
    }
}

fn validate_node(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let list = at.child("drivers");
    let mut names = HashSet::new();
    for (index, driver) in items(tree, "spec.drivers").iter().enumerate() {
        let at = list.index(index);
        let (name, id) = (text(driver, "name"), text(driver, "nodeID"));
        driver_name(&mut faults, &at.child("name"), name);
        required(&mut faults, &at.child("nodeID"), id);
        if id.len() > NODE_ID_MAX {
            let message = format!("must be {NODE_ID_MAX} characters or less");
            faults.push(FieldError::invalid(at.child("nodeID"), id, message));
        }
        if let Some(count) = driver["allocatable"]["count"].as_i64() {
            let at = at.child("allocatable");
            non_negative(&mut faults, &at.child("count"), count);
        }
        if !names.insert(name) {
            faults.push(FieldError::duplicate(at.child("name"), name));
        }
        let mut keys = HashSet::new();
        for key in items(driver, "topologyKeys").iter().filter_map(Value::as_str) {
            required(&mut faults, &at, key);
            if !keys.insert(key) {
                faults.push(FieldError::duplicate(at, key));
            }
            invalid_each(&mut faults, &at, key, qualified_name(key));
        }
    }
    faults
}

/// A driver without how many volumes it takes, which may change.
fn bare(driver: &Value) -> Value {
    let mut driver = driver.clone();
    if let Some(members) = driver.as_object_mut() {
        members.remove("allocatable");
    }
    driver
}

impl Strategy for CsiNodes {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate_node(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = validate_node(new);
        let at = Path::new("spec");
        for was in items(old, "spec.drivers") {
            let same = items(new, "spec.drivers").iter().filter(|is| is["name"] == was["name"]);
            for is in same {
                immutable(&mut faults, &at.child("drivers"), &bare(is), &bare(was));
            }
        }
        faults
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &[Column] {
        printers::storage::CSI_NODE
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::storage::csi_node(tree, now)
    }
}

fn validate_capacity(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("nodeTopology");
    if let Some(selector) = typed::<LabelSelector>(&tree["nodeTopology"], &at, &mut faults) {
        validate_label_selector(&selector, &at, &mut faults);
    }
    subdomain(&mut faults, &Path::new("storageClassName"), text(tree, "storageClassName"));
    non_negative_amount(&mut faults, &Path::new("capacity"), &tree["capacity"]);
    faults
}

impl Strategy for CsiStorageCapacities {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate_capacity(tree)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        let mut faults = validate_capacity(new);
        for field in ["nodeTopology", "storageClassName"] {
            immutable(&mut faults, &Path::new(field), &new[field], &old[field]);
        }
        faults
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &[Column] {
        printers::storage::CSI_STORAGE_CAPACITY
    }

    fn cells(&self, tree: &Value, _now: Timestamp) -> Vec<Cell> {
        printers::storage::csi_storage_capacity(tree)
    }
}
