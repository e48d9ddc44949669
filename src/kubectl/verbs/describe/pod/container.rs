//! The containers of a pod or of a pod template.

use api::json::{as_items, as_text};
use serde_json::Value;

use super::super::sheet::{Sheet, shown, time, title_case};

/// Containers of a pod (with their statuses) or of a template (without).
pub(in crate::verbs::describe) fn containers(
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
