//! `kubectl version`.

use clap::Args;
use serde_json::{Value, json};

use crate::env::{Env, print};
use crate::error::{Error, Result};
use crate::output::{json as json_output, yaml};

/// Print the client and server version information
#[derive(Args)]
pub(crate) struct VersionArgs {
    /// Do not ask the server
    #[arg(long)]
    client: bool,
    /// yaml or json
    #[arg(short = 'o', long)]
    output: Option<String>,
}

pub(crate) async fn run(env: &Env, args: VersionArgs) -> Result<()> {
    let mut versions = json!({"clientVersion": {
        "major": "1", "minor": "36", "gitVersion": api::GIT_VERSION, "compiler": "rustc",
        "platform": format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
    }});
    let mut failure = None;
    if !args.client {
        match env.rest().await?.get("/version").await {
            Ok(server) => versions["serverVersion"] = server,
            Err(error) => failure = Some(error),
        }
    }
    match args.output.as_deref() {
        None | Some("") => print(&short(&versions))?,
        Some("json") => print(&json_output::pretty(&versions))?,
        Some("yaml") => print(&yaml::to_yaml(&versions))?,
        Some(_) => return Err(Error::message("--output must be 'yaml' or 'json'")),
    }
    failure.map_or(Ok(()), Err)
}

fn short(versions: &Value) -> String {
    let line = |label: &str, version: &Value| {
        version["gitVersion"].as_str().map(|text| format!("{label} Version: {text}\n")).unwrap_or_default()
    };
    line("Client", &versions["clientVersion"]) + &line("Server", &versions["serverVersion"])
}
