//! `kubectl auth can-i | whoami | reconcile`: what the server thinks of us, and roles from files.

mod reconcile;
mod rules;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use api::json::{as_items, as_text};

use crate::env::{Env, print};
use crate::error::{Error, Result};
use crate::output::{Format, OutputArgs, bracketed, text_table};
use crate::terminal::warn;

/// Inspect authorization
#[derive(Args)]
pub(crate) struct AuthArgs {
    #[command(subcommand)]
    command: AuthCommand,
}

#[derive(Subcommand)]
enum AuthCommand {
    #[command(name = "can-i")]
    CanI(CanIArgs),
    Whoami(WhoamiArgs),
    Reconcile(reconcile::ReconcileArgs),
}

/// Check whether an action is allowed
#[derive(Args)]
struct CanIArgs {
    /// VERB TYPE[/NAME] | VERB /PATH
    arguments: Vec<String>,
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[arg(short = 'q', long)]
    quiet: bool,
    #[arg(long)]
    subresource: Option<String>,
    /// What is allowed in the namespace
    #[arg(long)]
    list: bool,
    /// With --list: no line of headers
    #[arg(long)]
    no_headers: bool,
}

/// Experimental: check self subject attributes
#[derive(Args)]
struct WhoamiArgs {
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(env: &Env, args: AuthArgs) -> Result<()> {
    match args.command {
        AuthCommand::CanI(args) => can_i(env, args).await,
        AuthCommand::Whoami(args) => whoami(env, args).await,
        AuthCommand::Reconcile(args) => reconcile::run(env, args).await,
    }
}

async fn can_i(env: &Env, args: CanIArgs) -> Result<()> {
    if args.list {
        return list(env, &args).await;
    }
    let (verb, subject, name) = match &args.arguments[..] {
        [verb, subject] => match subject.split_once('/').filter(|_| !subject.starts_with('/')) {
            Some((kind, name)) => (verb, kind.to_string(), name.to_string()),
            None => (verb, subject.clone(), String::new()),
        },
        [verb, subject, name] => (verb, subject.clone(), name.clone()),
        _ => {
            return Err(Error::message(
                "you must specify two or three arguments: verb, resource, and optional resourceName. See 'kubectl auth can-i -h' for help and examples.",
            ));
        }
    };
    let spec = if subject.starts_with('/') {
        json!({"nonResourceAttributes": {"path": subject, "verb": verb}})
    } else {
        let (group, resource, namespaced) = if subject == "*" {
            ("*".to_string(), "*".to_string(), true)
        } else {
            match env.resource(&subject).await {
                Ok(row) => {
                    if !row.namespaced() && !args.all_namespaces {
                        warn(&format!("resource '{}' is not namespace scoped\n", row.plural));
                    }
                    (row.group.to_string(), row.plural.to_string(), row.namespaced())
                }
                Err(Error::Message(_)) => {
                    warn(&format!("the server doesn't have a resource type '{subject}'\n"));
                    (String::new(), subject, true)
                }
                Err(error) => return Err(error),
            }
        };
        let namespace = if args.all_namespaces || !namespaced { "" } else { env.namespace.as_str() };
        json!({"resourceAttributes": {
            "namespace": namespace, "verb": verb, "group": group, "resource": resource, "name": name,
            "subresource": args.subresource.unwrap_or_default(),
        }})
    };
    let review =
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = env.rest().await?.post(path, &review).await?;
    let allowed = answer["status"]["allowed"] == true;
    if !args.quiet {
        let mut text = if allowed { "yes" } else { "no" }.to_string();
        for (label, field) in [(" - ", "reason"), (" - ", "evaluationError")] {
            if let Some(why) = answer["status"][field].as_str().filter(|why| !why.is_empty() && !allowed) {
                text.push_str(&format!("{label}{why}"));
            }
        }
        print(&format!("{text}\n"))?;
    }
    if allowed { Ok(()) } else { Err(Error::Exit(1)) }
}

/// What the server says of all that is allowed, one line a resource or path.
async fn list(env: &Env, args: &CanIArgs) -> Result<()> {
    if !args.arguments.is_empty() {
        return Err(Error::message("list option must be specified with no arguments"));
    }
    if args.all_namespaces {
        return Err(Error::message("list option can't be used with all-namespaces option"));
    }
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": env.namespace},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let answer = env.rest().await?.post(path, &review).await?;
    let status = &answer["status"];
    if status["incomplete"] == true {
        let why = status["evaluationError"].as_str().unwrap_or_default();
        warn(&format!("the list may be incomplete: {why}"));
    }
    let listed = ["resourceRules", "nonResourceRules"].map(|field| as_items(&status[field]));
    let permissions = listed.into_iter().flatten().flat_map(rules::permissions).collect();
    let mut rules: Vec<(String, Vec<String>)> =
        rules::compact(permissions).iter().map(|rule| (order(rule), row(rule))).collect();
    rules.sort_by(|one, other| one.0.cmp(&other.0));
    let headers = ["Resources", "Non-Resource URLs", "Resource Names", "Verbs"].map(String::from).to_vec();
    let head = if args.no_headers { None } else { Some(headers) };
    let lines: Vec<Vec<String>> = head.into_iter().chain(rules.into_iter().map(|(_, row)| row)).collect();
    print(&text_table::format(&lines))
}

/// Upstream sorts by the text that Go's protobuf makes of a rule.
fn order(rule: &Value) -> String {
    let list = |field: &str| bracketed(&rule[field]);
    format!(
        "Verbs:{},APIGroups:{},Resources:{},ResourceNames:{},NonResourceURLs:{}",
        list("verbs"),
        list("apiGroups"),
        list("resources"),
        list("resourceNames"),
        list("nonResourceURLs")
    )
}

fn row(rule: &Value) -> Vec<String> {
    let first = |field: &str| as_items(&rule[field]).first().map(as_text).unwrap_or_default();
    let group = match first("apiGroups") {
        "" => String::new(),
        group => format!(".{group}"),
    };
    let resource = match first("resources").split_once('/') {
        Some((resource, sub)) => format!("{resource}{group}/{sub}"),
        None if first("resources").is_empty() => String::new(),
        None => format!("{}{group}", first("resources")),
    };
    let rest = ["nonResourceURLs", "resourceNames", "verbs"].map(|field| bracketed(&rule[field]));
    [resource].into_iter().chain(rest).collect()
}

async fn whoami(env: &Env, args: WhoamiArgs) -> Result<()> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = env.rest().await?.post(path, &review).await?;
    let format = args.output.format()?;
    if let Format::Human { .. } = format {
        let user = &answer["status"]["userInfo"];
        let list = |value: &Value| {
            let texts: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            format!("[{}]", texts.join(" "))
        };
        let mut lines = vec![vec!["ATTRIBUTE".to_string(), "VALUE".to_string()]];
        for (label, field) in [("Username", "username"), ("UID", "uid")] {
            if let Some(text) = user[field].as_str().filter(|text| !text.is_empty()) {
                lines.push(vec![label.to_string(), text.to_string()]);
            }
        }
        lines.push(vec!["Groups".to_string(), list(&user["groups"])]);
        for (key, value) in user["extra"].as_object().into_iter().flatten() {
            lines.push(vec![format!("Extra: {key}"), list(value)]);
        }
        return print(&text_table::format(&lines));
    }
    print(&format.text(&answer, true, false)?)
}
