//! One webhook of a configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use api::json::{items, text};
use api::kinds::NAMESPACE;
use api::{ApiError, LabelSelector};
use cel::Library;
use k8s_openapi::apimachinery::pkg::apis::meta::v1;
use serde_json::Value;

use super::attributes::{Attributes, Operation};
use super::rules::Rule;
use crate::expressions::{Condition, NAMES};
use crate::outbound::{Target, Trust, bundle};
use crate::strategy::CachedObjects;

/// A webhook.
pub(crate) struct Hook {
    pub(crate) name: String,
    /// What it is known by between two rounds.
    pub(crate) uid: String,
    pub(crate) rules: Vec<Rule>,
    selectors: Selectors,
    /// Whether other versions of a kind count as the same.
    pub(crate) equivalent: bool,
    /// A failure to ask it lets the request pass.
    pub(crate) fails_open: bool,
    /// A dry run may ask it.
    pub(crate) dry: bool,
    pub(crate) reinvoked: bool,
    pub(crate) limit: Duration,
    pub(crate) target: Target,
    pub(crate) trust: Trust,
    /// The version of the review that it takes; none if it takes none that is known.
    pub(crate) review: Option<&'static str>,
    pub(crate) conditions: Vec<Condition>,
}

impl Hook {
    pub(super) fn new(configuration: &str, at: usize, webhook: &Value) -> Self {
        let config = &webhook["clientConfig"];
        let versions = items(webhook, "admissionReviewVersions").iter().filter_map(Value::as_str);
        let known = |version: &str| ["v1", "v1beta1"].into_iter().find(|known| *known == version);
        let seconds = webhook["timeoutSeconds"].as_u64().unwrap_or(10);
        let name = text(webhook, "name").to_string();
        Hook {
            uid: format!("{configuration}/{name}/{at}"),
            name,
            rules: items(webhook, "rules").iter().map(Rule::new).collect(),
            selectors: Selectors::new(webhook),
            equivalent: text(webhook, "matchPolicy") != "Exact",
            fails_open: text(webhook, "failurePolicy") == "Ignore",
            dry: matches!(text(webhook, "sideEffects"), "None" | "NoneOnDryRun"),
            reinvoked: text(webhook, "reinvocationPolicy") == "IfNeeded",
            limit: Duration::from_secs(seconds),
            target: Target::of(config),
            trust: Trust::in_authorities(bundle(config)),
            review: versions.into_iter().find_map(known),
            conditions: Condition::list(items(webhook, "matchConditions"), &NAMES, &Library::default()),
        }
    }

    /// Whether the selectors of namespaces and objects let the request in.
    pub(crate) fn selects(
        &self,
        request: &Attributes<'_>,
        (object, old): (Option<&Value>, Option<&Value>),
        caches: &dyn CachedObjects,
    ) -> Result<bool, ApiError> {
        self.selectors.select(request, (object, old), caches)
    }
}

/// The selectors of a webhook or a policy.
#[derive(Clone)]
pub(crate) struct Selectors {
    namespaces: LabelSelector,
    objects: LabelSelector,
}

impl Selectors {
    pub(crate) fn new(given: &Value) -> Self {
        let selector = |name: &str| {
            let selector = serde_json::from_value::<v1::LabelSelector>(given[name].clone()).ok();
            match selector {
                Some(selector) => LabelSelector::from_meta(Some(&selector)),
                None => LabelSelector::everything(),
            }
        };
        Selectors { namespaces: selector("namespaceSelector"), objects: selector("objectSelector") }
    }

    pub(crate) fn select(
        &self,
        request: &Attributes<'_>,
        (object, old): (Option<&Value>, Option<&Value>),
        caches: &dyn CachedObjects,
    ) -> Result<bool, ApiError> {
        if !self.objects.is_everything() {
            let matches = |object: &Value| self.objects.matches(&labels(object));
            if !object.is_some_and(matches) && !old.is_some_and(matches) {
                return Ok(false);
            }
        }
        self.selects_namespace(request, object, caches)
    }

    fn selects_namespace(
        &self,
        request: &Attributes<'_>,
        object: Option<&Value>,
        caches: &dyn CachedObjects,
    ) -> Result<bool, ApiError> {
        if self.namespaces.is_everything() || request.namespace.is_empty() && !request.is_namespace() {
            return Ok(true);
        }
        // The cache does not have the namespace that is being written yet.
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if let Some(object) =
            object.filter(|_| request.is_namespace() && request.subresource.is_empty() && writes)
        {
            return Ok(self.namespaces.matches(&labels(object)));
        }
        match caches.get(&NAMESPACE, None, request.namespace) {
            Some(namespace) => Ok(self.namespaces.matches(namespace.labels())),
            None => Err(ApiError::not_found(&NAMESPACE, request.namespace)),
        }
    }
}

fn labels(object: &Value) -> BTreeMap<String, String> {
    let members = object["metadata"]["labels"].as_object();
    let texts = members.into_iter().flatten().filter_map(|(key, value)| Some((key, value.as_str()?)));
    texts.map(|(key, value)| (key.clone(), value.to_string())).collect()
}
