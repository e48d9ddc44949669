//! `kubectl kustomize`: prints what a kustomization comes to, or writes it to a file or a directory.

use std::path::Path;

use clap::Args;

use crate::env;
use crate::error::{Error, Result};
use crate::kustomize::{self, Object, Options};
use crate::output::yaml::to_yaml;

/// Build a kustomization target from a directory or URL
#[derive(Args)]
pub(crate) struct KustomizeArgs {
    /// The directory with the kustomization; the present one if it is left out
    directories: Vec<String>,
    /// Write the output to this file, or into this directory, a file an object
    #[arg(short = 'o', long)]
    output: Option<String>,
    /// With LoadRestrictionsNone files may be outside of the kustomization's directory
    #[arg(long, default_value = ROOT_ONLY)]
    load_restrictor: String,
    /// Order of the output: legacy or none (deprecated: use sortOptions in kustomization.yaml)
    #[arg(long, hide_short_help = true)]
    reorder: Option<String>,
    /// Inflate Helm charts (not offered: run "helm template")
    #[arg(long)]
    enable_helm: bool,
    /// Path of the helm program
    #[arg(long, default_value = "helm", hide_short_help = true)]
    helm_command: String,
    /// API versions for charts
    #[arg(long, hide_short_help = true)]
    helm_api_versions: Vec<String>,
    /// Version of Kubernetes for charts
    #[arg(long, default_value = "", hide_short_help = true)]
    helm_kube_version: String,
    /// Debug output of charts
    #[arg(long, hide_short_help = true)]
    helm_debug: bool,
    /// Add app.kubernetes.io/managed-by (deprecated: use buildMetadata)
    #[arg(
        long,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_short_help = true
    )]
    enable_managedby_label: Option<bool>,
    /// Run plugins (not offered)
    #[arg(long, hide_short_help = true)]
    enable_alpha_plugins: bool,
    /// Environment variables of functions
    #[arg(short = 'e', long, hide_short_help = true)]
    env: Vec<String>,
    /// Storage of functions
    #[arg(long, hide_short_help = true)]
    mount: Vec<String>,
    /// Network access of functions
    #[arg(long, hide_short_help = true)]
    network: bool,
    /// The network of functions
    #[arg(long, default_value = "bridge", hide_short_help = true)]
    network_name: String,
    /// The user of functions
    #[arg(long, hide_short_help = true)]
    as_current_user: bool,
}

const ROOT_ONLY: &str = "LoadRestrictionsRootOnly";
const UNRESTRICTED: &str = "LoadRestrictionsNone";

pub(crate) fn run(args: &KustomizeArgs) -> Result<()> {
    if args.reorder.is_some() {
        env::tell(
            "Flag --reorder has been deprecated, use the new 'sortOptions' field in kustomization.yaml instead.",
        );
    }
    if args.enable_managedby_label.is_some() {
        env::tell(
            "Flag --enable-managedby-label has been deprecated, The flag `enable-managedby-label` has been deprecated. Use the `managedByLabel` option in the `buildMetadata` field instead.",
        );
    }
    let directory = match &args.directories[..] {
        [] => ".",
        [one] => one.as_str(),
        _ => return Err(Error::message("specify one path to kustomization.yaml")),
    };
    let objects = kustomize::build(directory, &options(args)?, env::tell)?;
    match &args.output {
        Some(path) if Path::new(path).is_dir() => write_each(Path::new(path), &objects),
        Some(path) if !path.is_empty() => write(Path::new(path), &joined(&objects)),
        _ => env::print(&joined(&objects)),
    }
}

fn options(args: &KustomizeArgs) -> Result<Options> {
    let unrestricted = match args.load_restrictor.as_str() {
        UNRESTRICTED => true,
        ROOT_ONLY | "" => false,
        other => {
            return Err(Error::message(format!(
                "illegal flag value --load-restrictor {other}; legal values: [{ROOT_ONLY} {UNRESTRICTED}]"
            )));
        }
    };
    let reorder = match args.reorder.as_deref() {
        None => None,
        Some("legacy") => Some(true),
        Some("none") => Some(false),
        Some(other) => {
            return Err(Error::message(format!(
                "illegal flag value --reorder {other}; legal values: [legacy none]"
            )));
        }
    };
    if args.enable_alpha_plugins {
        return Err(Error::message(
            "--enable-alpha-plugins is not offered: this kubectl runs no programs or containers for a kustomization",
        ));
    }
    let by_variable = || std::env::var("KUSTOMIZE_ENABLE_MANAGEDBY_LABEL").is_ok_and(|value| value == "on");
    let managed_by = args.enable_managedby_label == Some(true) || by_variable();
    Ok(Options { unrestricted, reorder, enable_helm: args.enable_helm, managed_by })
}

fn joined(objects: &[Object]) -> String {
    let documents: Vec<String> = objects.iter().map(|object| to_yaml(&object.tree)).collect();
    documents.join("---\n")
}

/// A file an object; with the namespace in the name if there are several.
fn write_each(directory: &Path, objects: &[Object]) -> Result<()> {
    let mut namespaces: Vec<&str> = objects.iter().filter_map(Object::namespace).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    for object in objects {
        write(&directory.join(object.file_name(namespaces.len() > 1)), &to_yaml(&object.tree))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| Error::message(format!("open {}: {error}", path.display())))
}
