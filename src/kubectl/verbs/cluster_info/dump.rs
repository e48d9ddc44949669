//! `kubectl cluster-info dump`: objects and logs for whoever has to find out what is wrong.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::env::{Env, print};
use crate::error::{Error, Result};
use crate::output::{json as json_output, yaml};
use crate::selection::Target;

/// Dump relevant information for debugging and diagnosis
#[derive(Args)]
pub(super) struct DumpArgs {
    /// json or yaml
    #[arg(short = 'o', long, default_value = "json")]
    output: String,
    /// A directory for files; standard output if it is empty or -
    #[arg(long)]
    output_directory: Option<String>,
    /// Namespaces to dump, instead of kube-system and the present one
    #[arg(long, value_delimiter = ',')]
    namespaces: Vec<String>,
    /// Dump all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Accepted for compatibility; logs are not waited for
    #[arg(long, default_value = "20s", hide = true)]
    pod_running_timeout: String,
}

/// What is dumped of a namespace, and how the files are called.
const KINDS: [(&str, &str); 7] = [
    ("events", "events"),
    ("replicationcontrollers", "replication-controllers"),
    ("services", "services"),
    ("daemonsets", "daemonsets"),
    ("deployments", "deployments"),
    ("replicasets", "replicasets"),
    ("pods", "pods"),
];

pub(super) async fn run(env: &Env, args: DumpArgs) -> Result<()> {
    let dump = Dump::new(&args)?;
    let nodes = env.resource("nodes").await?;
    dump.write("nodes", &list(&nodes.kind, &nodes.api_version(), env.list(&nodes, None, "", 500).await?))?;
    for namespace in namespaces(env, &args).await? {
        for (plural, file) in KINDS {
            let row = env.resource(plural).await?;
            let items = env.list(&row, Some(&namespace), "", 500).await?;
            let pods = if plural == "pods" { items.clone() } else { Vec::new() };
            dump.write(&format!("{namespace}/{file}"), &list(&row.kind, &row.api_version(), items))?;
            for pod in &pods {
                let target = Target {
                    row: row.clone(),
                    namespace: Some(namespace.clone()),
                    name: pod["metadata"]["name"].as_str().unwrap_or_default().to_string(),
                    manifest: None,
                };
                logs(env, &dump, &target, pod).await?;
            }
        }
    }
    match &dump.folder {
        Some(_) => print(&format!("Cluster info dumped to {}\n", args.output_directory.unwrap_or_default())),
        None => Ok(()),
    }
}

async fn namespaces(env: &Env, args: &DumpArgs) -> Result<Vec<String>> {
    if args.all_namespaces {
        let row = env.resource("namespaces").await?;
        let items = env.list(&row, None, "", 500).await?;
        let names = items.iter().filter_map(|item| item["metadata"]["name"].as_str());
        return Ok(names.map(str::to_string).collect());
    }
    if args.namespaces.is_empty() {
        return Ok(vec!["kube-system".to_string(), env.namespace.clone()]);
    }
    Ok(args.namespaces.clone())
}

fn list(kind: &str, api_version: &str, items: Vec<Value>) -> Value {
    json!({"kind": format!("{kind}List"), "apiVersion": api_version, "metadata": {}, "items": items})
}

/// Logs of every container; one that has none says why.
async fn logs(env: &Env, dump: &Dump, target: &Target, pod: &Value) -> Result<()> {
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let about = format!("of pod {namespace}/{}", target.name);
    let mut text = Vec::new();
    let containers = ["initContainers", "containers"];
    for container in containers.iter().flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten()) {
        let name = container["name"].as_str().unwrap_or_default();
        text.extend_from_slice(format!("==== START logs for container {name} {about} ====\n").as_bytes());
        let path = format!("{}?container={}", target.sub_path("log"), client::https::encode_component(name));
        match env.rest().await?.get_raw(&path).await {
            Ok(bytes) => text.extend_from_slice(&bytes),
            Err(error) => text.extend_from_slice(format!("Request log error: {error}\n").as_bytes()),
        }
        text.extend_from_slice(format!("==== END logs for container {name} {about} ====\n").as_bytes());
    }
    dump.put(&format!("{namespace}/{}/logs.txt", target.name), &text)
}

/// Where it goes and in which form.
struct Dump {
    folder: Option<PathBuf>,
    yaml: bool,
}

impl Dump {
    fn new(args: &DumpArgs) -> Result<Self> {
        let yaml = match args.output.as_str() {
            "json" => false,
            "yaml" => true,
            other => {
                return Err(Error::message(format!(
                    "unable to match a printer suitable for the output format {other:?}, allowed formats are: json,yaml"
                )));
            }
        };
        let folder = args.output_directory.as_deref().filter(|folder| !matches!(*folder, "" | "-"));
        Ok(Dump { folder: folder.map(PathBuf::from), yaml })
    }

    fn write(&self, name: &str, object: &Value) -> Result<()> {
        let (ending, text) = match self.yaml {
            true => ("yaml", yaml::to_yaml(object)),
            false => ("json", json_output::pretty(object)),
        };
        self.put(&format!("{name}.{ending}"), text.as_bytes())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let Some(folder) = &self.folder else {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes)?;
            return Ok(out.flush()?);
        };
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        Ok(std::fs::write(path, bytes)?)
    }
}
