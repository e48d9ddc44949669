//! Admission as a whole: the plugins of this server, then the webhooks and policies that are configured.
//!
//! Mutating webhooks are asked one after the other, each with what the one before has made of the object.
//! If one has changed it, plugins and those webhooks that want it look once more. Validating ones are asked
//! at once. Which version of an object a webhook sees is a matter of its rules: where they name an equivalent
//! resource, the object is converted there and back.
//!
//! A write waits for a webhook no longer than that allows, and holds no lock meanwhile. What components of
//! this process write goes the same way, as upstream's does: a webhook that is asked about leases, fails and
//! fails closed stops the leases. Only webhooks and policies themselves are exempt.

use std::collections::HashSet;
use std::sync::Arc;

use api::{ApiError, DryRun, FieldValidation, Object, patch};
use futures::future::join_all;
use serde_json::{Value, json};

use super::resource::Resource;
use super::scale::{self, GROUP, KIND, VERSION};
use super::subresource::Subresource;
use super::{Call, Registry, managed};
use crate::admission::{self, Request};
use crate::webhooks::{self, Answer, Attributes, Failure, Gvk, Gvr, Hook, Operation, Question};

/// A webhook that is to be asked, and in which other version of the resource.
type Matched<'a> = (&'a Hook, Option<&'a Arc<Resource>>);

/// One request on its way through the webhooks.
struct Review<'a> {
    call: &'a Call<'a>,
    attributes: Attributes<'a>,
    /// The object before, as webhooks see it.
    old: Option<Value>,
    /// Other versions of the resource.
    equivalents: Vec<Arc<Resource>>,
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
        let hooks = self.webhooks.mutating();
        if hooks.is_empty() || !self.is_reviewed(call, "MutatingAdmissionWebhook") {
            return Ok(());
        }
        let Some(review) = self.review_of(call, request, &hooks, old).await? else { return Ok(()) };
        Box::pin(self.ask_mutating(&review, request, &hooks, object)).await
    }

    /// Plugins, then validating webhooks: the last word on what is about to be stored. Returns warnings.
    pub(super) async fn admit_finally(
        &self,
        call: &Call<'_>,
        request: &Request<'_>,
        old: Option<&Value>,
        object: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let mut warnings = self.admission.validate(request, object).await?;
        let hooks = self.webhooks.validating();
        if !hooks.is_empty() && self.is_reviewed(call, "ValidatingAdmissionWebhook") {
            let review = self.review_of(call, request, &hooks, old).await?;
            if let Some(review) = review {
                warnings.extend(Box::pin(self.ask_validating(&review, &hooks, object)).await?);
            }
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
        let (mutating, validating) = (self.webhooks.mutating(), self.webhooks.validating());
        if mutating.is_empty() && validating.is_empty() {
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
        if self.admission.has("ValidatingAdmissionWebhook") {
            call.warn(self.ask_validating(&review, &validating, Some(&options)).await?);
        }
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
            options: call.asked.get().map_or(Value::Null, |asked| asked.json(call.dry_run)),
        }
    }

    /// None if no webhook's rules name the request: nothing is converted or copied for it then.
    async fn review_of<'a>(
        &self,
        call: &'a Call<'_>,
        request: &'a Request<'_>,
        hooks: &[Hook],
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
        if !hooks.iter().any(|hook| review.named_by(hook).is_some()) {
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
        hooks: &[Hook],
        mut object: Option<&mut Value>,
    ) -> Result<(), ApiError> {
        let mut rounds = Rounds::default();
        if !self.round(review, hooks, object.as_deref_mut(), &mut rounds).await? {
            return Ok(());
        }
        let Some(object) = object else { return Ok(()) };
        let before = object.clone();
        self.admission.mutate(request, Some(object)).await?;
        if *object != before {
            rounds.look_again();
        }
        rounds.is_second = true;
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
            if rounds.is_second && !rounds.again.contains(&hook.uid) {
                continue;
            }
            let Some(other) = review.named_by(hook) else { continue };
            let present = object.as_deref().map(|object| shown(review.call, object)).transpose()?;
            if !self.is_selected(review, hook, present.as_ref())? {
                continue;
            }
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
                rounds.invoked.push(hook.uid.clone());
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
        let Answer { patch, warnings } =
            review.put(self, matched, object.as_ref(), old.as_ref(), true).await?;
        review.call.warn(warnings);
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
    fn take(&self, call: &Call<'_>, object: &mut Value, mut new: Value) -> Result<(), ApiError> {
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

    async fn ask_validating(
        &self,
        review: &Review<'_>,
        hooks: &[Hook],
        object: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let object = object.map(|object| shown(review.call, object)).transpose()?;
        let mut matched = Vec::new();
        for hook in hooks {
            let Some(other) = review.named_by(hook) else { continue };
            if self.is_selected(review, hook, object.as_ref())? {
                matched.push((hook, other));
            }
        }
        let answers =
            join_all(matched.iter().map(|one| self.validate_by(review, *one, object.as_ref()))).await;
        let (mut warnings, mut refusal) = (Vec::new(), None);
        for ((hook, _), answer) in matched.iter().zip(answers) {
            match answer {
                Ok(answer) => warnings.extend(answer.warnings),
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

    /// Whether a webhook's selectors want what its rules name.
    fn is_selected(
        &self,
        review: &Review<'_>,
        hook: &Hook,
        object: Option<&Value>,
    ) -> Result<bool, ApiError> {
        hook.selects(&review.attributes, (object, review.old.as_ref()), &*self.caches)
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
    async fn in_version(
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
        let is_own_kind = request.kind == Gvk::of(self.call.row());
        let (kind, resource) = match other {
            Some(other) if is_own_kind => (Gvk::of(&other.row), Gvr::of(&other.row)),
            Some(other) => (request.kind.clone(), Gvr::of(&other.row)),
            None => (request.kind.clone(), request.resource.clone()),
        };
        let question = Question { request, kind: &kind, resource: &resource, object, old };
        question.put(hook, &registry.webhooks.outbound, mutating).await
    }
}

/// Which webhooks are asked once more.
#[derive(Default)]
struct Rounds {
    is_second: bool,
    /// Those that want to be, and have been asked since the last change.
    invoked: Vec<String>,
    again: HashSet<String>,
}

impl Rounds {
    /// The object has changed: who has seen it before looks again.
    fn look_again(&mut self) {
        self.again.extend(self.invoked.drain(..));
    }
}

/// An object as a webhook sees it: of a write of replicas the Scale.
fn shown(call: &Call<'_>, tree: &Value) -> Result<Value, ApiError> {
    let Some(paths) = call.scales else { return Ok(tree.clone()) };
    let version = tree["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok());
    let scale: Arc<Object> = scale::view(paths, tree, version.unwrap_or(0))?;
    scale.tree().map_err(ApiError::internal)
}

fn text_of(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_default().to_string()
}
