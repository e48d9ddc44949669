//! Tells the authors of ingresses what is wrong with them, in events.
//!
//! Every node serves ingresses, so one for all tells: the server that has the term of the control loops. It
//! builds the table that nodes build and looks at services and secrets; each fault is told once while it
//! lasts. A new term tells again what is still so.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::{FieldSelector, LabelSelector};
use client::events::{EventType, Recorder, reference_to};
use client::{Informer, Informers};
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use supervisor::{OnExit, Stage};
use tokio::sync::Notify;

use crate::certificates::{SECRET_TYPE, certified, wanted};
use crate::facts::{Backend, IngressFacts, Name, PortName};
use crate::follow::ours;
use crate::table::{Fault, Table};

/// What is applied together comes one after the other: a service may follow its ingress.
const SETTLED: Duration = Duration::from_secs(2);

struct Teller {
    ingresses: Informer<Ingress>,
    classes: Informer<IngressClass>,
    services: Informer<Service>,
    secrets: Informer<Secret>,
    recorder: Recorder,
    /// What was wrong with a version of a secret, since looking at keys and certificates is dear.
    checked: HashMap<Name, (String, Option<String>)>,
}

/// Starts to tell. `informers` must be allowed to read the secrets of all namespaces.
pub fn tell(informers: &Informers, recorder: Recorder, stage: &Stage) {
    let of_type = FieldSelector::equals("type", SECRET_TYPE);
    let mut teller = Teller {
        ingresses: informers.of(),
        classes: informers.of(),
        services: informers.of(),
        secrets: informers.selected(None, LabelSelector::everything(), of_type),
        recorder,
        checked: HashMap::new(),
    };
    let changed = Arc::new(Notify::new());
    let wake = || {
        let changed = changed.clone();
        move || changed.notify_one()
    };
    let (a, b, c, d) = (wake(), wake(), wake(), wake());
    teller.ingresses.on_object_change(move |_| a());
    teller.classes.on_object_change(move |_| b());
    teller.services.on_object_change(move |_| c());
    teller.secrets.on_object_change(move |_| d());
    stage.spawn_cancellable("ingress: faults", OnExit::Stop, async move {
        teller.ingresses.synced().await;
        teller.classes.synced().await;
        teller.services.synced().await;
        teller.secrets.synced().await;
        let mut told: BTreeSet<Fault> = BTreeSet::new();
        loop {
            told = teller.tell(&told);
            changed.notified().await;
            tokio::time::sleep(SETTLED).await;
        }
    });
}

impl Teller {
    /// Tells what is new, and gives all that is wrong now.
    fn tell(&mut self, told: &BTreeSet<Fault>) -> BTreeSet<Fault> {
        let facts = ours(&self.ingresses, &self.classes);
        let mut faults =
            Table::build(&facts, |_, backend| matches!(backend, Backend::Service { .. }).then_some(())).1;
        let (wanted, conflicts) = wanted(&facts);
        faults.extend(conflicts);
        let followed = wanted.secrets();
        self.checked.retain(|name, _| followed.contains(name));
        for ingress in &facts {
            self.look_at_services(ingress, &mut faults);
            self.look_at_secrets(ingress, &followed, &mut faults);
        }
        let faults: BTreeSet<Fault> = faults.into_iter().collect();
        for fault in faults.difference(told) {
            let (namespace, name) = (&fault.ingress.0, &fault.ingress.1);
            if let Some(ingress) = self.ingresses.get(Some(namespace), name) {
                let reference = reference_to(&*ingress);
                self.recorder.event(&reference, EventType::Warning, fault.reason, fault.message.clone());
            }
        }
        faults
    }

    fn look_at_services(&self, ingress: &IngressFacts, faults: &mut Vec<Fault>) {
        let backends = ingress.rules.iter().flat_map(|rule| &rule.paths).map(|path| &path.backend);
        for backend in backends.chain(&ingress.default) {
            let Backend::Service { name, port } = backend else { continue };
            let (reason, message) = match self.services.get(Some(&ingress.namespace), name) {
                None => ("ServiceNotFound", format!("service {name:?} of a backend does not exist")),
                Some(service) if is_external(&service) => (
                    "UnsupportedBackend",
                    format!("service {name:?} of a backend is of the type ExternalName"),
                ),
                Some(service) if !has_port(&service, port) => {
                    ("PortNotFound", format!("service {name:?} of a backend has no TCP port {port}"))
                }
                Some(_) => continue,
            };
            faults.push(Fault { ingress: ingress.key(), reason, message });
        }
    }

    /// Of those that are followed: how many others there are is told as one fault.
    fn look_at_secrets(
        &mut self,
        ingress: &IngressFacts,
        followed: &HashSet<&Name>,
        faults: &mut Vec<Fault>,
    ) {
        let named: BTreeSet<&String> = ingress.tls.iter().flat_map(|tls| &tls.secrets).collect();
        for name in named {
            if !followed.contains(&(ingress.namespace.clone(), name.clone())) {
                continue;
            }
            let (reason, message) = match self.secrets.get(Some(&ingress.namespace), name) {
                None => {
                    let message =
                        format!("secret {name:?} for TLS does not exist or is not of the type {SECRET_TYPE}");
                    ("SecretNotFound", message)
                }
                Some(secret) => match self.fault_of(&secret) {
                    None => continue,
                    Some(why) => ("InvalidSecret", format!("secret {name:?} for TLS cannot be used: {why}")),
                },
            };
            faults.push(Fault { ingress: ingress.key(), reason, message });
        }
    }

    /// Why a secret gives no certificate; none if it does.
    fn fault_of(&mut self, secret: &Secret) -> Option<String> {
        let meta = &secret.metadata;
        let name = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
        let version = meta.resource_version.clone().unwrap_or_default();
        if let Some((_, fault)) = self.checked.get(&name).filter(|(own, _)| *own == version) {
            return fault.clone();
        }
        let fault = certified(secret).err().map(|error| crate::chain(&error));
        self.checked.insert(name, (version, fault.clone()));
        fault
    }
}

fn is_external(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

fn has_port(service: &Service, wanted: &PortName) -> bool {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let mut tcp = ports.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    tcp.any(|port| match wanted {
        PortName::Number(number) => port.port == i32::from(*number),
        PortName::Name(name) => port.name.as_deref() == Some(name),
    })
}
