//! Policies on their way through a write: which concern it, with which parameters, and what they come to.
//!
//! They run in this process, so a request waits for no other server. Validating ones are asked before
//! validating webhooks, mutating ones before mutating webhooks, as upstream has it.

use std::sync::Arc;

use api::kinds::NAMESPACE;
use api::{ApiError, Object};
use serde_json::{Value, json};

use super::admit::{Review, Rounds, shown};
use super::resource::Resource;
use super::{Call, Registry, Resources};
use crate::expressions::{Asker, Inputs};
use crate::heavy;
use crate::policies::{
    Binding, Bound, Denial, Outcome, ParamRef, Policy, PolicyError, annotations, judge, mutate,
};
use crate::webhooks::{self, Gvk, Gvr, Hook, Rule};

/// The objects that a policy is asked with, one after the other: each is a tree only for as long as it is its
/// turn.
struct Params {
    resource: Arc<Resource>,
    objects: Vec<Arc<Object>>,
    /// Of them all.
    bytes: usize,
}

/// A request as a policy sees it.
pub(super) struct Seen {
    pub(super) object: Value,
    pub(super) old: Value,
    pub(super) request: Value,
    pub(super) namespace: Option<Value>,
}

impl Review<'_> {
    /// Hands on what a webhook tells the audit log.
    pub(super) fn annotate(&self, hook: &Hook, annotations: Vec<(String, String)>) {
        let Some(trail) = &self.call.trail else { return };
        for (key, value) in annotations {
            trail.annotate(format!("{}/{key}", hook.name), value);
        }
    }
}

impl Registry {
    /// Puts a request to all validating policies. Returns warnings.
    pub(super) async fn ask_policies(
        &self,
        review: &Review<'_>,
        bound: &[Bound],
        object: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let (mut warnings, mut refusal) = (Vec::new(), None);
        for (policy, binding) in bound {
            let Some(other) = self.concerns(review, (policy, binding), object)? else { continue };
            let seen = self.seen(review, other, object).await?;
            let denials = match self.denials(review, (policy, binding), &seen).await {
                Ok(denials) => denials,
                Err(_) if policy.fails_open => Vec::new(),
                Err(why) => vec![Denial { reason: String::new(), message: why.to_string() }],
            };
            self.tell_of(review, (policy, binding), &seen, &denials);
            for Denial { reason, message } in denials {
                if binding.warns {
                    warnings.push(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {message}",
                        policy.name, binding.name
                    ));
                }
                if binding.denies && refusal.is_none() {
                    refusal = Some(denied(review, (&**policy, binding), &reason, &message));
                }
            }
        }
        match refusal {
            Some(refusal) => {
                review.call.warn(warnings);
                Err(refusal)
            }
            None => Ok(warnings),
        }
    }

    /// What the audit log is told of a policy: its annotations, and what does not hold.
    fn tell_of(
        &self,
        review: &Review<'_>,
        (policy, binding): (&Policy, &Binding),
        seen: &Seen,
        denials: &[Denial],
    ) {
        let Some(trail) = &review.call.trail else { return };
        // Those with parameters would have to be asked for each of them.
        if !policy.annotations.is_empty() && policy.param_kind.is_none() {
            let asker = Asker { authorizer: &self.authorizer, user: review.attributes.user };
            for (key, value) in heavy::blocking(|| annotations(policy, &seen.inputs(None, &asker))) {
                trail.annotate(format!("{}/{key}", policy.name), value);
            }
        }
        if binding.audits && !denials.is_empty() {
            let failures: Vec<Value> = denials
                .iter()
                .enumerate()
                .map(|(at, denial)| {
                    json!({ "message": denial.message, "policy": policy.name, "binding": binding.name,
                            "expressionIndex": at, "validationActions": binding.actions })
                })
                .collect();
            let key = "validation.policy.admission.k8s.io/validation_failure";
            trail.annotate(key, Value::from(failures).to_string());
        }
    }

    /// What a policy says against a request, with each of its parameters.
    async fn denials(
        &self,
        review: &Review<'_>,
        (policy, binding): (&Policy, &Binding),
        seen: &Seen,
    ) -> Result<Vec<Denial>, PolicyError> {
        let judged = |params: Option<&Value>| {
            let asker = Asker { authorizer: &self.authorizer, user: review.attributes.user };
            // It may take long: others take over what this thread had to do.
            match heavy::blocking(|| judge(policy, &seen.inputs(params, &asker))) {
                Outcome::Denied(denials) => denials,
                Outcome::Passes | Outcome::Unconcerned => Vec::new(),
            }
        };
        let Some(params) = self.params(review, policy, binding)? else { return Ok(judged(None)) };
        let mut denials = Vec::new();
        for object in &params.objects {
            let work = Box::pin(async {
                let tree = params.resource.outward_tree(object).await?;
                Ok::<_, PolicyError>(judged(Some(&tree)))
            });
            denials.extend(self.turns.run(&review.call.user.name, params.bytes, work).await?);
        }
        Ok(denials)
    }

    /// Whether a policy and its binding mean a request, and in which version of the resource.
    fn concerns<'a>(
        &self,
        review: &'a Review<'_>,
        (policy, binding): (&Policy, &Binding),
        object: Option<&Value>,
    ) -> Result<Option<Option<&'a Arc<Resource>>>, ApiError> {
        let Some(other) = review.named_by_policy(policy, binding) else { return Ok(None) };
        let objects = (object, review.old.as_ref());
        for matched in [Some(&policy.constraints), binding.resources.as_ref()].into_iter().flatten() {
            if !matched.selectors.select(&review.attributes, objects, &*self.caches)? {
                return Ok(None);
            }
        }
        Ok(Some(other))
    }

    pub(super) async fn seen(
        &self,
        review: &Review<'_>,
        other: Option<&Arc<Resource>>,
        object: Option<&Value>,
    ) -> Result<Seen, ApiError> {
        let request = &review.attributes;
        let (kind, resource) = review.asked_as(other);
        let namespace = match request.namespace {
            "" => None,
            name => self.caches.get(&NAMESPACE, None, name).and_then(|namespace| namespace.tree().ok()),
        };
        Ok(Seen {
            object: review.in_version(other, object).await?.unwrap_or_default(),
            old: review.in_version(other, review.old.as_ref()).await?.unwrap_or_default(),
            request: request.json("", &kind, &resource),
            namespace: namespace.map(of_namespace),
        })
    }

    /// Changes an object as mutating policies ask. Whether it has changed.
    pub(super) async fn apply_policies(
        &self,
        review: &Review<'_>,
        bound: &[Bound],
        object: &mut Value,
        rounds: &mut Rounds,
    ) -> Result<bool, ApiError> {
        let mut is_changed = false;
        for (policy, binding) in bound {
            let key = format!("{}/{}", policy.name, binding.name);
            if !rounds.wants(&key) {
                continue;
            }
            let present = shown(review.call, object)?;
            let Some(other) = self.concerns(review, (policy, binding), Some(&present))? else { continue };
            let before = object.clone();
            if let Err(failure) = self.apply_policy(review, (policy, binding), other, object).await {
                let message = failure.to_string();
                if !policy.fails_open {
                    let message = format!(
                        "MutatingAdmissionPolicy '{}' with binding '{}' denied request: {message}",
                        policy.name, binding.name
                    );
                    return Err(refused(review, "", &message));
                }
                *object = before;
                continue;
            }
            if *object != before {
                is_changed = true;
                rounds.look_again();
            }
            if policy.reinvoked {
                rounds.was_invoked(key);
            }
        }
        Ok(is_changed)
    }

    /// The changes of one policy, for each of its parameters.
    async fn apply_policy(
        &self,
        review: &Review<'_>,
        (policy, binding): (&Policy, &Binding),
        other: Option<&Arc<Resource>>,
        object: &mut Value,
    ) -> Result<(), PolicyError> {
        let Some(params) = self.params(review, policy, binding)? else {
            return self.apply_with(review, (policy, None), other, object).await;
        };
        for one in &params.objects {
            let work = Box::pin(async {
                let tree = params.resource.outward_tree(one).await?;
                self.apply_with(review, (policy, Some(&tree)), other, &mut *object).await
            });
            self.turns.run(&review.call.user.name, params.bytes, work).await?;
        }
        Ok(())
    }

    /// The changes of one policy with one of its parameters, or with none.
    async fn apply_with(
        &self,
        review: &Review<'_>,
        (policy, params): (&Policy, Option<&Value>),
        other: Option<&Arc<Resource>>,
        object: &mut Value,
    ) -> Result<(), PolicyError> {
        let present = shown(review.call, object)?;
        let seen = self.seen(review, other, Some(&present)).await?;
        let root = other.unwrap_or(&review.call.resource).schema.root();
        let asker = Asker { authorizer: &self.authorizer, user: review.attributes.user };
        let inputs = seen.inputs(params, &asker);
        let Some(new) = heavy::blocking(|| mutate(policy, &inputs, root))? else { return Ok(()) };
        let new = match other {
            Some(other) => other.in_version(&review.call.resource, &new).await?,
            None => new,
        };
        self.take(review.call, object, new)?;
        Ok(())
    }

    /// The objects that a binding names, none if the policy takes none; an error, in upstream's words, where
    /// there must be some.
    fn params(
        &self,
        review: &Review<'_>,
        policy: &Policy,
        binding: &Binding,
    ) -> Result<Option<Params>, PolicyError> {
        let Some((version, kind)) = &policy.param_kind else { return Ok(None) };
        let Some(wanted) = &binding.param_ref else { return Ok(None) };
        let resources = self.resources.load();
        let Some(resource) = of_kind(&resources, version, kind) else {
            let named = format!("'{version}, Kind={kind}'");
            let why = format!("failed to find resource referenced by paramKind: {named}");
            return Err(PolicyError::Binding(why));
        };
        let objects = self.named(review, resource, wanted)?;
        if objects.is_empty() && wanted.required {
            let why = "no params found for policy binding with `Deny` parameterNotFoundAction";
            return Err(PolicyError::Binding(why.into()));
        }
        let bytes = objects.iter().map(|object| object.stored_bytes().len()).sum();
        Ok(Some(Params { resource: resource.clone(), objects, bytes }))
    }

    fn named(
        &self,
        review: &Review<'_>,
        resource: &Resource,
        wanted: &ParamRef,
    ) -> Result<Vec<Arc<Object>>, PolicyError> {
        const OF_NO_NAMESPACE: &str =
            "paramRef.namespace must not be provided for a cluster-scoped `paramKind`";
        const NO_NAMESPACE: &str =
            "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
        let of_request = review.attributes.namespace;
        let namespace = match (resource.row.namespaced(), wanted.namespace.as_str(), of_request) {
            (false, "", _) => None,
            (false, ..) => return Err(PolicyError::Binding(OF_NO_NAMESPACE.into())),
            (true, "", "") => return Err(PolicyError::Binding(NO_NAMESPACE.into())),
            (true, "", of_request) => Some(of_request),
            (true, given, _) => Some(given),
        };
        if !wanted.name.is_empty() {
            return Ok(self.caches.get(&resource.row, namespace, &wanted.name).into_iter().collect());
        }
        let all = self.caches.list(&resource.row, namespace);
        let selects = |object: &Arc<Object>| {
            wanted.selector.as_ref().is_none_or(|selector| selector.matches(object.labels()))
        };
        Ok(all.into_iter().filter(selects).collect())
    }
}

impl Seen {
    pub(super) fn inputs<'a>(&'a self, params: Option<&'a Value>, authorizer: &'a Asker<'a>) -> Inputs<'a> {
        Inputs {
            object: &self.object,
            old: &self.old,
            request: &self.request,
            namespace: self.namespace.as_ref(),
            params,
            authorizer,
        }
    }
}

fn of_kind<'r>(resources: &'r Resources, version: &str, kind: &str) -> Option<&'r Arc<Resource>> {
    resources.all().find(|one| one.version == version && one.row.kind == kind && one.row.storage.is_some())
}

/// What expressions see of a namespace.
fn of_namespace(mut namespace: Value) -> Value {
    let mut metadata = namespace["metadata"].take();
    if let Some(members) = metadata.as_object_mut() {
        members.retain(|name, _| {
            !matches!(name.as_str(), "managedFields" | "ownerReferences" | "finalizers" | "selfLink")
        });
    }
    json!({ "metadata": metadata, "spec": namespace["spec"].take(), "status": namespace["status"].take() })
}

/// The refusal that is answered: 422 unless the policy says something else.
fn denied(
    review: &Review<'_>,
    (policy, binding): (&Policy, &Binding),
    reason: &str,
    message: &str,
) -> ApiError {
    let message = format!(
        "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: {message}",
        policy.name, binding.name
    );
    refused(review, reason, &message)
}

fn refused(review: &Review<'_>, reason: &str, message: &str) -> ApiError {
    let call: &Call<'_> = review.call;
    let error =
        ApiError::forbidden(call.row(), review.attributes.name, message).with_cause("", None, message);
    let reason = if reason.is_empty() { "Invalid" } else { reason };
    let code = match reason {
        "Unauthorized" => 401,
        "Forbidden" => 403,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    let mut status = error.status().clone();
    (status.reason, status.code) = (Some(reason.to_string()), Some(code));
    ApiError::from_status(status)
}

/// What a request is about, in the version that a webhook or a policy wants to see.
impl Review<'_> {
    /// Whether the rules of a policy and its binding name the request, and in which other version of the
    /// resource.
    pub(super) fn named_by_policy(
        &self,
        policy: &Policy,
        binding: &Binding,
    ) -> Option<Option<&Arc<Resource>>> {
        let request = &self.attributes;
        let find = |rules: &[Rule], equivalent: bool| {
            let equivalents = equivalent.then_some(&self.equivalents[..]);
            webhooks::find(rules, request, equivalents, |other| Gvr::of(&other.row))
        };
        let constraints = &policy.constraints;
        let other = find(&constraints.rules, constraints.equivalent)?;
        let narrowed = binding.resources.as_ref().is_none_or(|narrower| {
            // A binding without rules narrows nothing by them.
            (narrower.rules.is_empty() || find(&narrower.rules, narrower.equivalent).is_some())
                && find(&narrower.excluded, narrower.equivalent).is_none()
        });
        let is_named = narrowed && find(&constraints.excluded, constraints.equivalent).is_none();
        is_named.then_some(other)
    }

    pub(super) fn asked_as(&self, other: Option<&Arc<Resource>>) -> (Gvk, Gvr) {
        let request = &self.attributes;
        let is_own_kind = request.kind == Gvk::of(self.call.row());
        match other {
            Some(other) if is_own_kind => (Gvk::of(&other.row), Gvr::of(&other.row)),
            Some(other) => (request.kind.clone(), Gvr::of(&other.row)),
            None => (request.kind.clone(), request.resource.clone()),
        }
    }
}
