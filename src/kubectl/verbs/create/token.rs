//! `kubectl create token`: a token for a service account.

use clap::Args;
use serde_json::{Value, json};

use crate::age;
use crate::env::{Env, print_line};
use crate::error::{Error, Result};
use crate::output::{Format, OutputArgs};
use crate::selection::Target;

/// Request a service account token
#[derive(Args)]
pub(crate) struct TokenArgs {
    name: String,
    /// Audiences of the token, may be repeated
    #[arg(long)]
    audience: Vec<String>,
    /// Life time to ask for
    #[arg(long)]
    duration: Option<String>,
    /// Pod, Secret or Node to bind the token to
    #[arg(long)]
    bound_object_kind: Option<String>,
    #[arg(long)]
    bound_object_name: Option<String>,
    #[arg(long)]
    bound_object_uid: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(env: &Env, args: TokenArgs) -> Result<()> {
    let row = env.resource("serviceaccounts").await?;
    let target = Target::new(env, row, &args.name);
    let mut spec = json!({});
    if !args.audience.is_empty() {
        spec["audiences"] = json!(args.audience);
    }
    if let Some(text) = &args.duration {
        let duration = age::parse(text)?;
        if duration.is_zero() || duration.subsec_nanos() != 0 {
            return Err(Error::message("--duration must be positive and in whole seconds"));
        }
        spec["expirationSeconds"] = json!(duration.as_secs());
    }
    if let Some(kind) = &args.bound_object_kind {
        let Some(name) = &args.bound_object_name else {
            return Err(Error::message("--bound-object-name is required if --bound-object-kind is provided"));
        };
        spec["boundObjectRef"] = json!({"kind": kind, "apiVersion": "v1", "name": name});
        if let Some(uid) = &args.bound_object_uid {
            spec["boundObjectRef"]["uid"] = json!(uid);
        }
    }
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let answer = env.rest().await?.post(&target.sub_path("token"), &request).await;
    let answer: Value = answer.map_err(|error| match error.api() {
        Some(api) => Error::message(format!("failed to create token: {api}")),
        None => error,
    })?;
    let Some(token) = answer["status"]["token"].as_str().filter(|token| !token.is_empty()) else {
        return Err(Error::message("failed to create token: no token in server response"));
    };
    match args.output.format()? {
        Format::Human { .. } => print_line(token),
        format => crate::env::print(&format.text(&answer, true, false)?),
    }
}
