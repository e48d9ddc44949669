//! `kubectl cluster-info [dump]`.

mod dump;

use std::io::IsTerminal;

use clap::{Args, Subcommand};

use crate::env::{Env, print};
use crate::error::Result;
use crate::selection::SelectorArgs;

/// Display addresses of the control plane and services with label kubernetes.io/cluster-service=true
#[derive(Args)]
pub(crate) struct ClusterInfoArgs {
    #[command(subcommand)]
    command: Option<ClusterInfoCommand>,
}

#[derive(Subcommand)]
enum ClusterInfoCommand {
    Dump(dump::DumpArgs),
}

pub(crate) async fn run(env: &Env, args: ClusterInfoArgs) -> Result<()> {
    if let Some(ClusterInfoCommand::Dump(args)) = args.command {
        return dump::run(env, args).await;
    }
    let server = env.server()?;
    let row = env.resource("services").await?;
    let selector = SelectorArgs {
        selector: Some("kubernetes.io/cluster-service=true".to_string()),
        ..SelectorArgs::default()
    };
    let services = env.list(&row, Some("kube-system"), &selector.query(), 500).await?;
    let color = std::io::stdout().is_terminal();
    let paint = |text: &str, code: &str| {
        if color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    };
    let line =
        |name: &str, url: &str| format!("{} is running at {}\n", paint(name, "0;32"), paint(url, "0;33"));
    let mut text = line("Kubernetes control plane", &server);
    for service in &services {
        let metadata = &service["metadata"];
        let name = metadata["name"].as_str().unwrap_or_default();
        let shown = metadata["labels"]["kubernetes.io/name"].as_str().unwrap_or(name);
        let port =
            service["spec"]["ports"][0]["name"].as_str().map(|port| format!(":{port}")).unwrap_or_default();
        let namespace = metadata["namespace"].as_str().unwrap_or_default();
        text.push_str(&line(
            shown,
            &format!("{server}/api/v1/namespaces/{namespace}/services/{name}{port}/proxy"),
        ));
    }
    text.push_str("\nTo further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.\n");
    print(&text)
}
