//! The checks of the Pod Security Standards: what each level forbids, since which version of the standards.
//!
//! A check works on the JSON tree of a pod (or of a template) and gives the reason and the detail of its
//! refusal. The order is upstream's: those of the baseline by name, then those of the restricted level by
//! name. They are one file, as the standards are one document.

use std::collections::BTreeSet;

use api::json::{at, items, text};
use serde_json::Value;

use super::policy::Level;

/// Why a pod is refused: in short, and in full.
pub(super) type Refusal = (&'static str, String);
type Check = fn(&Pod<'_>) -> Option<Refusal>;

/// A pod, with the version of the standards that it is held against.
pub(super) struct Pod<'a> {
    metadata: &'a Value,
    spec: &'a Value,
    minor: u32,
}

/// Name, since which minor version, check.
const BASELINE: [(&str, u32, Check); 12] = [
    ("appArmorProfile", 0, app_armor),
    ("capabilities_baseline", 0, capabilities),
    ("hostNamespaces", 0, host_namespaces),
    ("hostPathVolumes", 0, host_paths),
    ("hostPorts", 0, host_ports),
    ("hostProbesAndHostLifecycle", 34, hosts_of_probes),
    ("privileged", 0, privileged),
    ("procMount", 0, proc_mount),
    ("seLinuxOptions", 0, se_linux),
    ("seccompProfile_baseline", 0, seccomp),
    ("sysctls", 0, sysctls),
    ("windowsHostProcess", 0, host_process),
];
/// The same, and the check of the baseline that it replaces.
const RESTRICTED: [(&str, u32, Check, &str); 7] = [
    ("allowPrivilegeEscalation", 8, privilege_escalation, ""),
    ("capabilities_restricted", 22, dropped_capabilities, "capabilities_baseline"),
    ("procMount_restricted", 35, strict_proc_mount, "procMount"),
    ("restrictedVolumes", 0, volumes, "hostPathVolumes"),
    ("runAsNonRoot", 0, non_root, ""),
    ("runAsUser", 23, root_user, ""),
    ("seccompProfile_restricted", 19, strict_seccomp, "seccompProfile_baseline"),
];

/// What a level of a version of the standards has against a pod.
pub(super) fn evaluate(level: Level, minor: u32, metadata: &Value, spec: &Value) -> Vec<Refusal> {
    let pod = Pod { metadata, spec, minor };
    let restricted =
        || RESTRICTED.iter().filter(|(_, since, ..)| level == Level::Restricted && *since <= minor);
    let is_replaced = |name: &str| restricted().any(|(.., replaced)| *replaced == name);
    let baseline = BASELINE
        .iter()
        .filter(|(name, since, _)| level != Level::Privileged && *since <= minor && !is_replaced(name));
    let checks = baseline.map(|(.., check)| *check).chain(restricted().map(|(_, _, check, _)| *check));
    checks.filter_map(|check| check(&pod)).collect()
}

impl<'a> Pod<'a> {
    /// All containers, of whatever kind.
    fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|list| items(spec, list))
    }

    /// Names of the containers that something holds for.
    fn named(&self, is: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|container| is(container)).map(|container| text(container, "name")).collect()
    }

    fn is_windows(&self) -> bool {
        text(self.spec, "os.name") == "windows"
    }

    /// In a user namespace root is not the host's.
    fn has_own_users(&self) -> bool {
        self.spec["hostUsers"] == false
    }
}

fn quoted(list: &[&str]) -> String {
    list.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(", ")
}

fn quoted_set(set: &BTreeSet<String>) -> String {
    set.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// `pod`, `container "a"` or both.
fn setters(pod: bool, names: &[&str]) -> Option<String> {
    match (pod, names.is_empty()) {
        (false, true) => None,
        (true, true) => Some("pod".to_string()),
        (false, false) => Some(containers(names)),
        (true, false) => Some(format!("pod and {}", containers(names))),
    }
}

fn context(container: &Value) -> &Value {
    &container["securityContext"]
}

/// Members of a security context below a path that are set and not among the allowed.
fn bad<'a>(context: &'a Value, path: &str, allowed: &[&str]) -> Option<&'a str> {
    let value = at(context, path);
    if value.is_null() {
        return None;
    }
    let value = text(value, "type");
    (!allowed.contains(&value)).then_some(value)
}

fn app_armor(pod: &Pod<'_>) -> Option<Refusal> {
    const ALLOWED: [&str; 2] = ["RuntimeDefault", "Localhost"];
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    fn of(owner: &Value) -> Option<&str> {
        bad(context(owner), "appArmorProfile", &ALLOWED)
    }
    let names = pod.named(|container| of(container).is_some());
    let values: BTreeSet<String> =
        std::iter::once(pod.spec).chain(pod.containers()).filter_map(of).map(str::to_string).collect();
    let annotations = pod.metadata["annotations"].as_object().into_iter().flatten();
    let forbidden: BTreeSet<String> = annotations
        .filter(|(key, _)| key.starts_with(PREFIX))
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(_, value)| {
            !(value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/"))
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let mut who: Vec<String> = setters(of(pod.spec).is_some(), &names).into_iter().collect();
    if !forbidden.is_empty() {
        who.push(plural("annotation", "annotations", forbidden.len()).to_string());
    }
    let shown: Vec<&str> = values.iter().chain(&forbidden).map(String::as_str).collect();
    let reason = if shown.len() == 1 { "forbidden AppArmor profile" } else { "forbidden AppArmor profiles" };
    (!who.is_empty()).then(|| {
        (reason, format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(&shown)))
    })
}

fn added<'a>(container: &'a Value, allowed: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let list = items(context(container), "capabilities.add").iter().filter_map(Value::as_str);
    list.filter(|one| !allowed.contains(one))
}

/// Containers that add other capabilities than the allowed ones, and these.
fn adding<'a>(pod: &Pod<'a>, allowed: &[&str]) -> Option<String> {
    let names = pod.named(|container| added(container, allowed).next().is_some());
    let found: BTreeSet<String> = pod
        .containers()
        .flat_map(|container| added(container, allowed).map(str::to_string).collect::<Vec<_>>())
        .collect();
    (!names.is_empty()).then(|| {
        let who = containers(&names);
        format!("{who} must not include {} in securityContext.capabilities.add", quoted_set(&found))
    })
}

fn capabilities(pod: &Pod<'_>) -> Option<Refusal> {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    adding(pod, &ALLOWED).map(|detail| ("non-default capabilities", detail))
}

fn dropped_capabilities(pod: &Pod<'_>) -> Option<Refusal> {
    if pod.minor >= 25 && pod.is_windows() {
        return None;
    }
    let names =
        pod.named(|container| !items(context(container), "capabilities.drop").iter().any(|one| one == "ALL"));
    let keeping = (!names.is_empty())
        .then(|| format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&names)));
    let details: Vec<String> = keeping.into_iter().chain(adding(pod, &["NET_BIND_SERVICE"])).collect();
    (!details.is_empty()).then(|| ("unrestricted capabilities", details.join("; ")))
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Refusal> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| pod.spec[*field] == true);
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    (!shared.is_empty()).then(|| ("host namespaces", shared.join(", ")))
}

fn host_paths(pod: &Pod<'_>) -> Option<Refusal> {
    let volumes = items(pod.spec, "volumes").iter().filter(|volume| !volume["hostPath"].is_null());
    let names: Vec<&str> = volumes.map(|volume| text(volume, "name")).collect();
    let what = plural("volume", "volumes", names.len());
    (!names.is_empty()).then(|| ("hostPath volumes", format!("{what} {}", quoted(&names))))
}

fn ports_of(container: &Value) -> impl Iterator<Item = i64> {
    let ports = items(container, "ports").iter().filter_map(|port| port["hostPort"].as_i64());
    ports.filter(|port| *port != 0)
}

fn host_ports(pod: &Pod<'_>) -> Option<Refusal> {
    let names = pod.named(|container| ports_of(container).next().is_some());
    // As texts, as upstream sorts them.
    let ports: BTreeSet<String> = pod.containers().flat_map(ports_of).map(|port| port.to_string()).collect();
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    let uses = plural("uses", "use", names.len());
    let what = plural("hostPort", "hostPorts", ports.len());
    let detail = || format!("{} {uses} {what} {}", containers(&names), ports.join(", "));
    (!names.is_empty()).then(|| ("hostPort", detail()))
}

fn hosts_of(container: &Value) -> impl Iterator<Item = &str> {
    let handlers =
        ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle.postStart", "lifecycle.preStop"];
    let hosts = handlers.into_iter().flat_map(|handler| {
        let handler = at(container, handler);
        [text(handler, "httpGet.host"), text(handler, "tcpSocket.host")]
    });
    hosts.filter(|host| !host.is_empty())
}

fn hosts_of_probes(pod: &Pod<'_>) -> Option<Refusal> {
    let mut names = pod.named(|container| hosts_of(container).next().is_some());
    names.sort_unstable();
    names.dedup();
    let hosts: BTreeSet<String> = pod.containers().flat_map(hosts_of).map(str::to_string).collect();
    let uses = plural("uses", "use", names.len());
    let what = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    let detail = || format!("{} {uses} {what} {}", containers(&names), quoted_set(&hosts));
    (!names.is_empty()).then(|| ("probe or lifecycle host", detail()))
}

fn privileged(pod: &Pod<'_>) -> Option<Refusal> {
    let names = pod.named(|container| context(container)["privileged"] == true);
    let detail = || format!("{} must not set securityContext.privileged=true", containers(&names));
    (!names.is_empty()).then(|| ("privileged", detail()))
}

fn proc_mount(pod: &Pod<'_>) -> Option<Refusal> {
    if pod.minor >= 35 && pod.has_own_users() { None } else { strict_proc_mount(pod) }
}

fn strict_proc_mount(pod: &Pod<'_>) -> Option<Refusal> {
    let of = |container: &Value| {
        context(container)["procMount"].as_str().filter(|kind| *kind != "Default").map(str::to_string)
    };
    let names = pod.named(|container| of(container).is_some());
    let found: BTreeSet<String> = pod.containers().filter_map(of).collect();
    let detail =
        || format!("{} must not set securityContext.procMount to {}", containers(&names), quoted_set(&found));
    (!names.is_empty()).then(|| ("procMount", detail()))
}

fn se_linux(pod: &Pod<'_>) -> Option<Refusal> {
    const TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
    let allowed = if pod.minor >= 31 { &TYPES[..] } else { &TYPES[..4] };
    let options = |owner: &'_ Value| -> Value { context(owner)["seLinuxOptions"].clone() };
    let is_bad = |owner: &Value| {
        let options = options(owner);
        let foreign = !allowed.contains(&text(&options, "type"));
        foreign || !text(&options, "user").is_empty() || !text(&options, "role").is_empty()
    };
    let names = pod.named(is_bad);
    let who = setters(is_bad(pod.spec), &names)?;
    let owners: Vec<Value> = std::iter::once(pod.spec).chain(pod.containers()).map(options).collect();
    let types: BTreeSet<String> = owners
        .iter()
        .map(|options| text(options, "type"))
        .filter(|kind| !allowed.contains(kind))
        .map(str::to_string)
        .collect();
    let mut details = Vec::new();
    if !types.is_empty() {
        details.push(format!("{} {}", plural("type", "types", types.len()), quoted_set(&types)));
    }
    for part in ["user", "role"] {
        if owners.iter().any(|options| !text(options, part).is_empty()) {
            details.push(format!("{part} may not be set"));
        }
    }
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {}", details.join("; "));
    Some(("seLinuxOptions", detail))
}

const PROFILES: [&str; 2] = ["Localhost", "RuntimeDefault"];

/// Who sets another profile than the allowed ones.
fn bad_profiles(pod: &Pod<'_>) -> Option<Refusal> {
    fn of(owner: &Value) -> Option<&str> {
        bad(context(owner), "seccompProfile", &PROFILES)
    }
    let names = pod.named(|container| of(container).is_some());
    let who = setters(of(pod.spec).is_some(), &names)?;
    let owners = std::iter::once(pod.spec).chain(pod.containers());
    let values: BTreeSet<String> = owners.filter_map(of).map(str::to_string).collect();
    let detail = format!("{who} must not set securityContext.seccompProfile.type to {}", quoted_set(&values));
    Some(("seccompProfile", detail))
}

fn seccomp(pod: &Pod<'_>) -> Option<Refusal> {
    if pod.minor >= 19 {
        return bad_profiles(pod);
    }
    let keys = std::iter::once("seccomp.security.alpha.kubernetes.io/pod".to_string()).chain(
        pod.containers()
            .map(|one| format!("container.seccomp.security.alpha.kubernetes.io/{}", text(one, "name"))),
    );
    let allowed = |value: &str| {
        matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/")
    };
    let forbidden: BTreeSet<String> = keys
        .filter_map(|key| {
            let value = pod.metadata["annotations"][&key].as_str().filter(|value| !allowed(value))?;
            Some(format!("{key}={value:?}"))
        })
        .collect();
    let what = plural("annotation", "annotations", forbidden.len());
    let listed = forbidden.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    (!forbidden.is_empty()).then(|| ("seccompProfile", format!("forbidden {what} {listed}")))
}

fn strict_seccomp(pod: &Pod<'_>) -> Option<Refusal> {
    if pod.minor >= 25 && pod.is_windows() {
        return None;
    }
    if let Some(refusal) = bad_profiles(pod) {
        return Some(refusal);
    }
    if !context(pod.spec)["seccompProfile"].is_null() {
        return None;
    }
    let names = pod.named(|container| context(container)["seccompProfile"].is_null());
    let detail = || {
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&names)
        )
    };
    (!names.is_empty()).then(|| ("seccompProfile", detail()))
}

fn sysctls(pod: &Pod<'_>) -> Option<Refusal> {
    /// Name and since when it is allowed.
    const ALLOWED: [(&str, u32); 12] = [
        ("kernel.shm_rmid_forced", 0),
        ("net.ipv4.ip_local_port_range", 0),
        ("net.ipv4.tcp_syncookies", 0),
        ("net.ipv4.ping_group_range", 0),
        ("net.ipv4.ip_unprivileged_port_start", 0),
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.tcp_keepalive_time", 29),
        ("net.ipv4.tcp_fin_timeout", 29),
        ("net.ipv4.tcp_keepalive_intvl", 29),
        ("net.ipv4.tcp_keepalive_probes", 29),
        ("net.ipv4.tcp_rmem", 32),
        ("net.ipv4.tcp_wmem", 32),
    ];
    let own = items(context(pod.spec), "sysctls").iter().map(|one| text(one, "name"));
    let is_allowed = |name: &&str| ALLOWED.iter().any(|(own, since)| own == name && *since <= pod.minor);
    let forbidden: Vec<&str> = own.filter(|name| !is_allowed(name)).collect();
    (!forbidden.is_empty()).then(|| ("forbidden sysctls", forbidden.join(", ")))
}

fn host_process(pod: &Pod<'_>) -> Option<Refusal> {
    let is = |owner: &Value| context(owner)["windowsOptions"]["hostProcess"] == true;
    let who = setters(is(pod.spec), &pod.named(is))?;
    Some(("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true")))
}

fn privilege_escalation(pod: &Pod<'_>) -> Option<Refusal> {
    if pod.minor >= 25 && pod.is_windows() {
        return None;
    }
    let names = pod.named(|container| context(container)["allowPrivilegeEscalation"] != false);
    let detail = || format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&names));
    (!names.is_empty()).then(|| ("allowPrivilegeEscalation != false", detail()))
}

fn volumes(pod: &Pod<'_>) -> Option<Refusal> {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let mut names = Vec::new();
    let mut kinds = BTreeSet::new();
    for volume in items(pod.spec, "volumes") {
        let mut sources = volume
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, value)| *key != "name" && !value.is_null());
        if sources.clone().any(|(key, _)| ALLOWED.contains(&key.as_str())) {
            continue;
        }
        names.push(text(volume, "name"));
        kinds.insert(sources.next().map_or("unknown".to_string(), |(key, _)| key.clone()));
    }
    let (what, uses) = (plural("volume", "volumes", names.len()), plural("uses", "use", names.len()));
    let kind = plural("restricted volume type", "restricted volume types", kinds.len());
    let detail = || format!("{what} {} {uses} {kind} {}", quoted(&names), quoted_set(&kinds));
    (!names.is_empty()).then(|| ("restricted volume types", detail()))
}

fn non_root(pod: &Pod<'_>) -> Option<Refusal> {
    const REASON: &str = "runAsNonRoot != true";
    if pod.minor >= 35 && pod.has_own_users() {
        return None;
    }
    let own = |owner: &Value| context(owner)["runAsNonRoot"].as_bool();
    let explicit = pod.named(|container| own(container) == Some(false));
    if let Some(who) = setters(own(pod.spec) == Some(false), &explicit) {
        return Some((REASON, format!("{who} must not set securityContext.runAsNonRoot=false")));
    }
    if own(pod.spec) == Some(true) {
        return None;
    }
    let names = pod.named(|container| own(container).is_none());
    let detail = || format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&names));
    (!names.is_empty()).then(|| (REASON, detail()))
}

fn root_user(pod: &Pod<'_>) -> Option<Refusal> {
    if pod.minor >= 35 && pod.has_own_users() {
        return None;
    }
    let is = |owner: &Value| context(owner)["runAsUser"] == 0;
    let who = setters(is(pod.spec), &pod.named(is))?;
    Some(("runAsUser=0", format!("{who} must not set runAsUser=0")))
}
