//! Admission: what else a request must satisfy, and what is filled in for it.
//!
//! The plugins are upstream's, in upstream's order, one file each; each looks at few kinds and leaves all
//! others alone. Webhooks come after them (`registry::admit`). Quotas come last and are counted in the
//! write's own transaction (`registry::quota`). Absent so far: policies, and some plugins that are off by
//! default (`plugins`).

mod always_pull_images;
mod certificates;
mod configuration;
mod default_class;
mod default_tolerations;
mod deny_external_ips;
mod escalation;
mod event_rate_limit;
mod extended_resource_toleration;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod node_taint;
mod owner_references;
mod plugins;
mod pod_node_selector;
mod pod_security;
mod pod_toleration_restriction;
mod priority;
mod request;
mod runtime_class;
mod service_account;
mod volumes;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::ApiError;
use serde_json::Value;

use crate::authz::Authorizer;
use event_rate_limit::EventRateLimit;

pub use configuration::{ConfigurationError, ConfigurationFault};
pub use plugins::{PluginError, Plugins};
pub(crate) use request::{Operation, Request};

/// The chain of plugins.
pub(crate) struct Admission {
    authorizer: Arc<Authorizer>,
    plugins: Plugins,
    events: EventRateLimit,
}

impl Admission {
    pub(crate) fn new(authorizer: Arc<Authorizer>, plugins: Plugins) -> Self {
        let events = EventRateLimit::new(&plugins.configuration.event_limits);
        Admission { authorizer, plugins, events }
    }

    /// Whether a plugin runs.
    pub(crate) fn has(&self, plugin: &str) -> bool {
        self.plugins.has(plugin)
    }

    /// How many bytes of other objects filling in a body takes, beside those of the body.
    pub(crate) fn weight(&self, request: &Request<'_>, object: &Value) -> usize {
        if self.has("ServiceAccount") { service_account::weight(request, object) } else { 0 }
    }

    /// Fills in and checks; `object` is the body, none for deletions.
    pub(crate) async fn mutate(
        &self,
        request: &Request<'_>,
        object: Option<&mut Value>,
    ) -> Result<(), ApiError> {
        if self.has("NamespaceLifecycle") {
            namespace_lifecycle::admit(request)?;
        }
        let restricts = self.has("NodeRestriction");
        let Some(object) = object else {
            priority::keep_system(request)?;
            return if restricts { node_restriction::admit(&self.authorizer, request, None) } else { Ok(()) };
        };
        if self.has("LimitRanger") {
            limit_ranger::mutate(request, object);
        }
        if self.has("ServiceAccount") {
            service_account::mutate(request, object)?;
        }
        if restricts {
            node_restriction::admit(&self.authorizer, request, Some(object))?;
        }
        if self.has("TaintNodesByCondition") {
            node_taint::mutate(request, object);
        }
        if self.has("AlwaysPullImages") {
            always_pull_images::mutate(request, object);
        }
        if self.has("PodNodeSelector") {
            pod_node_selector::mutate(request, &self.plugins.configuration.node_selectors, object)?;
        }
        if self.has("Priority") {
            priority::mutate(request, object)?;
        }
        if self.has("DefaultTolerationSeconds") {
            default_tolerations::mutate(request, object);
        }
        if self.has("PodTolerationRestriction") {
            pod_toleration_restriction::mutate(request, &self.plugins.configuration.tolerations, object)?;
        }
        if self.has("ExtendedResourceToleration") {
            extended_resource_toleration::mutate(request, object);
        }
        if self.has("DefaultStorageClass") {
            default_class::of_claim(request, object);
        }
        if self.has("StorageObjectInUseProtection") {
            volumes::protect(request, object);
        }
        if self.has("RuntimeClass") {
            runtime_class::mutate(request, object)?;
        }
        if self.has("DefaultIngressClass") {
            default_class::of_ingress(request, object);
        }
        Ok(())
    }

    /// Checks the final object, after validation; returns texts for `Warning` headers. `templates`: whether
    /// the caller writes the template of pods that the object may have.
    pub(crate) async fn validate(
        &self,
        request: &Request<'_>,
        object: Option<&Value>,
        templates: bool,
    ) -> Result<Vec<String>, ApiError> {
        let mut warnings = Vec::new();
        let Some(object) = object else { return Ok(warnings) };
        if self.has("LimitRanger") {
            limit_ranger::validate(request, object)?;
        }
        let configuration = &self.plugins.configuration;
        if self.has("AlwaysPullImages") {
            always_pull_images::validate(request, object)?;
        }
        if self.has("PodSecurity") && (templates || request.is("", "pods", request.ctx.subresource)) {
            pod_security::validate(request, &configuration.pod_security, object, &mut warnings)?;
        }
        if self.has("PodNodeSelector") {
            pod_node_selector::validate(request, &configuration.node_selectors, object)?;
        }
        if self.has("Priority") {
            priority::validate(request, object)?;
        }
        if self.has("PodTolerationRestriction") {
            pod_toleration_restriction::validate(request, &configuration.tolerations, object)?;
        }
        if self.has("EventRateLimit") {
            self.events.validate(request, object, std::time::Instant::now())?;
        }
        if self.has("OwnerReferencesPermissionEnforcement") {
            owner_references::validate(&self.authorizer, request, object)?;
        }
        if self.has("PersistentVolumeClaimResize") {
            volumes::resize(request, object)?;
        }
        if self.has("RuntimeClass") {
            runtime_class::validate(request, object)?;
        }
        certificates::validate(&self.authorizer, &self.plugins, request, object)?;
        if self.has("DenyServiceExternalIPs") {
            deny_external_ips::validate(request, object)?;
        }
        escalation::validate(&self.authorizer, request, object)?;
        Ok(warnings)
    }
}
