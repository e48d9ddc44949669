//! Pods and their containers.

use api::json::{as_items, as_text};
use serde_json::Value;

use super::sheet::{Sheet, shown, time, title_case};
use super::{volumes, workload};

pub(super) fn describe(sheet: &mut Sheet, pod: &Value, _events: &[Value]) {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    identity(sheet, pod);
    phase(sheet, pod);
    let profile = |context: &Value| match (as_text(&context["type"]), as_text(&context["localhostProfile"])) {
        ("Localhost", file) => format!("Localhost ({file})"),
        (kind, _) => kind.to_string(),
    };
    if spec["securityContext"]["seccompProfile"].is_object() {
        sheet.line(0, &format!("SeccompProfile:\t{}", profile(&spec["securityContext"]["seccompProfile"])));
    }
    sheet.line(0, &format!("IP:\t{}", as_text(&status["podIP"])));
    addresses(sheet, status);
    workload::controlled_by(sheet, pod);
    if let Some(node) = status["nominatedNodeName"].as_str().filter(|node| !node.is_empty()) {
        sheet.line(0, &format!("NominatedNodeName:\t{node}"));
    }
    if !as_items(&spec["initContainers"]).is_empty() {
        containers(
            sheet,
            "Init Containers",
            &spec["initContainers"],
            Some((&status["initContainerStatuses"], pod)),
            0,
        );
    }
    containers(sheet, "Containers", &spec["containers"], Some((&status["containerStatuses"], pod)), 0);
    if !as_items(&spec["ephemeralContainers"]).is_empty() {
        let known = Some((&status["ephemeralContainerStatuses"], pod));
        containers(sheet, "Ephemeral Containers", &spec["ephemeralContainers"], known, 0);
    }
    conditions(sheet, spec, status);
    volumes::describe(sheet, &spec["volumes"], 0);
    sheet.line(0, &format!("QoS Class:\t{}", shown(&status["qosClass"])));
    sheet.labels(0, "Node-Selectors", &spec["nodeSelector"]);
    tolerations(sheet, &spec["tolerations"]);
}

/// Which pod it is, and where it runs as whom.
fn identity(sheet: &mut Sheet, pod: &Value) {
    let (metadata, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
    sheet.line(0, &format!("Name:\t{}", as_text(&metadata["name"])));
    sheet.line(0, &format!("Namespace:\t{}", as_text(&metadata["namespace"])));
    if let Some(priority) = spec["priority"].as_i64() {
        sheet.line(0, &format!("Priority:\t{priority}"));
    }
    if let Some(class) = spec["priorityClassName"].as_str().filter(|class| !class.is_empty()) {
        sheet.line(0, &format!("Priority Class Name:\t{class}"));
    }
    if let Some(class) = spec["runtimeClassName"].as_str() {
        sheet.line(0, &format!("Runtime Class Name:\t{class}"));
    }
    if let Some(account) = spec["serviceAccountName"].as_str().filter(|name| !name.is_empty()) {
        sheet.line(0, &format!("Service Account:\t{account}"));
    }
    match spec["nodeName"].as_str().filter(|name| !name.is_empty()) {
        Some(node) => sheet.line(0, &format!("Node:\t{node}/{}", as_text(&status["hostIP"]))),
        None => sheet.line(0, "Node:\t<none>"),
    }
    if status["startTime"].is_string() {
        sheet.line(0, &format!("Start Time:\t{}", time(&status["startTime"])));
    }
    sheet.labels(0, "Labels", &metadata["labels"]);
    sheet.annotations(0, "Annotations", &metadata["annotations"]);
}

fn phase(sheet: &mut Sheet, pod: &Value) {
    let (metadata, status) = (&pod["metadata"], &pod["status"]);
    if metadata["deletionTimestamp"].is_string()
        && !matches!(as_text(&status["phase"]), "Failed" | "Succeeded")
    {
        let now = jiff::Timestamp::now();
        let lasts = crate::age::since(metadata["deletionTimestamp"].as_str(), now);
        sheet.line(0, &format!("Status:\tTerminating (lasts {lasts})"));
        sheet.line(
            0,
            &format!("Termination Grace Period:\t{}s", shown(&metadata["deletionGracePeriodSeconds"])),
        );
    } else {
        sheet.line(0, &format!("Status:\t{}", as_text(&status["phase"])));
    }
    for (label, field) in [("Reason", "reason"), ("Message", "message")] {
        if let Some(text) = status[field].as_str().filter(|text| !text.is_empty()) {
            sheet.line(0, &format!("{label}:\t{text}"));
        }
    }
}

fn conditions(sheet: &mut Sheet, spec: &Value, status: &Value) {
    if !as_items(&spec["readinessGates"]).is_empty() {
        sheet.line(0, "Readiness Gates:");
        sheet.line(1, "Type\tStatus");
        for gate in as_items(&spec["readinessGates"]) {
            let met = as_items(&status["conditions"]).iter().find(|one| one["type"] == gate["conditionType"]);
            let state = met.map_or("<none>", |one| as_text(&one["status"]));
            sheet.line(1, &format!("{} \t{state} ", as_text(&gate["conditionType"])));
        }
    }
    if !as_items(&status["conditions"]).is_empty() {
        sheet.line(0, "Conditions:");
        sheet.line(1, "Type\tStatus");
        for one in as_items(&status["conditions"]) {
            sheet.line(1, &format!("{} \t{} ", as_text(&one["type"]), as_text(&one["status"])));
        }
    }
}

fn addresses(sheet: &mut Sheet, status: &Value) {
    let addresses = as_items(&status["podIPs"]);
    if addresses.is_empty() {
        sheet.line(0, "IPs:\t<none>");
        return;
    }
    sheet.line(0, "IPs:");
    for one in addresses {
        sheet.line(1, &format!("IP:\t{}", as_text(&one["ip"])));
    }
}

pub(super) fn tolerations(sheet: &mut Sheet, tolerations: &Value) {
    let text = |one: &Value| {
        let mut text = as_text(&one["key"]).to_string();
        if let Some(value) = one["value"].as_str().filter(|value| !value.is_empty()) {
            text.push_str(&format!("={value}"));
        }
        if let Some(effect) = one["effect"].as_str().filter(|effect| !effect.is_empty()) {
            text.push_str(&format!(":{effect}"));
        }
        if one["operator"] == "Exists" && one["value"].is_null() {
            text.push_str(if one["key"].is_null() && one["effect"].is_null() {
                "op=Exists"
            } else {
                " op=Exists"
            });
        }
        if let Some(seconds) = one["tolerationSeconds"].as_i64() {
            text.push_str(&format!(" for {seconds}s"));
        }
        text
    };
    let mut cells: Vec<String> = as_items(tolerations).iter().map(text).collect();
    cells.sort();
    sheet.column(0, "Tolerations", &cells);
}

/// Containers of a pod (with their statuses) or of a template (without).
pub(super) fn containers(
    sheet: &mut Sheet,
    title: &str,
    containers: &Value,
    known: Option<(&Value, &Value)>,
    level: usize,
) {
    if as_items(containers).is_empty() {
        sheet.line(level, &format!("{title}: <none>"));
        return;
    }
    sheet.line(level, &format!("{title}:"));
    // Inside a template only headings and names move to the right; what is said of a container stands as in a
    // pod.
    let name_indent = if level > 0 { " " } else { "" };
    let level = 0;
    for container in as_items(containers) {
        let of_this = |statuses: &'_ Value| {
            as_items(statuses).iter().find(|one| one["name"] == container["name"]).cloned()
        };
        let status = known.and_then(|(statuses, _)| of_this(statuses));
        sheet.line(level + 1, &format!("{name_indent}{}:", as_text(&container["name"])));
        basics(sheet, container, status.as_ref(), level + 2);
        words(sheet, "Command", &container["command"], level + 2);
        words(sheet, "Args", &container["args"], level + 2);
        if let Some(status) = &status {
            state(sheet, "State", &status["state"], level + 2);
            if status["lastState"].as_object().is_some_and(|state| !state.is_empty()) {
                state(sheet, "Last State", &status["lastState"], level + 2);
            }
            sheet.line(level + 2, &format!("Ready:\t{}", title_case(&status["ready"])));
            sheet.line(
                level + 2,
                &format!("Restart Count:\t{}", status["restartCount"].as_i64().unwrap_or(0)),
            );
        }
        resources(sheet, &container["resources"], level + 2);
        probes(sheet, container, level + 2);
        environment(sheet, container, known.map(|(_, pod)| pod), level + 2);
        mounts(sheet, container, level + 2);
    }
}

fn basics(sheet: &mut Sheet, container: &Value, status: Option<&Value>, level: usize) {
    if let Some(status) = status {
        sheet.line(level, &format!("Container ID:\t{}", as_text(&status["containerID"])));
    }
    sheet.line(level, &format!("Image:\t{}", as_text(&container["image"])));
    if let Some(status) = status {
        sheet.line(level, &format!("Image ID:\t{}", as_text(&status["imageID"])));
    }
    let ports = as_items(&container["ports"]);
    let texts = |field: &str| -> Vec<String> {
        let protocol = |port: &Value| port["protocol"].as_str().unwrap_or("TCP").to_string();
        ports.iter().map(|port| format!("{}/{}", port[field].as_i64().unwrap_or(0), protocol(port))).collect()
    };
    for (one, many, field) in [("Port", "Ports", "containerPort"), ("Host Port", "Host Ports", "hostPort")] {
        match &texts(field)[..] {
            [] => sheet.line(level, &format!("{one}:\t<none>")),
            [port] => sheet.line(level, &format!("{one}:\t{port}")),
            ports => sheet.line(level, &format!("{many}:\t{}", ports.join(", "))),
        }
    }
}

fn words(sheet: &mut Sheet, title: &str, words: &Value, level: usize) {
    if as_items(words).is_empty() {
        return;
    }
    sheet.line(level, &format!("{title}:"));
    for word in as_items(words) {
        for line in as_text(word).split('\n') {
            sheet.line(level + 1, line);
        }
    }
}

fn state(sheet: &mut Sheet, title: &str, state: &Value, level: usize) {
    if state["running"].is_object() {
        sheet.line(level, &format!("{title}:\tRunning"));
        sheet.line(level + 1, &format!("Started:\t{}", time(&state["running"]["startedAt"])));
    } else if state["terminated"].is_object() {
        let ended = &state["terminated"];
        sheet.line(level, &format!("{title}:\tTerminated"));
        for (label, field) in [("Reason", "reason"), ("Message", "message")] {
            if let Some(text) = ended[field].as_str().filter(|text| !text.is_empty()) {
                sheet.line(level + 1, &format!("{label}:\t{text}"));
            }
        }
        sheet.line(level + 1, &format!("Exit Code:\t{}", ended["exitCode"].as_i64().unwrap_or(0)));
        if let Some(signal) = ended["signal"].as_i64().filter(|signal| *signal > 0) {
            sheet.line(level + 1, &format!("Signal:\t{signal}"));
        }
        sheet.line(level + 1, &format!("Started:\t{}", time(&ended["startedAt"])));
        sheet.line(level + 1, &format!("Finished:\t{}", time(&ended["finishedAt"])));
    } else {
        sheet.line(level, &format!("{title}:\tWaiting"));
        if let Some(reason) = state["waiting"]["reason"].as_str().filter(|reason| !reason.is_empty()) {
            sheet.line(level + 1, &format!("Reason:\t{reason}"));
        }
    }
}

fn resources(sheet: &mut Sheet, resources: &Value, level: usize) {
    for (title, field) in [("Limits", "limits"), ("Requests", "requests")] {
        if let Some(map) = resources[field].as_object().filter(|map| !map.is_empty()) {
            sheet.line(level, &format!("{title}:"));
            for (name, quantity) in map {
                sheet.line(level + 1, &format!("{name}:\t{}", shown(quantity)));
            }
        }
    }
}

fn probes(sheet: &mut Sheet, container: &Value, level: usize) {
    for (title, field) in
        [("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe")]
    {
        if container[field].is_object() {
            sheet.line(level, &format!("{title}:\t{}", probe(&container[field])));
        }
    }
}

fn probe(probe: &Value) -> String {
    let number = |field: &str| probe[field].as_i64().unwrap_or(0);
    let attributes = format!(
        "delay={}s timeout={}s period={}s #success={} #failure={}",
        number("initialDelaySeconds"),
        number("timeoutSeconds"),
        number("periodSeconds"),
        number("successThreshold"),
        number("failureThreshold")
    );
    if probe["exec"].is_object() {
        let words: Vec<&str> = as_items(&probe["exec"]["command"]).iter().map(as_text).collect();
        return format!("exec [{}] {attributes}", words.join(" "));
    }
    if let get @ Value::Object(_) = &probe["httpGet"] {
        let scheme = as_text(&get["scheme"]).to_lowercase();
        let path = as_text(&get["path"]);
        let path =
            if path.starts_with('/') || path.is_empty() { path.to_string() } else { format!("/{path}") };
        return format!(
            "http-get {scheme}://{}:{}{path} {attributes}",
            as_text(&get["host"]),
            shown(&get["port"])
        );
    }
    if let socket @ Value::Object(_) = &probe["tcpSocket"] {
        return format!("tcp-socket {}:{} {attributes}", as_text(&socket["host"]), shown(&socket["port"]));
    }
    if let grpc @ Value::Object(_) = &probe["grpc"] {
        return format!("grpc <pod>:{} {} {attributes}", shown(&grpc["port"]), as_text(&grpc["service"]));
    }
    format!("unknown {attributes}")
}

fn environment(sheet: &mut Sheet, container: &Value, pod: Option<&Value>, level: usize) {
    let sources = as_items(&container["envFrom"]);
    if !sources.is_empty() {
        sheet.line(level, "Environment Variables from:");
        for source in sources {
            let (kind, from) = if source["configMapRef"].is_object() {
                ("ConfigMap", &source["configMapRef"])
            } else {
                ("Secret", &source["secretRef"])
            };
            let prefix = source["prefix"]
                .as_str()
                .filter(|text| !text.is_empty())
                .map(|text| format!(" with prefix '{text}'"));
            let optional = from["optional"] == true;
            sheet.line(
                level + 1,
                &format!(
                    "{}\t{kind}{}\tOptional: {optional}",
                    as_text(&from["name"]),
                    prefix.unwrap_or_default()
                ),
            );
        }
    }
    let variables = as_items(&container["env"]);
    if variables.is_empty() {
        sheet.line(level, "Environment:\t<none>");
        return;
    }
    sheet.line(level, "Environment:");
    for variable in variables {
        let name = as_text(&variable["name"]);
        let from = &variable["valueFrom"];
        if !from.is_object() {
            for (index, line) in as_text(&variable["value"]).split('\n').enumerate() {
                let head = if index == 0 { format!("{name}:") } else { String::new() };
                sheet.line(level + 1, &format!("{head}\t{line}"));
            }
        } else if let field @ Value::Object(_) = &from["fieldRef"] {
            let path = as_text(&field["fieldPath"]);
            let value = pod.map(|pod| field_value(pod, path)).unwrap_or_default();
            sheet.line(level + 1, &format!("{name}:\t{value} ({}:{path})", as_text(&field["apiVersion"])));
        } else if let resource @ Value::Object(_) = &from["resourceFieldRef"] {
            sheet.line(level + 1, &format!("{name}:\t ({})", as_text(&resource["resource"])));
        } else {
            let (kind, key) = if from["secretKeyRef"].is_object() {
                ("in secret", &from["secretKeyRef"])
            } else {
                ("of config map", &from["configMapKeyRef"])
            };
            let optional = key["optional"] == true;
            sheet.line(
                level + 1,
                &format!(
                    "{name}:\t<set to the key '{}' {kind} '{}'>\tOptional: {optional}",
                    as_text(&key["key"]),
                    as_text(&key["name"])
                ),
            );
        }
    }
}

/// The value of a downward API path, where it is one of the object's own fields.
fn field_value(pod: &Value, path: &str) -> String {
    api::jsonpath::JsonPath::parse_relaxed(path)
        .and_then(|path| path.values(pod))
        .ok()
        .and_then(|values| values.first().map(|value| as_text(value).to_string()))
        .unwrap_or_default()
}

fn mounts(sheet: &mut Sheet, container: &Value, level: usize) {
    let mut mounts: Vec<&Value> = as_items(&container["volumeMounts"]).iter().collect();
    if mounts.is_empty() {
        sheet.line(level, "Mounts:\t<none>");
        return;
    }
    sheet.line(level, "Mounts:");
    mounts.sort_by_key(|mount| as_text(&mount["mountPath"]).to_string());
    for mount in mounts {
        let mut flags = vec![if mount["readOnly"] == true { "ro".to_string() } else { "rw".to_string() }];
        if let Some(path) = mount["subPath"].as_str().filter(|path| !path.is_empty()) {
            flags.push(format!("path={path:?}"));
        }
        sheet.line(
            level + 1,
            &format!(
                "{} from {} ({})",
                as_text(&mount["mountPath"]),
                as_text(&mount["name"]),
                flags.join(",")
            ),
        );
    }
}
