//! Admission as a whole: the plugins of this server, then the webhooks and policies that are configured.
//!
//! Mutating webhooks are asked one after the other, each with what the one before has made of the object.
//! Policies are asked before webhooks. If one has changed the object, plugins and those policies and webhooks
//! that want it look once more. Validating ones are asked at once. Which version of an object one sees is a
//! matter of its rules: where they name an equivalent resource, the object is converted there and back.
//!
//! A write waits for a webhook no longer than that allows, and holds no lock meanwhile. What components of
//! this process write goes the same way, as upstream's does: a webhook that is asked about leases, fails and
//! fails closed stops the leases. Only webhooks and policies themselves are exempt.

use std::collections::HashSet;
use std::sync::Arc;

use api::{ApiError, DryRun, FieldValidation, Object, patch};
use cel::Budget;
use futures::future::join_all;
use serde_json::{Value, json};

use super::resource::Resource;
use super::scale::{self, GROUP, KIND, VERSION};
use super::subresource::Subresource;
use super::{Call, Registry, managed};
use crate::admission::{self, Request};
use crate::expressions::{Asker, CONDITIONS_BUDGET, Met, met};
use crate::heavy;
use crate::policies::Bound;
use crate::webhooks::{self, Answer, Attributes, Failure, Gvk, Gvr, Hook, Operation, Question};

/// A webhook that is to be asked, and in which other version of the resource.
type Matched<'a> = (&'a Hook, Option<&'a Arc<Resource>>);

/// One request on its way through policies and webhooks.
pub(super) struct Review<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) attributes: Attributes<'a>,
    /// The object before, as webhooks see it.
    pub(super) old: Option<Value>,
    /// Other versions of the resource.
    pub(super) equivalents: Vec<Arc<Resource>>,
}

impl Registry {
    /// Plugins, then mutating webhooks. `old` is the object before in the call's version, if the caller has
    /// it.
    pub(super) async fn admit(
        &self,
        call: &Call<'_>,
        request: &Request<'_>,
        old: Option<&Value>,
        mut object: Option<&mut Value>,
    ) -> Result<(), ApiError> {
        self.admission.mutate(request, object.as_deref_mut()).await?;
        let mut hooks = self.webhooks.mutating();
        let mut policies = self.policies.mutating();
        if !self.is_reviewed(call, "MutatingAdmissionWebhook") {
            hooks = Arc::new([]);
        }
        if !self.is_reviewed(call, "MutatingAdmissionPolicy") {
            policies = Arc::new([]);
        }
        if hooks.is_empty() && policies.is_empty() {
            return Ok(());
        }
        let asked = (&policies[..], &hooks[..]);
        let Some(review) = self.review_of(call, request, asked, old).await? else { return Ok(()) };
        Box::pin(self.ask_mutating(&review, request, asked, object)).await
    }

    /// Plugins, then validating webhooks: the last word on what is about to be stored. Returns warnings.
    pub(super) async fn admit_finally(
        &self,
        call: &Call<'_>,
        request: &Request<'_>,
        old: Option<&Value>,
        object: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        // A Scale has no template: whoever writes one is not told of the object's.
        let mut warnings = self.admission.validate(request, object, call.scales.is_none()).await?;
        let mut hooks = self.webhooks.validating();
        let mut policies = self.policies.validating();
        if !self.is_reviewed(call, "ValidatingAdmissionWebhook") {
            hooks = Arc::new([]);
        }
        if !self.is_reviewed(call, "ValidatingAdmissionPolicy") {
            policies = Arc::new([]);
        }
        if hooks.is_empty() && policies.is_empty() {
            return Ok(warnings);
        }
        let asked = (&policies[..], &hooks[..]);
        if let Some(review) = self.review_of(call, request, asked, old).await? {
            warnings.extend(Box::pin(self.ask_validating(&review, asked, object)).await?);
        }
        Ok(warnings)
    }

    /// The same for what leads to a node and changes no object: `options` say what is asked for.
    pub(crate) async fn admit_connection(
        &self,
        call: &Call<'_>,
        name: &str,
        mut options: Value,
    ) -> Result<(), ApiError> {
        let (mutating, mut validating) = (self.webhooks.mutating(), self.webhooks.validating());
        let mut policies = self.policies.validating();
        if mutating.is_empty() && validating.is_empty() && policies.is_empty() {
            return Ok(());
        }
        let kind = Gvk { group: String::new(), version: "v1".into(), kind: text_of(&options, "kind") };
        let attributes = Attributes {
            operation: Operation::Connect,
            kind,
            ..self.attributes(call, Operation::Connect, name)
        };
        let review = Review { call, attributes, old: None, equivalents: Vec::new() };
        if self.admission.has("MutatingAdmissionWebhook") {
            self.round(&review, &mutating, Some(&mut options), &mut Rounds::default()).await?;
        }
        if !self.admission.has("ValidatingAdmissionWebhook") {
            validating = Arc::new([]);
        }
        if !self.admission.has("ValidatingAdmissionPolicy") {
            policies = Arc::new([]);
        }
        call.warn(Box::pin(self.ask_validating(&review, (&policies, &validating), Some(&options))).await?);
        Ok(())
    }

    fn is_reviewed(&self, call: &Call<'_>, plugin: &str) -> bool {
        !call.is_internal && !webhooks::is_exempt(call.row()) && self.admission.has(plugin)
    }

    fn attributes<'a>(&self, call: &'a Call<'_>, operation: Operation, name: &'a str) -> Attributes<'a> {
        let row = call.row();
        let subresource = if call.scales.is_some() { "scale" } else { call.subresource.unwrap_or("") };
        let of_part = call.subresource.and_then(|name| row.subresource(name));
        let kind = match of_part {
            _ if call.scales.is_some() => {
                Gvk { group: GROUP.into(), version: VERSION.into(), kind: KIND.into() }
            }
            // What is posted may be of another group than the resource.
            Some(part) if !part.version.is_empty() => Gvk {
                group: part.group.to_string(),
                version: part.version.to_string(),
                kind: part.kind.to_string(),
            },
            Some(part) if matches!(call.about(), Some(Subresource::Action(_))) => {
                Gvk { kind: part.kind.to_string(), ..Gvk::of(row) }
            }
            _ => Gvk::of(row),
        };
        let is_namespace = row.group.is_empty() && row.plural == "namespaces";
        let namespace = if is_namespace && operation != Operation::Create { name } else { "" };
        Attributes {
            user: call.user,
            operation,
            kind,
            resource: Gvr::of(row),
            subresource,
            namespace: call.namespace.unwrap_or(namespace),
            name,
            dry_run: call.dry_run == DryRun::All,
            options: call.options_json(),
        }
    }

    /// None if no rules of a webhook or a policy name the request: nothing is converted or copied then.
    async fn review_of<'a>(
        &self,
        call: &'a Call<'_>,
        request: &'a Request<'_>,
        (policies, hooks): (&[Bound], &[Hook]),
        old: Option<&Value>,
    ) -> Result<Option<Review<'a>>, ApiError> {
        let operation = match request.operation {
            admission::Operation::Create => Operation::Create,
            admission::Operation::Update => Operation::Update,
            admission::Operation::Delete => Operation::Delete,
        };
        let resources = self.resources.load();
        let own = call.row();
        let same = |other: &&Arc<Resource>| {
            other.row.storage.is_some()
                && other.row.storage == own.storage
                && (other.row.version != own.version || other.row.group != own.group)
        };
        let equivalents = resources.all().filter(same).cloned().collect();
        let attributes = self.attributes(call, operation, request.name);
        let mut review = Review { call, attributes, old: None, equivalents };
        let is_named = hooks.iter().any(|hook| review.named_by(hook).is_some())
            || policies.iter().any(|(policy, binding)| review.named_by_policy(policy, binding).is_some());
        if !is_named {
            return Ok(None);
        }
        review.old = match (old, request.old) {
            (Some(old), _) => Some(shown(call, old)?),
            (None, Some(object)) => Some(call.resource.outward_bare_tree(object).await?),
            (None, None) => None,
        };
        Ok(Some(review))
    }

    async fn ask_mutating(
        &self,
        review: &Review<'_>,
        request: &Request<'_>,
        (policies, hooks): (&[Bound], &[Hook]),
        mut object: Option<&mut Value>,
    ) -> Result<(), ApiError> {
        let mut rounds = Rounds::default();
        let mut is_changed = false;
        if let Some(object) = object.as_deref_mut() {
            is_changed |= self.apply_policies(review, policies, object, &mut rounds).await?;
        }
        is_changed |= self.round(review, hooks, object.as_deref_mut(), &mut rounds).await?;
        if !is_changed {
            return Ok(());
        }
        let Some(object) = object else { return Ok(()) };
        let before = object.clone();
        self.admission.mutate(request, Some(object)).await?;
        if *object != before {
            rounds.look_again();
        }
        rounds.is_second = true;
        self.apply_policies(review, policies, object, &mut rounds).await?;
        self.round(review, hooks, Some(object), &mut rounds).await?;
        Ok(())
    }

    /// Asks those mutating webhooks that the request concerns. Whether the object has changed.
    async fn round(
        &self,
        review: &Review<'_>,
        hooks: &[Hook],
        mut object: Option<&mut Value>,
        rounds: &mut Rounds,
    ) -> Result<bool, ApiError> {
        let mut is_changed = false;
        for hook in hooks {
            if !rounds.wants(&hook.uid) || review.named_by(hook).is_none() {
                continue;
            }
            let present = object.as_deref().map(|object| shown(review.call, object)).transpose()?;
            let Some(other) = self.matched(review, hook, present.as_ref()).await? else { continue };
            let changed = match self.mutate_by(review, (hook, other), present).await {
                Ok(changed) => changed,
                Err(failure) => {
                    self.judge(review.call, hook, failure)?;
                    None
                }
            };
            if let (Some(new), Some(object)) = (changed, object.as_deref_mut()) {
                let before = object.clone();
                self.take(review.call, object, new)?;
                if *object != before {
                    is_changed = true;
                    rounds.look_again();
                }
            }
            if hook.reinvoked {
                rounds.was_invoked(hook.uid.clone());
            }
        }
        Ok(is_changed)
    }

    /// What a webhook makes of an object, as webhooks see it in the call's version; none if it leaves it.
    async fn mutate_by(
        &self,
        review: &Review<'_>,
        matched: Matched<'_>,
        present: Option<Value>,
    ) -> Result<Option<Value>, Failure> {
        let refuse = |error: ApiError| Failure::Refused(error, Vec::new());
        let (hook, other) = matched;
        let mut object = review.in_version(other, present.as_ref()).await.map_err(refuse)?;
        let old = review.in_version(other, review.old.as_ref()).await.map_err(refuse)?;
        let Answer { patch, warnings, annotations } =
            review.put(self, matched, object.as_ref(), old.as_ref(), true).await?;
        review.call.warn(warnings);
        review.annotate(hook, annotations);
        let Some(patch) = patch else { return Ok(None) };
        let Some(object) = &mut object else {
            let why = format!(
                "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                hook.name
            );
            return Err(refuse(ApiError::internal(why)));
        };
        let identity = (object["apiVersion"].clone(), object["kind"].clone());
        patch::json_patch(object, &patch).map_err(|error| refuse(ApiError::internal(error)))?;
        if !object.is_object() || (&object["apiVersion"], &object["kind"]) != (&identity.0, &identity.1) {
            let why = format!("admission webhook {:?} changed the kind of the object", hook.name);
            return Err(refuse(ApiError::internal(why)));
        }
        match other {
            Some(other) => other.in_version(&review.call.resource, object).await.map(Some).map_err(refuse),
            None => Ok(Some(object.take())),
        }
    }

    /// Puts what a webhook has made into the place of the object, with its defaults.
    pub(super) fn take(&self, call: &Call<'_>, object: &mut Value, mut new: Value) -> Result<(), ApiError> {
        if let Some(paths) = call.scales {
            let replicas = new["spec"]["replicas"].as_i64().unwrap_or(0);
            paths.spec_replicas.set(object, json!(replicas));
            return Ok(());
        }
        managed::take(&mut new);
        let is_whole = !matches!(call.about(), Some(Subresource::Action(_) | Subresource::Connection(_)));
        if is_whole {
            let schema = &call.resource.schema;
            schema.check(&mut new, &[], FieldValidation::Ignore)?;
            schema.default(&mut new)?;
            call.strategy().default(&self.context(call), &mut new);
        }
        *object = new;
        Ok(())
    }

    /// Policies, then webhooks.
    async fn ask_validating(
        &self,
        review: &Review<'_>,
        (policies, hooks): (&[Bound], &[Hook]),
        object: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let object = object.map(|object| shown(review.call, object)).transpose()?;
        let mut warnings = self.ask_policies(review, policies, object.as_ref()).await?;
        let mut matched = Vec::new();
        for hook in hooks {
            if let Some(other) = self.matched(review, hook, object.as_ref()).await? {
                matched.push((hook, other));
            }
        }
        let answers =
            join_all(matched.iter().map(|one| self.validate_by(review, *one, object.as_ref()))).await;
        let mut refusal = None;
        for ((hook, _), answer) in matched.iter().zip(answers) {
            match answer {
                Ok(answer) => {
                    warnings.extend(answer.warnings);
                    review.annotate(hook, answer.annotations);
                }
                Err(failure) => {
                    let judged = self.judge(review.call, hook, failure);
                    refusal = refusal.or(judged.err());
                }
            }
        }
        refusal.map_or(Ok(warnings), Err)
    }

    async fn validate_by(
        &self,
        review: &Review<'_>,
        matched: Matched<'_>,
        object: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let refuse = |error: ApiError| Failure::Refused(error, Vec::new());
        let other = matched.1;
        if other.is_none() {
            return review.put(self, matched, object, review.old.as_ref(), false).await;
        }
        let object = review.in_version(other, object).await.map_err(refuse)?;
        let old = review.in_version(other, review.old.as_ref()).await.map_err(refuse)?;
        review.put(self, matched, object.as_ref(), old.as_ref(), false).await
    }

    /// Whether a webhook is to be asked, and in which other version of the resource.
    async fn matched<'a>(
        &self,
        review: &'a Review<'_>,
        hook: &Hook,
        object: Option<&Value>,
    ) -> Result<Option<Option<&'a Arc<Resource>>>, ApiError> {
        let Some(other) = review.named_by(hook) else { return Ok(None) };
        let selected = hook.selects(&review.attributes, (object, review.old.as_ref()), &*self.caches)?;
        let meant = selected && self.meets(review, hook, other, object).await?;
        Ok(meant.then_some(other))
    }

    /// Whether a webhook's conditions hold. Where that cannot be told its failure policy decides: it is not
    /// asked, or the request is refused.
    async fn meets(
        &self,
        review: &Review<'_>,
        hook: &Hook,
        other: Option<&Arc<Resource>>,
        object: Option<&Value>,
    ) -> Result<bool, ApiError> {
        if hook.conditions.is_empty() {
            return Ok(true);
        }
        let seen = self.seen(review, other, object).await?;
        let asker = Asker { authorizer: &self.authorizer, user: review.attributes.user };
        let budget = Budget::of(CONDITIONS_BUDGET);
        match heavy::blocking(|| met(&hook.conditions, &seen.inputs(None, &asker), &budget)) {
            Met::Yes => Ok(true),
            Met::No => Ok(false),
            Met::Unknown(_) if hook.fails_open => Ok(false),
            Met::Unknown(why) => Err(ApiError::forbidden(review.call.row(), review.attributes.name, &why)),
        }
    }

    /// What becomes of the request if a webhook does not let it pass.
    fn judge(&self, call: &Call<'_>, hook: &Hook, failure: Failure) -> Result<(), ApiError> {
        match failure {
            Failure::Refused(error, warnings) => {
                call.warn(warnings);
                Err(error)
            }
            Failure::Calling(error) if hook.fails_open => {
                tracing::warn!(webhook = hook.name, %error, "a webhook failed and lets the request pass");
                Ok(())
            }
            Failure::Calling(error) => {
                tracing::warn!(webhook = hook.name, %error, "a webhook failed and stops the request");
                Err(ApiError::internal(format!("failed calling webhook {:?}: {error}", hook.name)))
            }
        }
    }
}

impl Review<'_> {
    /// Whether a webhook's rules name the request, and in which other version of the resource.
    fn named_by(&self, hook: &Hook) -> Option<Option<&Arc<Resource>>> {
        let equivalents = hook.equivalent.then_some(&self.equivalents[..]);
        webhooks::find(&hook.rules, &self.attributes, equivalents, |other| Gvr::of(&other.row))
    }

    /// A tree of the call's version in that of another resource.
    pub(super) async fn in_version(
        &self,
        other: Option<&Arc<Resource>>,
        tree: Option<&Value>,
    ) -> Result<Option<Value>, ApiError> {
        match (other, tree) {
            // A Scale is the same whatever it scales.
            (Some(other), Some(tree)) if self.call.scales.is_none() => {
                self.call.resource.in_version(other, tree).await.map(Some)
            }
            (_, tree) => Ok(tree.cloned()),
        }
    }

    async fn put(
        &self,
        registry: &Registry,
        (hook, other): Matched<'_>,
        object: Option<&Value>,
        old: Option<&Value>,
        mutating: bool,
    ) -> Result<Answer, Failure> {
        let request = &self.attributes;
        let (kind, resource) = self.asked_as(other);
        let question = Question { request, kind: &kind, resource: &resource, object, old };
        question.put(hook, &registry.webhooks.outbound, mutating).await
    }
}

/// Which webhooks and policies are asked once more.
#[derive(Default)]
pub(super) struct Rounds {
    is_second: bool,
    /// Those that want to be, and have been asked since the last change.
    invoked: Vec<String>,
    again: HashSet<String>,
}

impl Rounds {
    /// Whether one is asked in this round.
    pub(super) fn wants(&self, one: &str) -> bool {
        !self.is_second || self.again.contains(one)
    }

    /// One that wants to see what becomes of the object has seen it.
    pub(super) fn was_invoked(&mut self, one: String) {
        self.invoked.push(one);
    }

    /// The object has changed: who has seen it before looks again.
    pub(super) fn look_again(&mut self) {
        self.again.extend(self.invoked.drain(..));
    }
}

/// An object as a webhook sees it: of a write of replicas the Scale.
pub(super) fn shown(call: &Call<'_>, tree: &Value) -> Result<Value, ApiError> {
    let Some(paths) = call.scales else { return Ok(tree.clone()) };
    let version = tree["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok());
    let scale: Arc<Object> = scale::view(paths, tree, version.unwrap_or(0))?;
    scale.tree().map_err(ApiError::internal)
}

fn text_of(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_default().to_string()
}
