//! `kubectl describe`: an object, what belongs to it, and its events, in upstream's layout.

mod cluster;
mod generic;
mod ingress;
mod node;
mod pod;
mod rbac;
mod sheet;
mod storage;
mod volumes;
mod workload;

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use client::https::encode_component;

use crate::env::{Env, print, tell};
use crate::error::{Error, Result, collect};
use crate::manifest::FileArgs;
use crate::selection::{Selection, SelectorArgs, Target};
use crate::verbs::events::interval;
use sheet::Sheet;

/// Show details of a specific resource or group of resources
#[derive(Args)]
pub(crate) struct DescribeArgs {
    resources: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    /// Show events too
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    show_events: bool,
    #[arg(long, default_value_t = 500)]
    chunk_size: usize,
}

pub(crate) async fn run(env: &Env, args: DescribeArgs) -> Result<()> {
    if args.resources.is_empty() && !args.files.given() {
        return Err(Error::Raw(
            "error: You must specify the type of resource to describe. Use \"kubectl api-resources\" for a complete list of supported resources.".to_string(),
        ));
    }
    let mut errors = Vec::new();
    let targets = targets(env, &args, &mut errors).await?;
    let mut first = true;
    for target in targets {
        match describe(env, &target, args.show_events).await {
            Ok(text) => {
                print(&if first { text } else { format!("\n\n{text}") })?;
                first = false;
            }
            Err(error) => errors.push(error),
        }
    }
    if first && errors.is_empty() {
        match args.selector.all_namespaces {
            true => tell("No resources found"),
            false => tell(&format!("No resources found in {} namespace.", env.namespace)),
        }
    }
    collect(errors)
}

async fn targets(env: &Env, args: &DescribeArgs, errors: &mut Vec<Error>) -> Result<Vec<Target>> {
    if args.files.given() {
        return env.objects_of(&args.files).await;
    }
    match env.select(&args.resources).await? {
        Selection::Collections(rows) => {
            let mut targets = Vec::new();
            for row in rows {
                targets.extend(env.members(&row, &args.selector).await?);
            }
            Ok(targets)
        }
        Selection::Targets(_) if args.selector.given() => {
            Err(Error::message("name cannot be provided when a selector is specified"))
        }
        Selection::Targets(targets) => {
            let mut found = Vec::new();
            for target in targets {
                match env.rest().await?.get(&target.path()).await {
                    Ok(_) => found.push(target),
                    // A beginning of names will do where there is no such name.
                    Err(error) if error.is_not_found() => {
                        let mut like = env.members(&target.row, &args.selector).await?;
                        like.retain(|one| one.name.starts_with(&target.name));
                        if like.is_empty() {
                            errors.push(error);
                        }
                        found.extend(like);
                    }
                    Err(error) => errors.push(error),
                }
            }
            Ok(found)
        }
    }
}

async fn describe(env: &Env, target: &Target, show_events: bool) -> Result<String> {
    let object = env.rest().await?.get(&target.path()).await?;
    let mut sheet = Sheet::default();
    let events = if show_events { Some(events_of(env, &object).await?) } else { None };
    match (target.row.group.as_ref(), target.row.kind.as_ref()) {
        ("", "Pod") => pod::describe(&mut sheet, &object, events.as_deref().unwrap_or_default()),
        ("", "Node") => node::describe(env, &mut sheet, &object).await?,
        ("", "Service") => cluster::service(env, &mut sheet, &object).await?,
        ("", "Namespace") => {
            cluster::namespace(env, &mut sheet, &object).await?;
            return Ok(sheet.text());
        }
        ("", "ConfigMap") => cluster::config_map(&mut sheet, &object),
        ("", "Secret") => {
            cluster::secret(&mut sheet, &object);
            return Ok(sheet.text());
        }
        ("", "ServiceAccount") => cluster::service_account(env, &mut sheet, &object).await?,
        ("", "Endpoints") => cluster::endpoints_object(&mut sheet, &object),
        ("", "PersistentVolume") => storage::volume(&mut sheet, &object),
        ("", "PersistentVolumeClaim") => storage::claim(env, &mut sheet, &object).await?,
        ("networking.k8s.io", "Ingress") => ingress::describe(env, &mut sheet, &object).await?,
        ("storage.k8s.io", "StorageClass") => storage::class(&mut sheet, &object),
        ("apps", "Deployment") => workload::deployment(env, &mut sheet, &object).await?,
        ("apps", "ReplicaSet") => workload::replica_set(env, &mut sheet, &object).await?,
        ("apps", "DaemonSet" | "StatefulSet") => workload::other_set(env, &mut sheet, &object).await?,
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => {
            rbac::role(&mut sheet, &object);
            return Ok(sheet.text());
        }
        ("rbac.authorization.k8s.io", _) => {
            rbac::binding(&mut sheet, &object);
            return Ok(sheet.text());
        }
        _ => generic::describe(&mut sheet, &object),
    }
    if let Some(events) = &events {
        write_events(&mut sheet, events);
    }
    Ok(sheet.text())
}

/// Events about an object, oldest first.
async fn events_of(env: &Env, object: &Value) -> Result<Vec<Value>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let metadata = &object["metadata"];
    let mut terms = vec![
        format!("involvedObject.name={}", text(&metadata["name"])),
        format!("involvedObject.kind={}", text(&object["kind"])),
    ];
    let namespace = text(&metadata["namespace"]);
    if !namespace.is_empty() {
        terms.push(format!("involvedObject.namespace={namespace}"));
    }
    let uid = text(&metadata["uid"]);
    // Events about nodes carry the node's name in place of its uid.
    if !uid.is_empty() && object["kind"] != "Node" {
        terms.push(format!("involvedObject.uid={uid}"));
    }
    let query = format!("fieldSelector={}&", encode_component(&terms.join(",")));
    let row = env.resource("events").await?;
    let place = Some(namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let mut events = match env.list(&row, place, &query, 500).await {
        Ok(events) => events,
        // A user who may not read events still gets the object.
        Err(error) if error.api().is_some() => Vec::new(),
        Err(error) => return Err(error),
    };
    if object["kind"] == "Node" {
        // Controllers name the node's uid, kubelets its name in that place; upstream asks for one after the
        // other.
        events.sort_by_key(|event| event["involvedObject"]["uid"] != uid.as_str());
    }
    // By the field that old clients fill, as upstream: events without it come first.
    events
        .sort_by_key(|event| event["lastTimestamp"].as_str().and_then(|time| time.parse::<Timestamp>().ok()));
    Ok(events)
}

fn write_events(sheet: &mut Sheet, events: &[Value]) {
    if events.is_empty() {
        sheet.line(0, "Events:\t<none>");
        return;
    }
    sheet.flush();
    sheet.line(0, "Events:");
    sheet.line(1, "Type\tReason\tAge\tFrom\tMessage");
    sheet.line(1, "----\t------\t----\t----\t-------");
    let now = Timestamp::now();
    for event in events {
        let text = |value: &Value| value.as_str().unwrap_or_default().trim().to_string();
        let component = text(&event["source"]["component"]);
        let from = if component.is_empty() { text(&event["reportingComponent"]) } else { component };
        sheet.line(
            1,
            &format!(
                "{}\t{}\t{}\t{from}\t{}",
                text(&event["type"]),
                text(&event["reason"]),
                interval(event, now),
                text(&event["message"])
            ),
        );
    }
}

/// A pod template as `rollout history --revision` shows it.
pub(crate) fn template_text(template: &Value) -> String {
    let mut sheet = Sheet::default();
    workload::template(&mut sheet, template);
    // Upstream does not align these.
    sheet.raw_lines().iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests;
