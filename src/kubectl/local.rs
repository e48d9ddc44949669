//! `--local`: what files say is changed and printed; no server is asked.

use std::sync::Arc;

use api::kinds::{self, KindRow, Scope};
use clap::Args;
use serde_json::Value;

use crate::change::{ChangeArgs, DryRun};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::manifest::{FileArgs, Manifest};
use crate::selection::{SelectorArgs, Target};

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct LocalArgs {
    /// Change what the files say and print it, without asking the server
    #[arg(long)]
    pub(crate) local: bool,
}

impl LocalArgs {
    /// Whether changes are only printed.
    pub(crate) fn only_prints(&self, change: &ChangeArgs) -> Result<bool> {
        Ok(self.local || change.mode()? == DryRun::Client)
    }
}

impl Env {
    /// As [`Env::targets`]; with `--local` only files count, and their kinds need not be known.
    pub(crate) async fn local_or_targets(
        &self,
        local: &LocalArgs,
        change: &ChangeArgs,
        resources: &[String],
        files: &FileArgs,
        selector: &SelectorArgs,
        all: bool,
    ) -> Result<Vec<Target>> {
        if !local.local {
            return self.targets(resources, files, selector, all).await;
        }
        if change.mode()? == DryRun::Server {
            return Err(Error::message(
                "cannot specify --local and --dry-run=server - did you mean --dry-run=client?",
            ));
        }
        self.local_targets(resources, files)
    }

    /// The objects of files, whose kinds need not be known.
    pub(crate) fn local_targets(&self, resources: &[String], files: &FileArgs) -> Result<Vec<Target>> {
        if !files.given() || !resources.is_empty() {
            return Err(Error::message(
                "you must specify resources by --filename when --local is set.\nExample resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'",
            ));
        }
        Ok(files.read()?.into_iter().map(of_file).collect())
    }

    /// The object to change: the server's, or with `--local` the file's.
    pub(crate) async fn present(&self, target: &Target, local: &LocalArgs) -> Result<Value> {
        match &target.manifest {
            Some(manifest) if local.local => Ok(manifest.object.clone()),
            _ => self.rest().await?.get(&target.path()).await,
        }
    }
}

fn of_file(manifest: Manifest) -> Target {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let object = &manifest.object;
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let row = kinds::by_kind(&version, &kind).cloned().unwrap_or_else(|| unknown(&version, &kind));
    let namespace = object["metadata"]["namespace"].as_str().map(str::to_string);
    let name = text(&object["metadata"]["name"]);
    Target { row: Arc::new(row), namespace, name, manifest: Some(manifest) }
}

/// A row for a kind of which only the name is known.
fn unknown(version: &str, kind: &str) -> KindRow {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let singular = kind.to_lowercase();
    KindRow {
        group: group.to_string().into(),
        version: version.to_string().into(),
        kind: kind.to_string().into(),
        plural: format!("{singular}s").into(),
        singular: singular.into(),
        scope: Scope::Namespaced,
        short_names: Vec::new().into(),
        categories: Vec::new().into(),
        verbs: Vec::new().into(),
        subresources: Vec::new().into(),
        storage: None,
        stored_as: None,
    }
}
