//! `kubectl annotate`.

use clap::Args;

use crate::env::Env;
use crate::error::Result;
use crate::metadata_change::{self, MetadataArgs, MetadataKind};

/// Update the annotations on a resource
#[derive(Args)]
pub(crate) struct AnnotateArgs {
    #[command(flatten)]
    common: MetadataArgs,
}

pub(crate) async fn run(env: &Env, args: AnnotateArgs) -> Result<()> {
    let what = MetadataKind {
        field: "annotations",
        noun: "annotation",
        done: "annotated",
        undone: "annotated",
        manager: "kubectl-annotate",
    };
    metadata_change::run(env, args.common, &what).await
}
