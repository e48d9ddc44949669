//! `minik8s image import | list | rm`: the images of the node on this machine, which the running server or
//! agent is asked for.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Command, Subcommand};
use kubelet::OwnImage;
use serde::{Deserialize, Serialize};

use crate::admin::{AskError, ask};
use crate::command::{print, print_line, run_command};
use crate::instance::DEFAULT_DATA_DIR;
use crate::node::kubelet_dir;
use crate::status::collect::NodeSource;
use crate::status::report::{ImageRequest, Request};
use crate::{Instance, Problem, service};

#[derive(Args, Clone, Debug)]
struct ImageArgs {
    #[command(subcommand)]
    verb: Verb,
    /// The instance whose node it is
    #[arg(long, short = 'd', global = true, env = "MINIK8S_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
}

#[derive(Subcommand, Clone, Debug)]
enum Verb {
    /// Import archives, as 'docker save' and skopeo write them, plain or packed by gzip or zstd; `-` reads
    /// one from standard input
    Import {
        #[arg(required = true, value_name = "FILE|-")]
        files: Vec<PathBuf>,
    },
    /// List the node's images
    #[command(visible_alias = "ls")]
    List,
    /// Remove images from the node
    #[command(name = "rm", visible_alias = "remove")]
    Remove {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ImageAnswer {
    /// Names of images.
    Imported(Vec<String>),
    List(Vec<OwnImage>),
    Removed,
}

/// Does it, in the process of the node.
pub async fn carry_out(request: ImageRequest, node: Option<&NodeSource>) -> Result<ImageAnswer, Problem> {
    let Some(node) = node else {
        let why = "there is no node in this process, or not yet";
        return Err(Problem::new(
            "look at images",
            why,
            "run this on a machine with a node, when it is Ready",
        ));
    };
    let images = node.images();
    match request {
        ImageRequest::Import(file) => {
            images.import(&file).await.map(ImageAnswer::Imported).map_err(|error| {
                let advice = "give an archive of 'docker save NAME' or 'skopeo copy'";
                Problem::new(format!("import {}", file.display()), error, advice)
            })
        }
        ImageRequest::List => images
            .list()
            .await
            .map(ImageAnswer::List)
            .map_err(|error| Problem::new("list the images", error, "see 'minik8s status'")),
        ImageRequest::Remove(name) => {
            images.remove(&name).await.map(|()| ImageAnswer::Removed).map_err(|error| {
                Problem::new(format!("remove {name}"), error, "see 'minik8s image list' for what there is")
            })
        }
    }
}

/// The command's description, for parsing, help and completion.
pub fn clap_command(name: &'static str) -> Command {
    ImageArgs::augment_args(Command::new(name)).about("Import, list and remove images of this machine's node")
}

/// Runs `minik8s image`.
pub fn main(arguments: &[OsString]) -> ExitCode {
    run_command(clap_command("minik8s image"), arguments, run)
}

async fn run(arguments: ImageArgs) -> Result<(), Problem> {
    let instance = Instance::of(&arguments.data_dir)?;
    match arguments.verb {
        Verb::Import { files } => {
            for file in files {
                import(&instance, &file).await?;
            }
            Ok(())
        }
        Verb::List => match ask_node(&instance, ImageRequest::List).await? {
            ImageAnswer::List(images) => print(&table(&images)),
            _ => Ok(()),
        },
        Verb::Remove { names } => {
            for name in names {
                ask_node(&instance, ImageRequest::Remove(name.clone())).await?;
                print_line(&format!("removed {name}"))?;
            }
            Ok(())
        }
    }
}

/// What is piped in goes into a file beside the kubelet's, which is removed again: archives are read from
/// their end.
async fn import(instance: &Instance, file: &Path) -> Result<(), Problem> {
    let failed =
        |error: std::io::Error| Problem::new(format!("import {}", file.display()), error, "check the file");
    let kept = kubelet_dir(instance).join(format!(".piped-{}.tar", std::process::id()));
    let outcome = async {
        let path = if file == Path::new("-") {
            let mut copy = File::options().write(true).create_new(true).open(&kept).map_err(failed)?;
            std::io::copy(&mut std::io::stdin(), &mut copy).map_err(failed)?;
            kept.clone()
        } else {
            file.canonicalize().map_err(failed)?
        };
        ask_node(instance, ImageRequest::Import(path)).await
    };
    let outcome = outcome.await;
    let _ = std::fs::remove_file(&kept);
    match outcome? {
        ImageAnswer::Imported(names) => {
            names.iter().try_for_each(|name| print_line(&format!("imported {name}")))
        }
        _ => Ok(()),
    }
}

/// Long enough for large archives on slow disks.
const TIMEOUT: Duration = Duration::from_secs(3600);

/// Asks the server of the data directory, else the agent.
async fn ask_node(instance: &Instance, request: ImageRequest) -> Result<ImageAnswer, Problem> {
    let request = Request::Images(request);
    let answer = match ask(&instance.server_dir(), &request, TIMEOUT).await {
        Err(AskError::NotRunning) => ask(&instance.agent_dir(), &request, TIMEOUT).await,
        answer => answer,
    };
    answer.map_err(|error| match error {
        AskError::Failed(why) => Problem::plain(why),
        error => {
            let what = format!("reach the node of {}", instance.data_dir().display());
            Problem::new(what, error, format!("{}, or run this as root", service::start_hint(instance)))
        }
    })
}

fn table(images: &[OwnImage]) -> String {
    let rows: Vec<(String, String, String)> = images
        .iter()
        .flat_map(|image| {
            let id = image.id.trim_start_matches("sha256:");
            let id: String = id.chars().take(12).collect();
            let size = format!("{:.1} MB", image.size as f64 / 1e6);
            image.names.iter().map(move |name| (name.clone(), id.clone(), size.clone()))
        })
        .collect();
    let width = rows.iter().map(|(name, ..)| name.len()).chain([4]).max().unwrap_or(4);
    let mut text = format!("{:<width$}  {:<12}  SIZE\n", "NAME", "ID");
    for (name, id, size) in rows {
        text.push_str(&format!("{name:<width$}  {id:<12}  {size}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_listed_by_every_name() {
        let image = OwnImage {
            names: vec!["docker.io/library/a:1".into(), "b:2".into()],
            id: "sha256:0123456789abcdef".into(),
            size: 1_250_000,
        };
        let wanted = "NAME                   ID            SIZE\n\
                      docker.io/library/a:1  0123456789ab  1.2 MB\n\
                      b:2                    0123456789ab  1.2 MB\n";
        assert_eq!(table(&[image]), wanted);
        assert_eq!(table(&[]), "NAME  ID            SIZE\n");
    }
}
