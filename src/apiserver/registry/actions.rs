//! Subresources that are acts rather than parts of an object: a pod's binding and eviction, a service
//! account's token.

use std::sync::Arc;

use api::kinds::POD;
use api::{ApiError, CreateOptions, DeleteOptions, DryRun, Object, schema};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::request_options::RequestOptions;
use super::subresource::Action;
use super::{Call, Registry, meta_str};
use crate::admission::{Operation, Request};

impl Registry {
    /// Does what is posted to a subresource; answers with the body for the caller.
    pub(super) async fn act(
        &self,
        call: &Call<'_>,
        action: Action,
        name: &str,
        mut body: Value,
        duplicates: &[String],
        options: &CreateOptions,
    ) -> Result<Value, ApiError> {
        let row = call.row();
        let Some(sub) = call.subresource.and_then(|name| row.subresource(name)) else {
            return Err(super::unknown());
        };
        // What is posted may be of another group than the resource: an Eviction is `policy/v1`.
        let group = if sub.version.is_empty() { &row.group } else { &sub.group };
        let version = if sub.version.is_empty() { &row.version } else { &sub.version };
        let shape = api::KindRow {
            group: group.clone(),
            version: version.clone(),
            kind: sub.kind.clone(),
            ..row.clone()
        };
        if action == Action::Evict && body["apiVersion"] == "policy/v1beta1" {
            // Upstream takes the version before, which had the same fields.
            body["apiVersion"] = json!("policy/v1");
        }
        super::body::check_kind(&shape, &mut body)?;
        let validation = options.field_validation;
        call.warn(schema::check_kind(group, version, &sub.kind, &mut body, duplicates, validation)?);
        let ctx = self.context(call);
        let request = Request { ctx: &ctx, operation: Operation::Create, name, old: None };
        // Plugins judge what is posted; the object that changes by it is not admitted once more.
        call.note_options(RequestOptions::Create(options.clone()));
        self.admit(call, &request, None, Some(&mut body)).await?;
        call.warn(self.admit_finally(call, &request, None, Some(&body)).await?);
        match action {
            Action::Bind => self.bind(call, name, &body).await,
            Action::Evict => self.evict(call, name, &body).await,
            Action::IssueToken => {
                let account = self.find(call, name)?;
                self.authenticator.issue_token(&account.object, body, Timestamp::now())
            }
        }
    }

    /// The old way of binding: a Binding posted to its own resource names the pod itself.
    pub(super) async fn bind_named(
        &self,
        call: &Call<'_>,
        binding: Value,
        options: &CreateOptions,
    ) -> Result<Arc<Object>, ApiError> {
        let resources = self.resources.load();
        let pods = resources.of_row(&POD)?;
        let name = meta_str(&binding, "name").to_string();
        let pod = Call::new(pods, call.namespace, call.user)
            .sub(Some("binding"))
            .dry(call.dry_run)
            .fenced(call.fence);
        let answer = self.post(&pod, &name, binding, &[], options).await?;
        call.warn(pod.take_warnings());
        let bytes = serde_json::to_vec(&answer).map_err(ApiError::internal)?;
        Object::from_wire(bytes.into()).map(Arc::new).map_err(ApiError::internal)
    }

    /// Assigns a pod to a node, once.
    async fn bind(&self, call: &Call<'_>, name: &str, binding: &Value) -> Result<Value, ApiError> {
        let given = meta_str(binding, "name");
        if !given.is_empty() && given != name {
            return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
        }
        let node = binding["target"]["name"].as_str().unwrap_or("");
        let kind = binding["target"]["kind"].as_str().unwrap_or("");
        let mut faults = Vec::new();
        if !matches!(kind, "" | "Node") {
            faults.push(api::FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]));
        }
        if node.is_empty() {
            faults.push(api::FieldError::required("target.name", ""));
        }
        if !faults.is_empty() {
            let row = api::kinds::by_kind("v1", "Binding").unwrap_or(call.row());
            return Err(ApiError::invalid(row, name, faults));
        }
        let change = |pod: &mut Value| assign(call, name, binding, node, pod);
        self.amend(call, name, &change).await?;
        Ok(success(201))
    }
}

fn assign(call: &Call<'_>, name: &str, binding: &Value, node: &str, pod: &mut Value) -> Result<(), ApiError> {
    let conflict = |why: String| Err(ApiError::conflict(call.row(), name, &why));
    // A scheduler that decided on an earlier pod of this name must not bind this one.
    let uid = meta_str(binding, "uid");
    if !uid.is_empty() && uid != meta_str(pod, "uid") {
        let own = meta_str(pod, "uid");
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {own}"
        ));
    }
    if !meta_str(pod, "deletionTimestamp").is_empty() {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let bound = pod["spec"]["nodeName"].as_str().unwrap_or("");
    if !bound.is_empty() {
        return conflict(format!("pod {name} is already assigned to node {bound:?}"));
    }
    // Gates say that the pod is not ready to be scheduled, whoever binds it.
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    pod["spec"]["nodeName"] = json!(node);
    // The nomination has come true. Left there, it would mislead whoever plans with it.
    if let Some(status) = pod["status"].as_object_mut() {
        status.remove("nominatedNodeName");
    }
    // A binding may carry metadata for the pod: with it, a scheduler needs no second write.
    for part in ["annotations", "labels"] {
        for (key, value) in binding["metadata"][part].as_object().into_iter().flatten() {
            pod["metadata"][part][key] = value.clone();
        }
    }
    set_scheduled(pod);
    Ok(())
}

/// Sets the condition PodScheduled to true.
fn set_scheduled(pod: &mut Value) {
    let now = super::metadata::time(Timestamp::now());
    let generation = pod["metadata"]["generation"].clone();
    let mut condition =
        json!({ "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now });
    if !generation.is_null() {
        condition["observedGeneration"] = generation;
    }
    if !pod["status"].is_object() {
        pod["status"] = json!({});
    }
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = pod["status"]["conditions"].as_array_mut() else { return };
    match conditions.iter_mut().find(|one| one["type"] == "PodScheduled") {
        Some(present) if present["status"] == "True" => {}
        Some(present) => *present = condition,
        None => conditions.push(condition),
    }
}

pub(super) fn success(code: u16) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code })
}

/// `meta/v1` DeleteOptions as they come in a body.
pub(crate) fn delete_options(body: &Value) -> Result<DeleteOptions, ApiError> {
    let text = |value: &Value| value.as_str().map(str::to_string);
    let orphan = body["orphanDependents"].as_bool();
    let policy = body["propagationPolicy"].as_str();
    if orphan.is_some() && policy.is_some() {
        return Err(invalid_option("orphanDependents and deletionPropagation cannot be both set"));
    }
    let propagation_policy = match (policy, orphan) {
        (Some(name), _) => Some(propagation(name)?),
        (None, Some(true)) => Some(api::PropagationPolicy::Orphan),
        (None, Some(false)) => Some(api::PropagationPolicy::Background),
        (None, None) => None,
    };
    let dry_run = match body["dryRun"].as_array().map(Vec::as_slice) {
        None | Some([]) => DryRun::No,
        Some([one]) if one == "All" => DryRun::All,
        Some(_) => return Err(invalid_option("dryRun: Unsupported value: supported values: \"All\"")),
    };
    Ok(DeleteOptions {
        grace_period_seconds: body["gracePeriodSeconds"].as_i64(),
        preconditions: api::Preconditions {
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
        },
        propagation_policy,
        dry_run,
    })
}

pub(crate) fn propagation(name: &str) -> Result<api::PropagationPolicy, ApiError> {
    match name {
        "Orphan" => Ok(api::PropagationPolicy::Orphan),
        "Background" => Ok(api::PropagationPolicy::Background),
        "Foreground" => Ok(api::PropagationPolicy::Foreground),
        other => Err(invalid_option(&format!(
            "propagationPolicy: Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\""
        ))),
    }
}

fn invalid_option(why: &str) -> ApiError {
    ApiError::new(422, "Invalid", format!("DeleteOptions.meta.k8s.io \"\" is invalid: {why}"))
}
