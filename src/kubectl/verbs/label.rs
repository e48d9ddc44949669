//! `kubectl label`.

use clap::Args;

use crate::env::Env;
use crate::error::Result;
use crate::metadata_change::{self, MetadataArgs, MetadataKind};

/// Update the labels on a resource
#[derive(Args)]
pub(crate) struct LabelArgs {
    #[command(flatten)]
    common: MetadataArgs,
}

pub(crate) async fn run(env: &Env, args: LabelArgs) -> Result<()> {
    let what = MetadataKind {
        field: "labels",
        noun: "label",
        done: "labeled",
        undone: "unlabeled",
        manager: "kubectl-label",
    };
    metadata_change::run(env, args.common, &what).await
}
