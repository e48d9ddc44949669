//! `minik8s snapshot save | list | status | restore | delete | prune | rotate-key`.
//!
//! Saving asks the running server; everything else works on files, and on the S3-compatible store that flags,
//! environment or the server's configuration file name.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use agent::admin::ask;
use agent::command::{DEFAULT_CONFIG, finish, print_line, run_to_end};
use agent::flags::{self, Stop};
use agent::instance::DEFAULT_DATA_DIR;
use agent::problem::chain;
use agent::{Instance, Problem};
use clap::{Args, Command, FromArgMatches, Subcommand};
use embedded_store::snapshot as file;

use crate::admin::{Request, unreached};
use crate::secrets;
use crate::snapshot::{
    Client, S3Args, SaveRequest, Saved, Secret, check_name, default_folder, fresh_name, list, prune, remove,
    seal_key,
};

mod restore;

use restore::restore;
pub(super) use restore::{Given, sealed_keys};

#[derive(Args, Clone, Debug)]
struct SnapshotArgs {
    #[command(subcommand)]
    verb: Verb,
    /// The server's data directory
    #[arg(long, short = 'd', global = true, env = "MINIK8S_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// Where snapshots are kept [default: DATA/server/snapshots]
    #[arg(long, global = true, env = "MINIK8S_SNAPSHOT_DIR", value_name = "DIR", visible_alias = "dir")]
    snapshot_dir: Option<PathBuf>,
    /// The server's configuration file, for the settings that are the snapshots' [default:
    /// /etc/minik8s/config.yaml]
    #[arg(long, global = true, env = "MINIK8S_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    s3: S3Args,
}

#[derive(Subcommand, Clone, Debug)]
enum Verb {
    /// Save a snapshot of the running server
    Save {
        /// Where to; without it, under a name of its own in the folder of snapshots
        file: Option<PathBuf>,
        /// Seal the cluster's keys with the first line of this file instead of the data directory's seal key
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// List the snapshots that are kept
    List,
    /// Print hash, revision, number of keys and size
    Status {
        file: PathBuf,
        /// simple, table or json
        #[arg(long, short = 'w', value_name = "FORMAT", default_value = "simple", value_parser = ["simple", "table", "json"])]
        write_out: String,
    },
    /// Make a data directory from a snapshot, also from one of etcd's
    Restore {
        /// A file or, with --snapshot-s3, the name of a snapshot there
        file: PathBuf,
        /// Seal key of the server that saved it [default: those in the data directory]
        #[arg(long, env = "MINIK8S_SEAL_KEY", value_name = "KEY", hide_env_values = true)]
        seal_key: Option<String>,
        /// Token of the server that saved it, for snapshots from before there were seal keys
        #[arg(long, short = 't', env = "MINIK8S_TOKEN", value_name = "TOKEN", hide_env_values = true)]
        token: Option<String>,
        /// File whose first line is the passphrase it was sealed with
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Delete snapshots by name
    Delete {
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Delete all but the newest
    Prune {
        /// How many to keep
        #[arg(long, value_name = "N")]
        keep: usize,
    },
    /// Seal from now on with a new key, and print it; the old ones stay in the file, for the snapshots that
    /// they have sealed
    RotateKey,
}

/// The command's description, for parsing, help and completion.
pub fn clap_command(name: &'static str) -> Command {
    SnapshotArgs::augment_args(Command::new(name))
        .about("Save, list, inspect, restore and delete snapshots of a server")
}

/// Runs `minik8s snapshot`.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let command = clap_command("minik8s snapshot");
    let server = crate::args::clap_command("minik8s server");
    let parsed = flags::parse_part(command, &server, arguments, Path::new(DEFAULT_CONFIG));
    let outcome = parsed.and_then(|matches| {
        let arguments =
            SnapshotArgs::from_arg_matches(&matches).map_err(|error| Problem::plain(error.to_string()))?;
        run(arguments).map_err(Stop::from)
    });
    finish("minik8s snapshot", outcome)
}

fn run(arguments: SnapshotArgs) -> Result<(), Problem> {
    let instance = Instance::of(&arguments.data_dir)?;
    let SnapshotArgs { verb, snapshot_dir, s3, .. } = arguments;
    let folder = snapshot_dir.unwrap_or_else(|| default_folder(&instance));
    match verb {
        Verb::Save { file, passphrase_file } => {
            let place = file.or_else(|| arguments_folder_file(&folder, &instance));
            run_to_end(save(&instance, place, passphrase_file.as_deref(), s3))
        }
        Verb::List => run_to_end(print_list(&folder, &s3)),
        Verb::Status { file, write_out } => print_status(&file, &write_out),
        Verb::RotateKey => {
            let _ = seal_key(&instance)?;
            print_line(&secrets::rotate_seal_key(&instance)?)
        }
        Verb::Restore { file, seal_key, token, passphrase_file } => {
            let mut file = file;
            run_to_end(async {
                file = fetched(&instance, &file, &s3).await?;
                Ok(())
            })?;
            let given = Given { seal_key, token, passphrase_file };
            restore(&instance, &file, &given)
        }
        Verb::Delete { names } => run_to_end(delete(&folder, &names, &s3)),
        Verb::Prune { keep } => run_to_end(async {
            for name in prune(&folder, keep)? {
                print_line(&format!("deleted {name}"))?;
            }
            if let Some(client) = client(&s3)? {
                for name in client.prune(keep).await? {
                    print_line(&format!("deleted {}/{name}", client.target()))?;
                }
            }
            Ok(())
        }),
    }
}

fn client(s3: &S3Args) -> Result<Option<Client>, Problem> {
    s3.target()?.map(Client::new).transpose()
}

/// Deletes here and, if there is such a place, in S3; a name must be known in one of them.
async fn delete(folder: &Path, names: &[String], s3: &S3Args) -> Result<(), Problem> {
    let client = client(s3)?;
    for name in names {
        check_name(name, "delete")?;
        let is_here = folder.join(name).exists();
        if is_here || client.is_none() {
            remove(folder, name)?;
            print_line(&format!("deleted {name}"))?;
        }
        let Some(client) = &client else { continue };
        if is_here && !client.list().await?.iter().any(|object| object.name == *name) {
            continue;
        }
        client.delete(name).await?;
        print_line(&format!("deleted {}/{name}", client.target()))?;
    }
    Ok(())
}

/// The file to restore from: the one that is named, or a fresh copy of the one in S3.
async fn fetched(instance: &Instance, file: &Path, s3: &S3Args) -> Result<PathBuf, Problem> {
    let Some(client) = client(s3)? else { return Ok(file.to_path_buf()) };
    let name = file.to_string_lossy().into_owned();
    check_name(&name, "restore")?;
    let folder = default_folder(instance);
    agent::files::private_directory(instance.data_dir())?;
    agent::files::private_directory(&instance.server_dir())?;
    agent::files::private_directory(&folder)?;
    let path = folder.join(&name);
    client.download(&name, &path).await?;
    print_line(&format!("downloaded {}/{name} to {}", client.target(), path.display()))?;
    Ok(path)
}

/// A folder that the server does not know of is ours to name the file in.
fn arguments_folder_file(folder: &Path, instance: &Instance) -> Option<PathBuf> {
    (folder != default_folder(instance)).then(|| fresh_name(folder, jiff::Timestamp::now()))
}

fn first_line(path: &Path) -> Result<String, Problem> {
    let failed = |why: &dyn std::fmt::Display| {
        Problem::new(format!("read the passphrase from {}", path.display()), why, "correct --passphrase-file")
    };
    let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_string()),
        _ => Err(failed(&"its first line is empty")),
    }
}

/// Long enough for a large store on a slow disk and an upload to its time limit.
const SAVE_TIMEOUT: Duration = Duration::from_secs(3600);

async fn save(
    instance: &Instance,
    file: Option<PathBuf>,
    passphrase: Option<&Path>,
    mut s3: S3Args,
) -> Result<(), Problem> {
    let passphrase = passphrase.map(first_line).transpose()?;
    let absolute = |path: PathBuf| {
        std::path::absolute(&path)
            .map_err(|error| Problem::new(format!("save to {}", path.display()), error, "give another place"))
    };
    let path = file.map(absolute).transpose()?;
    s3.resolve()?;
    // Mistakes are told before anything is written.
    let s3 = s3.target()?.is_some().then_some(s3);
    let request = Request::SaveSnapshot(Box::new(SaveRequest { path, passphrase, s3 }));
    let saved: Saved = match ask(&instance.server_dir(), &request, SAVE_TIMEOUT).await {
        Ok(saved) => saved,
        Err(error) => return Err(unreached(instance, error).await),
    };
    print_line(&saved.path.display().to_string())?;
    if let Some(place) = &saved.uploaded {
        print_line(place)?;
    }
    let Saved { hash, revision, keys, size, .. } = saved;
    print_line(&format!("hash {hash:x}, revision {revision}, {keys} keys, {size} bytes"))?;
    match saved.secret {
        Secret::SealKey => print_line(&format!(
            "The cluster's keys in it are sealed: keep {} too, restoring needs it.",
            secrets::seal_key_file(instance).display()
        )),
        Secret::Passphrase => {
            print_line("The cluster's keys in it are sealed with your passphrase: restoring needs it.")
        }
    }
}

async fn print_list(folder: &Path, s3: &S3Args) -> Result<(), Problem> {
    let row = |name: &str, size: u64, created: &str, place: &str| {
        print_line(&format!("{name:<40} {size:>12}  {created:<20}  {place}"))
    };
    print_line(&format!("{:<40} {:>12}  {:<20}  LOCATION", "NAME", "SIZE", "CREATED"))?;
    for entry in list(folder)? {
        let created = jiff::Timestamp::try_from(entry.modified).unwrap_or_default();
        let place = format!("file://{}", folder.join(&entry.name).display());
        row(&entry.name, entry.size, &agent::status::collect::second(created), &place)?;
    }
    if let Some(client) = client(s3)? {
        for object in client.list().await? {
            let created = object.modified.parse().map(agent::status::collect::second);
            let created = created.unwrap_or(object.modified);
            row(&object.name, object.size, &created, &format!("{}/{}", client.target(), object.name))?;
        }
    }
    Ok(())
}

fn unusable(path: &Path, error: &file::SnapshotError) -> Problem {
    Problem::new(format!("read the snapshot {}", path.display()), chain(error), "use another snapshot")
}

fn print_status(path: &Path, format: &str) -> Result<(), Problem> {
    let status = file::status(path).map_err(|error| unusable(path, &error))?;
    let (hash, size) = (format!("{:x}", status.hash), human_size(status.total_size));
    match format {
        "json" => {
            let status = serde_json::json!({"hash": status.hash, "revision": status.revision,
                "totalKey": status.total_keys, "totalSize": status.total_size});
            print_line(&status.to_string())
        }
        "table" => {
            let (revision, keys) = (status.revision.to_string(), status.total_keys.to_string());
            let head = ["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE"];
            let cells = [hash, revision, keys, size];
            let widths: Vec<usize> = head.iter().zip(&cells).map(|(a, b)| a.len().max(b.len())).collect();
            let rule: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect();
            let head: String =
                head.iter().zip(&widths).map(|(cell, width)| format!("| {cell:^width$} ")).collect();
            let cells: String =
                cells.iter().zip(&widths).map(|(cell, width)| format!("| {cell:>width$} ")).collect();
            print_line(&format!("{rule}+\n{head}|\n{rule}+\n{cells}|\n{rule}+"))
        }
        _ => print_line(&format!("{hash}, {}, {}, {size}", status.revision, status.total_keys)),
    }
}

/// As etcdctl prints sizes: in decimal units, rounded to one digit after the point and then, from 10 on, to
/// none.
fn human_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    if unit == "B" || value >= 10.0 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests;
