//! Every node serves ingresses, and so needs the certificates that they name: secrets of the ingress' own
//! namespace, of the type for certificates, and of ingresses that the built-in controller serves.

use api::ingress::{Classes, names_secret};
use api::kinds::{INGRESS, INGRESS_CLASS, SECRET};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

use crate::cache::Caches;

const TLS: &str = "kubernetes.io/tls";

/// Whether an ingress that is served shows the certificate of a secret, which need not be there yet.
pub(super) fn show_secret(caches: &Caches, namespace: Option<&str>, name: &str) -> bool {
    let naming = caches.referring(&INGRESS, namespace, name);
    if naming.is_empty() {
        return false;
    }
    let secret = caches.get(&SECRET, namespace, name).map(|object| object.typed::<Secret>());
    let of_type = |secret: &Secret| secret.type_.as_deref() == Some(TLS);
    if secret.is_some_and(|secret| !secret.is_ok_and(|secret| of_type(&secret))) {
        return false;
    }
    let classes = caches.list(&INGRESS_CLASS, None);
    let classes: Vec<_> = classes.iter().filter_map(|object| object.typed::<IngressClass>().ok()).collect();
    let classes = Classes::of(classes.iter().map(|class| &**class));
    let mut naming = naming.iter().filter_map(|object| object.typed::<Ingress>().ok());
    naming.any(|ingress| names_secret(&ingress, name) && classes.have(&ingress))
}

#[cfg(test)]
mod tests;
