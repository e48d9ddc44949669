//! What `debug` makes: containers and pods from its flags, with the profiles' rights. Pure but for random
//! names.

use std::hash::{BuildHasher, Hasher};

use serde_json::{Map, Value, json};

use super::DebugArgs;
use crate::error::{Error, Result};

const PROFILES: [&str; 6] = ["legacy", "general", "baseline", "restricted", "netadmin", "sysadmin"];

/// What is debugged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Ephemeral,
    Copy,
    Node,
}

pub(super) fn check_profile(profile: &str) -> Result<()> {
    if PROFILES.contains(&profile) {
        return Ok(());
    }
    Err(Error::message(format!("unknown profile: {profile}")))
}

/// Five letters and digits that cannot be taken for a word.
fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    // Each of them is keyed by chance.
    let number = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let letter = |at: u32| {
        let index = number / 27u64.pow(at) % 27;
        LETTERS.get(usize::try_from(index).unwrap_or(0)).copied().map_or('x', char::from)
    };
    (0..5).map(letter).collect()
}

fn names(pod: &Value) -> Vec<&str> {
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let all = lists.into_iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    all.filter_map(|one| one["name"].as_str()).collect()
}

/// The given name, or one that the pod does not have.
fn name(args: &DebugArgs, pod: &Value) -> String {
    if let Some(name) = &args.container {
        return name.clone();
    }
    loop {
        let name = format!("debugger-{}", suffix());
        if !names(pod).contains(&name.as_str()) {
            return name;
        }
    }
}

/// The container of the flags.
fn container(args: &DebugArgs, name: &str) -> Result<Value> {
    let mut container = json!({
        "name": name,
        "image": args.image.clone().unwrap_or_default(),
        "terminationMessagePolicy": "File",
    });
    if let Some(policy) = &args.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    if args.stdin {
        container["stdin"] = json!(true);
    }
    if args.tty {
        container["tty"] = json!(true);
    }
    put_command(args, &mut container);
    if !args.env.is_empty() {
        let one = |text: &String| {
            let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
            let (name, value) =
                pair.ok_or_else(|| Error::message(format!("{text} must be formatted as key=value")))?;
            Ok(json!({"name": name, "value": value}))
        };
        container["env"] = Value::Array(args.env.iter().map(one).collect::<Result<_>>()?);
    }
    Ok(container)
}

fn put_command(args: &DebugArgs, container: &mut Value) {
    if args.command.is_empty() {
        return;
    }
    if args.arguments_only {
        container["args"] = json!(args.command);
    } else {
        container["command"] = json!(args.command);
        if let Some(container) = container.as_object_mut() {
            container.remove("args");
        }
    }
}

/// The rights that a profile gives a debugging container.
fn rights(profile: &str, of: Of) -> Option<Value> {
    match profile {
        "general" if of != Of::Node => Some(json!({"capabilities": {"add": ["SYS_PTRACE"]}})),
        "restricted" => Some(json!({
            "runAsNonRoot": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        })),
        "netadmin" => Some(json!({"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}})),
        "sysadmin" => Some(json!({"privileged": true})),
        _ => None,
    }
}

/// What the profile gives a container, and what the user's own file changes of it.
fn give_rights(args: &DebugArgs, of: Of, container: &mut Value) -> Result<()> {
    if let Some(rights) = rights(&args.profile, of) {
        container["securityContext"] = rights;
    }
    let Some(custom) = &args.custom_container else { return Ok(()) };
    let mut custom = custom.clone();
    custom["name"] = container["name"].clone();
    // Lists in it go together as those of a pod's containers do.
    let mut pod = json!({"spec": {"containers": [container]}});
    let patch = api::Patch::strategic(json!({"spec": {"containers": [custom]}}));
    api::patch::apply(api::schema::for_kind(&api::kinds::POD), &mut pod, &patch)
        .map_err(|error| Error::message(error.to_string()))?;
    *container = pod["spec"]["containers"][0].take();
    Ok(())
}

/// The part of a container in the file of `--custom`.
pub(super) fn custom(path: &str) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_string(),
            _ => error.to_string(),
        };
        Error::message(format!("must pass a container spec json file for custom profile: open {path}: {why}"))
    })?;
    let invalid =
        |why: String| Error::message(format!("{path} does not contain a valid container spec: {why}"));
    let custom = crate::manifest::parse_yaml(&text).map_err(|error| invalid(error.to_string()))?;
    if !custom.is_object() {
        return Err(invalid("it is not an object".to_string()));
    }
    let is_set = |field: &&str| match &custom[*field] {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    };
    if ["name", "command", "image", "lifecycle", "volumeDevices"].iter().any(is_set) {
        return Err(Error::message(
            "name, command, image, lifecycle and volume devices are not modifiable via custom profile",
        ));
    }
    Ok(custom)
}

pub(super) fn ephemeral(args: &DebugArgs, pod: &Value) -> Result<Value> {
    let mut container = container(args, &name(args, pod))?;
    if let Some(target) = &args.target_container {
        container["targetContainerName"] = json!(target);
    }
    give_rights(args, Of::Ephemeral, &mut container)?;
    Ok(container)
}

/// A copy of a pod with what the flags change, and the container to talk to.
pub(super) fn copy(args: &DebugArgs, pod: &Value) -> Result<(Value, String)> {
    let mut metadata = Map::new();
    metadata.insert("name".to_string(), json!(args.copy_to));
    metadata.insert("namespace".to_string(), pod["metadata"]["namespace"].clone());
    for (is_kept, part) in [(args.keep_labels, "labels"), (args.keep_annotations, "annotations")] {
        if is_kept && pod["metadata"][part].is_object() {
            metadata.insert(part.to_string(), pod["metadata"][part].clone());
        }
    }
    let mut spec = pod["spec"].clone();
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("ephemeralContainers");
        if !args.keep_init_containers {
            spec.remove("initContainers");
        }
        if !args.same_node {
            spec.remove("nodeName");
        }
    }
    if args.share_processes {
        spec["shareProcessNamespace"] = json!(true);
    }
    for container in spec["containers"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut)
    {
        for (is_kept, probe) in [
            (args.keep_liveness, "livenessProbe"),
            (args.keep_readiness, "readinessProbe"),
            (args.keep_startup, "startupProbe"),
        ] {
            if !is_kept {
                container.remove(probe);
            }
        }
    }
    set_images(args, &mut spec)?;
    let name = name(args, pod);
    let existing =
        spec["containers"].as_array_mut().into_iter().flatten().find(|one| one["name"] == name.as_str());
    match existing {
        Some(existing) => {
            if let Some(image) = &args.image {
                existing["image"] = json!(image);
            }
            put_command(args, existing);
            for (is_given, field) in [(args.stdin, "stdin"), (args.tty, "tty")] {
                if is_given {
                    existing[field] = json!(true);
                }
            }
            give_rights(args, Of::Copy, existing)?;
        }
        None if args.image.is_some() => {
            let mut added = container(args, &name)?;
            give_rights(args, Of::Copy, &mut added)?;
            if let Some(containers) = spec["containers"].as_array_mut() {
                containers.push(added);
            }
        }
        // Images alone are changed.
        None if args.container.is_none() => {
            let first = spec["containers"][0]["name"].as_str().unwrap_or_default().to_string();
            return Ok((
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}),
                first,
            ));
        }
        None => return Err(Error::message("you must specify image when creating new container")),
    }
    Ok((json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}), name))
}

fn set_images(args: &DebugArgs, spec: &mut Value) -> Result<()> {
    for pair in &args.set_image {
        let (name, image) = pair
            .split_once('=')
            .ok_or_else(|| Error::message(format!("{pair} must be formatted as key=value")))?;
        for container in spec["containers"].as_array_mut().into_iter().flatten() {
            if name == "*" || container["name"] == name {
                container["image"] = json!(image);
            }
        }
    }
    Ok(())
}

/// A pod in a node's own namespaces, which sees the node's files below `/host`.
pub(super) fn on_node(args: &DebugArgs, node: &Value) -> Result<Value> {
    let node = node["metadata"]["name"].as_str().unwrap_or_default();
    let mut container = container(args, args.container.as_deref().unwrap_or("debugger"))?;
    let is_within = !matches!(args.profile.as_str(), "baseline" | "restricted");
    let mut spec =
        json!({"nodeName": node, "restartPolicy": "Never", "tolerations": [{"operator": "Exists"}]});
    if is_within {
        container["volumeMounts"] = json!([{"name": "host-root", "mountPath": "/host"}]);
        spec["volumes"] = json!([{"name": "host-root", "hostPath": {"path": "/"}}]);
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            spec[field] = json!(true);
        }
    }
    give_rights(args, Of::Node, &mut container)?;
    spec["containers"] = json!([container]);
    let name = format!("node-debugger-{}-{}", node, suffix());
    let labels = json!({"app.kubernetes.io/managed-by": "kubectl-debug"});
    Ok(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec,
    }))
}
