//! Validation of containers: names, images, ports, mounts, probes, security.

use std::collections::{BTreeSet, HashSet};

use api::FieldError;
use api::validation::{Faults, Path, dns1123_label, http_header_name, invalid_each, port_name, port_number};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EphemeralContainer, ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler,
    PodSpec, Probe, SecurityContext, TCPSocketAction, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::spec::one_of;
use super::volumes::local_path;
use super::{environment, resources, security};

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const MESSAGE_POLICIES: [&str; 2] = ["FallbackToLogsOnError", "File"];
const PROPAGATION: [&str; 3] = ["Bidirectional", "HostToContainer", "None"];

/// Checks containers and init containers; `volumes` are the pod's volume names.
pub(super) fn validate_all(spec: &PodSpec, volumes: &HashSet<&str>, at: &Path<'_>, faults: &mut Faults) {
    let list = at.child("containers");
    if spec.containers.is_empty() {
        faults.push(FieldError::required(list, ""));
    }
    let mut names = HashSet::new();
    for (index, container) in spec.containers.iter().enumerate() {
        let at = list.index(index);
        validate_common(container, volumes, &at, faults);
        validate_context(spec, container.security_context.as_ref(), &at, faults);
        duplicate(&mut names, &container.name, &at, faults);
        validate_hooks(container, &at, faults);
    }
    let list = at.child("initContainers");
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        let at = list.index(index);
        validate_common(container, volumes, &at, faults);
        validate_context(spec, container.security_context.as_ref(), &at, faults);
        duplicate(&mut names, &container.name, &at, faults);
        if container.restart_policy.as_deref() == Some("Always") {
            validate_hooks(container, &at, faults);
        } else {
            no_hooks(container, &at, faults);
        }
    }
    let list = at.child("ephemeralContainers");
    for (index, container) in spec.ephemeral_containers.iter().flatten().enumerate() {
        let at = list.index(index);
        validate_name(&container.name, &at, faults);
        duplicate(&mut names, &container.name, &at, faults);
        validate_image(container.image.as_deref(), &at, faults);
        validate_ephemeral(container, volumes, &at, faults);
        validate_context(spec, container.security_context.as_ref(), &at, faults);
    }
    environment::validate_file_volumes(spec, at, faults);
    conflicting_host_ports(spec, at, faults);
}

fn validate_context(spec: &PodSpec, context: Option<&SecurityContext>, at: &Path<'_>, faults: &mut Faults) {
    if let Some(context) = context {
        let host_users = spec.host_users != Some(false);
        security::validate_container(context, host_users, &at.child("securityContext"), faults);
    }
}

/// What is joined to a running pod gets no ports, probes or resources of its own.
fn validate_ephemeral(
    container: &EphemeralContainer,
    volumes: &HashSet<&str>,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    environment::validate(container.env.as_deref().unwrap_or(&[]), &at.child("env"), faults);
    environment::validate_from(container.env_from.as_deref().unwrap_or(&[]), &at.child("envFrom"), faults);
    let mounts = container.volume_mounts.as_deref().unwrap_or(&[]);
    validate_mounts(mounts, volumes, &at.child("volumeMounts"), faults);
    let list = at.child("volumeMounts");
    for (index, mount) in mounts.iter().enumerate() {
        let at = list.index(index);
        let (path, expression) = (mount.sub_path.as_deref(), mount.sub_path_expr.as_deref());
        for (field, value) in [("subPath", path), ("subPathExpr", expression)] {
            if value.is_some_and(|value| !value.is_empty()) {
                let message = "cannot be set for an Ephemeral Container";
                faults.push(FieldError::forbidden(at.child(field), message));
            }
        }
    }
    let some_resources = container.resources.as_ref().is_some_and(|one| {
        one.limits.as_ref().is_some_and(|list| !list.is_empty())
            || one.requests.as_ref().is_some_and(|list| !list.is_empty())
            || one.claims.as_ref().is_some_and(|list| !list.is_empty())
    });
    for (field, given) in [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("ports", container.ports.as_ref().is_some_and(|ports| !ports.is_empty())),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("resizePolicy", container.resize_policy.as_ref().is_some_and(|list| !list.is_empty())),
        ("resources", some_resources),
        ("startupProbe", container.startup_probe.is_some()),
    ] {
        if given {
            faults.push(FieldError::forbidden(at.child(field), "cannot be set for an Ephemeral Container"));
        }
    }
}

fn duplicate<'a>(names: &mut HashSet<&'a str>, name: &'a str, at: &Path<'_>, faults: &mut Faults) {
    if !names.insert(name) && !name.is_empty() {
        faults.push(FieldError::duplicate(at.child("name"), name));
    }
}

fn validate_name(name: &str, at: &Path<'_>, faults: &mut Faults) {
    match name {
        "" => faults.push(FieldError::required(at.child("name"), "")),
        name => invalid_each(faults, &at.child("name"), name, dns1123_label(name)),
    }
}

pub(super) fn validate_image(image: Option<&str>, at: &Path<'_>, faults: &mut Faults) {
    match image.unwrap_or("") {
        "" => faults.push(FieldError::required(at.child("image"), "")),
        image if image.trim() != image => {
            let message = "must not have leading or trailing whitespace";
            faults.push(FieldError::invalid(at.child("image"), image, message));
        }
        _ => {}
    }
}

fn validate_common(container: &Container, volumes: &HashSet<&str>, at: &Path<'_>, faults: &mut Faults) {
    validate_name(&container.name, at, faults);
    validate_image(container.image.as_deref(), at, faults);
    if let Some(policy) = &container.termination_message_policy {
        one_of(faults, &at.child("terminationMessagePolicy"), Some(policy), &MESSAGE_POLICIES);
    }
    validate_ports(container.ports.as_deref().unwrap_or(&[]), &at.child("ports"), faults);
    environment::validate(container.env.as_deref().unwrap_or(&[]), &at.child("env"), faults);
    environment::validate_from(container.env_from.as_deref().unwrap_or(&[]), &at.child("envFrom"), faults);
    validate_mounts(
        container.volume_mounts.as_deref().unwrap_or(&[]),
        volumes,
        &at.child("volumeMounts"),
        faults,
    );
    one_of(faults, &at.child("imagePullPolicy"), container.image_pull_policy.as_deref(), &PULL_POLICIES);
    if let Some(resources) = &container.resources {
        resources::validate(resources, &at.child("resources"), faults);
    }
}

fn validate_ports(ports: &[ContainerPort], at: &Path<'_>, faults: &mut Faults) {
    let mut names = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let at = at.index(index);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let messages = port_name(name);
            if !names.insert(name) && messages.is_empty() {
                faults.push(FieldError::duplicate(at.child("name"), name));
            }
            invalid_each(faults, &at.child("name"), name, messages);
        }
        match port.container_port {
            0 => faults.push(FieldError::required(at.child("containerPort"), "")),
            number => valid_port(number, &at.child("containerPort"), faults),
        }
        if let Some(number) = port.host_port.filter(|number| *number != 0) {
            valid_port(number, &at.child("hostPort"), faults);
        }
        one_of(faults, &at.child("protocol"), port.protocol.as_deref(), &PROTOCOLS);
    }
}

fn valid_port(number: i32, at: &Path<'_>, faults: &mut Faults) {
    faults.extend(
        port_number(i64::from(number)).into_iter().map(|message| FieldError::invalid(at, number, message)),
    );
}

/// Two containers cannot have the same port of the host.
fn conflicting_host_ports(spec: &PodSpec, at: &Path<'_>, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    let list = at.child("containers");
    for (index, container) in spec.containers.iter().enumerate() {
        let at = list.index(index);
        let ports = at.child("ports");
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let Some(number) = port.host_port.filter(|number| *number != 0) else { continue };
            let (protocol, address) =
                (port.protocol.as_deref().unwrap_or("TCP"), port.host_ip.as_deref().unwrap_or(""));
            let text = format!("{protocol}/{address}/{number}");
            if !seen.insert(text.clone()) {
                faults.push(FieldError::duplicate(ports.index(index).child("hostPort"), text));
            }
        }
    }
}

fn validate_mounts(mounts: &[VolumeMount], volumes: &HashSet<&str>, at: &Path<'_>, faults: &mut Faults) {
    let mut seen = HashSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let at = at.index(index);
        if mount.name.is_empty() {
            faults.push(FieldError::required(at.child("name"), ""));
        }
        if !volumes.contains(mount.name.as_str()) {
            faults.push(FieldError::not_found(at.child("name"), &mount.name));
        }
        if mount.mount_path.is_empty() {
            faults.push(FieldError::required(at.child("mountPath"), ""));
        }
        if !seen.insert(mount.mount_path.as_str()) {
            faults.push(FieldError::invalid(at.child("mountPath"), &mount.mount_path, "must be unique"));
        }
        let path = mount.sub_path.as_deref().unwrap_or("");
        let expression = mount.sub_path_expr.as_deref().unwrap_or("");
        local_path(path, &at.child("subPath"), faults);
        if !expression.is_empty() {
            if !path.is_empty() {
                let message = "subPathExpr and subPath are mutually exclusive";
                faults.push(FieldError::invalid(at.child("subPathExpr"), expression, message));
            }
            local_path(expression, &at.child("subPathExpr"), faults);
        }
        if let Some(propagation) = mount.mount_propagation.as_deref().filter(|one| !PROPAGATION.contains(one))
        {
            faults.push(FieldError::not_supported(at.child("mountPropagation"), propagation, &PROPAGATION));
        }
    }
}

fn validate_hooks(container: &Container, at: &Path<'_>, faults: &mut Faults) {
    if let Some(lifecycle) = &container.lifecycle {
        validate_lifecycle(lifecycle, &at.child("lifecycle"), faults);
    }
    if let Some(probe) = &container.liveness_probe {
        validate_probe(probe, &at.child("livenessProbe"), faults);
        once(probe, &at.child("livenessProbe"), faults);
    }
    if let Some(probe) = &container.readiness_probe {
        let at = at.child("readinessProbe");
        validate_probe(probe, &at, faults);
        if let Some(seconds) = probe.termination_grace_period_seconds {
            let message = "must not be set for readinessProbes";
            faults.push(FieldError::invalid(at.child("terminationGracePeriodSeconds"), seconds, message));
        }
    }
    if let Some(probe) = &container.startup_probe {
        validate_probe(probe, &at.child("startupProbe"), faults);
        once(probe, &at.child("startupProbe"), faults);
    }
}

fn no_hooks(container: &Container, at: &Path<'_>, faults: &mut Faults) {
    let present = [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ];
    for (field, _) in present.into_iter().filter(|(_, present)| *present) {
        let message = "may not be set for init containers without restartPolicy=Always";
        faults.push(FieldError::forbidden(at.child(field), message));
    }
}

/// A container that failed is restarted at its first success: more than one cannot be waited for.
fn once(probe: &Probe, at: &Path<'_>, faults: &mut Faults) {
    if let Some(threshold) = probe.success_threshold.filter(|threshold| *threshold != 1) {
        faults.push(FieldError::invalid(at.child("successThreshold"), threshold, "must be 1"));
    }
}

fn validate_probe(probe: &Probe, at: &Path<'_>, faults: &mut Faults) {
    let mut handlers = Handlers { at, seen: 0, faults: &mut *faults };
    handlers.exec(probe.exec.as_ref());
    handlers.http(probe.http_get.as_ref());
    handlers.tcp(probe.tcp_socket.as_ref());
    if let Some(grpc) = &probe.grpc {
        handlers.one("grpc");
        valid_port(grpc.port, &at.child("grpc").child("port"), handlers.faults);
    }
    handlers.finish();
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (field, number) in numbers {
        if let Some(number) = number.filter(|number| *number < 0) {
            faults.push(FieldError::invalid(at.child(field), number, "must be greater than or equal to 0"));
        }
    }
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|seconds| *seconds <= 0) {
        let message = "must be greater than 0";
        faults.push(FieldError::invalid(at.child("terminationGracePeriodSeconds"), seconds, message));
    }
}

fn validate_lifecycle(lifecycle: &Lifecycle, at: &Path<'_>, faults: &mut Faults) {
    for (field, handler) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(handler) = handler {
            validate_handler(handler, &at.child(field), faults);
        }
    }
}

fn validate_handler(handler: &LifecycleHandler, at: &Path<'_>, faults: &mut Faults) {
    let mut handlers = Handlers { at, seen: 0, faults };
    handlers.exec(handler.exec.as_ref());
    handlers.http(handler.http_get.as_ref());
    handlers.tcp(handler.tcp_socket.as_ref());
    if let Some(sleep) = &handler.sleep {
        handlers.one("sleep");
        if sleep.seconds < 0 {
            let message = "must be non-negative";
            handlers.faults.push(FieldError::invalid(
                at.child("sleep").child("seconds"),
                sleep.seconds,
                message,
            ));
        }
    }
    handlers.finish();
}

/// Exactly one handler must be given.
struct Handlers<'a> {
    at: &'a Path<'a>,
    seen: usize,
    faults: &'a mut Faults,
}

impl Handlers<'_> {
    fn one(&mut self, field: &str) {
        if self.seen > 0 {
            let message = "may not specify more than 1 handler type";
            self.faults.push(FieldError::forbidden(self.at.child(field), message));
        }
        self.seen += 1;
    }

    fn exec(&mut self, exec: Option<&ExecAction>) {
        let Some(exec) = exec else { return };
        self.one("exec");
        if exec.command.as_ref().is_none_or(Vec::is_empty) {
            self.faults.push(FieldError::required(self.at.child("exec").child("command"), ""));
        }
    }

    fn http(&mut self, get: Option<&HTTPGetAction>) {
        let Some(get) = get else { return };
        self.one("httpGet");
        let at = self.at.child("httpGet");
        if get.path.as_deref().unwrap_or("").is_empty() {
            self.faults.push(FieldError::required(at.child("path"), ""));
        }
        named_port(&get.port, &at.child("port"), self.faults);
        if let Some(scheme) = get.scheme.as_deref().filter(|scheme| !["HTTP", "HTTPS"].contains(scheme)) {
            self.faults.push(FieldError::not_supported(at.child("scheme"), scheme, &["HTTP", "HTTPS"]));
        }
        let list = at.child("httpHeaders");
        for (index, header) in get.http_headers.iter().flatten().enumerate() {
            let messages = http_header_name(&header.name);
            invalid_each(self.faults, &list.index(index).child("name"), &header.name, messages);
        }
    }

    fn tcp(&mut self, socket: Option<&TCPSocketAction>) {
        let Some(socket) = socket else { return };
        self.one("tcpSocket");
        named_port(&socket.port, &self.at.child("tcpSocket").child("port"), self.faults);
    }

    fn finish(self) {
        if self.seen == 0 {
            self.faults.push(FieldError::required(self.at, "must specify a handler type"));
        }
    }
}

/// A port by number or by name.
fn named_port(port: &IntOrString, at: &Path<'_>, faults: &mut Faults) {
    match port {
        IntOrString::Int(number) => valid_port(*number, at, faults),
        IntOrString::String(name) => invalid_each(faults, at, name, port_name(name)),
    }
}
