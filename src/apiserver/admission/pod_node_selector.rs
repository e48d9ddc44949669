//! PodNodeSelector: pods of a namespace go to the nodes that an annotation of it, or the configuration,
//! names. Off by default.

use std::collections::BTreeMap;

use api::kinds::NAMESPACE;
use api::selector::Operator;
use api::{ApiError, LabelSelector};
use serde_json::{Value, json};

use super::configuration::ConfigurationFault;
use super::request::Request;

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
/// What the configuration calls the selector of namespaces that have none.
const DEFAULT: &str = "clusterDefaultNodeSelector";

type Labels = BTreeMap<String, String>;

/// `podNodeSelectorPluginConfig`: the default, and by namespace what its pods may ask for.
pub(super) type Selectors = BTreeMap<String, String>;

/// `a=b,c=d` as labels.
pub(super) fn labels(text: &str) -> Result<Labels, ConfigurationFault> {
    let selector = LabelSelector::parse(text).map_err(|error| ConfigurationFault(error.to_string()))?;
    let plain = |one: api::selector::Requirement| match (one.operator, one.values.into_iter().next()) {
        (Operator::Equals, Some(value)) => Ok((one.key, value)),
        _ => Err(ConfigurationFault(format!("invalid selector: [{text}]"))),
    };
    selector.requirements.into_iter().map(plain).collect()
}

fn own(pod: &Value) -> Labels {
    let members = pod["spec"]["nodeSelector"].as_object().into_iter().flatten();
    members.map(|(key, value)| (key.clone(), value.as_str().unwrap_or("").to_string())).collect()
}

fn of_namespace(request: &Request<'_>, selectors: &Selectors) -> Result<Labels, ApiError> {
    let name = request.ctx.namespace.unwrap_or("");
    let namespace = request.ctx.caches.get(&NAMESPACE, None, name);
    let namespace = namespace.ok_or_else(|| ApiError::not_found(&NAMESPACE, name))?;
    let tree = namespace.tree().map_err(ApiError::internal)?;
    let annotation = tree["metadata"]["annotations"][ANNOTATION].as_str();
    let default = || selectors.get(DEFAULT).map_or("", String::as_str);
    labels(annotation.unwrap_or_else(default)).map_err(ApiError::internal)
}

fn check(request: &Request<'_>, wanted: &Labels, pod: &Labels) -> Result<(), ApiError> {
    if wanted.iter().any(|(key, value)| pod.get(key).is_some_and(|own| own != value)) {
        let why = "pod node label selector conflicts with its namespace node label selector";
        return Err(request.forbidden(why));
    }
    Ok(())
}

pub(super) fn mutate(request: &Request<'_>, selectors: &Selectors, pod: &mut Value) -> Result<(), ApiError> {
    if !request.creates_pod() || !pod["spec"].is_object() {
        return Ok(());
    }
    let wanted = of_namespace(request, selectors)?;
    let mut all = own(pod);
    check(request, &wanted, &all)?;
    all.extend(wanted);
    if !all.is_empty() {
        pod["spec"]["nodeSelector"] = json!(all);
    }
    validate(request, selectors, pod)
}

pub(super) fn validate(request: &Request<'_>, selectors: &Selectors, pod: &Value) -> Result<(), ApiError> {
    if !request.creates_pod() {
        return Ok(());
    }
    let pod = own(pod);
    check(request, &of_namespace(request, selectors)?, &pod)?;
    let allowed = selectors.get(request.ctx.namespace.unwrap_or("")).map_or("", String::as_str);
    let allowed = labels(allowed).map_err(ApiError::internal)?;
    if allowed.is_empty() || pod.iter().all(|(key, value)| allowed.get(key) == Some(value)) {
        return Ok(());
    }
    Err(request.forbidden("pod node label selector labels conflict with its namespace whitelist"))
}

/// The selectors of a configuration, if they can be read.
pub(super) fn configured(tree: &Value) -> Result<Selectors, ConfigurationFault> {
    let members = tree["podNodeSelectorPluginConfig"].as_object();
    let members = members
        .ok_or_else(|| ConfigurationFault("podNodeSelectorPluginConfig: Required value".to_string()))?;
    let read = |(name, selector): (&String, &Value)| {
        let selector = selector.as_str().ok_or_else(|| ConfigurationFault(format!("{name}: not a text")))?;
        labels(selector).map_err(|why| ConfigurationFault(format!("{name}: {why}")))?;
        Ok((name.clone(), selector.to_string()))
    };
    members.iter().map(read).collect()
}
