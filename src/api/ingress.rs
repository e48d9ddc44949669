//! Which ingresses the built-in controller serves: what nodes, controllers and the Node authorizer agree on.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

/// The class that is there from the start.
pub const CLASS: &str = "minik8s";
/// What a class says whose ingresses are served here.
pub const CONTROLLER: &str = "minik8s.io/ingress";
/// How classes were named before they had a field.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
pub const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

/// The classes of the built-in controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    names: BTreeSet<String>,
    /// One of them is the default: it has the ingresses that name none.
    has_default: bool,
}

impl Classes {
    /// Those of all classes that are ours.
    pub fn of<'a>(classes: impl Iterator<Item = &'a IngressClass>) -> Self {
        let mut ours = Classes::default();
        for class in classes {
            if class.spec.as_ref().and_then(|spec| spec.controller.as_deref()) != Some(CONTROLLER) {
                continue;
            }
            let marked = class.metadata.annotations.as_ref().and_then(|all| all.get(IS_DEFAULT));
            ours.has_default |= marked.is_some_and(|value| value == "true");
            ours.names.extend(class.metadata.name.clone());
        }
        ours
    }

    /// Whether an ingress is served by the built-in controller.
    pub fn have(&self, ingress: &Ingress) -> bool {
        let annotation = ingress.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION));
        let field = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_ref());
        match annotation.or(field) {
            Some(name) => self.names.contains(name),
            None => self.has_default,
        }
    }
}

/// Whether an ingress takes a certificate from a secret of its namespace.
pub fn names_secret(ingress: &Ingress, name: &str) -> bool {
    let tls = ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
    tls.into_iter().any(|tls| tls.secret_name.as_deref() == Some(name))
}

#[cfg(test)]
mod tests;
