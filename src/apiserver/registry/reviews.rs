//! Kinds that are questions: posted, answered in their status, never stored (`authentication.k8s.io`,
//! `authorization.k8s.io`).

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{ApiError, FieldError, Identity, Object};
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, ResourceAttributes};
use serde::Deserialize;
use serde_json::{Value, json};

use super::review::Review;
use super::{Call, Registry};
use crate::authz::{Attributes, Decision};

/// What all access reviews ask.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Question {
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<NonResourceAttributes>,
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Registry {
    /// Answers a review.
    pub(super) fn review(
        &self,
        call: &Call<'_>,
        review: Review,
        mut tree: Value,
    ) -> Result<Arc<Object>, ApiError> {
        let spec = tree["spec"].clone();
        let status = match review {
            Review::Token => self.token_review(&spec)?,
            Review::Self_ => json!({"userInfo": user_info(call.user)}),
            Review::Rules => self.rules_review(call, &spec)?,
            Review::Access => self.access_review(call, spec)?,
        };
        tree["status"] = status;
        // It was never stored, so it has no resourceVersion.
        let bytes = serde_json::to_vec(&tree).map_err(ApiError::internal)?;
        Object::from_wire(bytes.into()).map(Arc::new).map_err(ApiError::internal)
    }

    fn token_review(&self, spec: &Value) -> Result<Value, ApiError> {
        let token = spec["token"].as_str().unwrap_or("");
        if token.is_empty() {
            return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
        }
        let audiences: Vec<String> = serde_json::from_value(spec["audiences"].clone()).unwrap_or_default();
        Ok(match self.authenticator.review(token, &audiences) {
            Ok((identity, audiences)) => {
                json!({"authenticated": true, "user": user_info(&identity), "audiences": audiences})
            }
            Err(error) => json!({"user": {}, "error": format!("invalid bearer token, {error}")}),
        })
    }

    fn access_review(&self, call: &Call<'_>, spec: Value) -> Result<Value, ApiError> {
        let invalid = |fault: FieldError| ApiError::invalid(call.row(), "", vec![fault]);
        let question: Question = serde_json::from_value(spec)
            .map_err(|error| invalid(FieldError::invalid("spec", "", error.to_string())))?;
        if question.resource_attributes.is_some() == question.non_resource_attributes.is_some() {
            let message = match question.resource_attributes {
                Some(_) => "cannot be specified in combination with resourceAttributes",
                None => "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            };
            let field = if question.resource_attributes.is_some() {
                "nonResourceAttributes"
            } else {
                "resourceAttributes"
            };
            return Err(invalid(FieldError::invalid(format!("spec.{field}"), "", message)));
        }
        let of_self = call.row().kind == "SelfSubjectAccessReview";
        if !of_self && question.user.is_empty() && question.groups.is_empty() {
            let message = "at least one of user or group must be specified";
            return Err(invalid(FieldError::invalid("spec.user", "", message)));
        }
        // It may be granted within a namespace, and then must not ask about others.
        if call.row().kind == "LocalSubjectAccessReview" {
            let asked =
                question.resource_attributes.as_ref().and_then(|one| one.namespace.as_deref()).unwrap_or("");
            let own = call.namespace.unwrap_or("");
            if asked != own {
                let message = format!("must match metadata.namespace: {own}");
                return Err(invalid(FieldError::invalid(
                    "spec.resourceAttributes.namespace",
                    asked,
                    message,
                )));
            }
        }
        let user = if of_self {
            call.user.clone()
        } else {
            Identity {
                name: question.user,
                uid: question.uid,
                groups: question.groups,
                extra: question.extra,
            }
        };
        let resource = question.resource_attributes.unwrap_or_default();
        let path = question.non_resource_attributes.unwrap_or_default();
        let some = |text: &'_ Option<String>| text.clone().filter(|text| !text.is_empty());
        let (namespace, name, subresource) =
            (some(&resource.namespace), some(&resource.name), some(&resource.subresource));
        let attributes = Attributes {
            user: &user,
            verb: resource.verb.as_deref().or(path.verb.as_deref()).unwrap_or(""),
            group: resource.group.as_deref().unwrap_or(""),
            resource: resource.resource.as_deref().unwrap_or(""),
            subresource: subresource.as_deref(),
            namespace: namespace.as_deref(),
            name: name.as_deref(),
            fields: None,
            path: path.path.as_deref().unwrap_or(""),
        };
        Ok(match self.authorizer.authorize(&attributes) {
            Decision::Allow => json!({"allowed": true}),
            Decision::Deny(reason) if reason.is_empty() => json!({"allowed": false}),
            Decision::Deny(reason) => json!({"allowed": false, "reason": reason}),
        })
    }

    fn rules_review(&self, call: &Call<'_>, spec: &Value) -> Result<Value, ApiError> {
        let namespace = spec["namespace"].as_str().unwrap_or("");
        if namespace.is_empty() {
            return Err(ApiError::bad_request("no namespace on request"));
        }
        let mut rules = self.authorizer.rbac().rules(call.user, Some(namespace));
        // Masters need no rules; say so the way their binding does.
        if call.user.in_group(api::identity::GROUP_MASTERS) && rules.is_empty() {
            rules = crate::authz::bootstrap::rules_of("cluster-admin");
        }
        let (mut resources, mut paths) = (Vec::new(), Vec::new());
        for rule in rules {
            match &rule.non_resource_urls {
                Some(urls) if !urls.is_empty() => {
                    paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": urls}))
                }
                _ => {
                    let mut one = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
                    if let Some(names) = rule.resource_names.filter(|names| !names.is_empty()) {
                        one["resourceNames"] = json!(names);
                    }
                    resources.push(one);
                }
            }
        }
        // The Node authorizer's answers depend on the object: they cannot be listed.
        let incomplete = call.user.node_name().is_some();
        Ok(json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": incomplete}))
    }
}

fn user_info(user: &Identity) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}
