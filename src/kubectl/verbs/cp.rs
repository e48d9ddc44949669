//! `kubectl cp`: `tar` in the container, and an archive between here and there.
//!
//! Archives are read and written on a thread of their own, piece by piece. From a container nothing is
//! written outside of the destination, and no link is made.

mod archive;

use bytes::Bytes;
use clap::Args;
use serde_json::Value;
use tokio::sync::mpsc;

use client::ObjectRef;
use client::https::path_of;

use crate::env::{Env, tell};
use crate::error::{Error, Result};
use crate::paths::clean;
use crate::pods;
use crate::remote::{self, Output, Session};
use crate::verbs::exec::{Request, refuse_ended};
use archive::{Pieces, Sender, base, pack, parent, unpack};

/// Pieces of an archive that wait for whoever is slower.
const PIECES: usize = 16;

/// Copy files and directories to and from containers
#[derive(Args)]
pub(crate) struct CpArgs {
    /// [[NAMESPACE/]POD:]PATH of what to copy, and of where
    files: Vec<String>,
    #[arg(short = 'c', long)]
    container: Option<String>,
    /// Do not keep owner and mode in the container
    #[arg(long)]
    no_preserve: bool,
    /// How often to go on after a failure when copying from a container; negative means for ever
    #[arg(long, default_value_t = 0)]
    retries: i64,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    namespace: Option<String>,
    /// None for this machine.
    pod: Option<String>,
    file: String,
}

fn place(text: &str) -> Result<Place> {
    let wrong = || Error::message("filespec must match the canonical format: [[namespace/]pod:]file/path");
    let Some((pod, file)) = text.split_once(':') else {
        return Ok(Place { namespace: None, pod: None, file: text.to_string() });
    };
    let (namespace, pod) = match pod.split('/').collect::<Vec<_>>()[..] {
        [""] => return Err(wrong()),
        [pod] => (None, pod),
        [namespace, pod] => (Some(namespace.to_string()), pod),
        _ => return Err(wrong()),
    };
    Ok(Place { namespace, pod: Some(pod.to_string()), file: file.to_string() })
}

pub(crate) async fn run(env: &Env, args: CpArgs) -> Result<()> {
    let [from, to] = &args.files[..] else {
        return Err(Error::message("source and destination are required"));
    };
    let (from, to) = (place(from)?, place(to)?);
    if from.pod.is_some() && to.pod.is_some() {
        return Err(Error::message("one of src or dest must be a local file specification"));
    }
    if from.file.is_empty() || to.file.is_empty() {
        return Err(Error::message("filepath can not be empty"));
    }
    match (&from.pod, &to.pod) {
        (Some(_), _) => Container::find(env, &args, &from).await?.read(&args, &from.file, &to.file).await,
        (_, Some(_)) => Container::find(env, &args, &to).await?.write(&args, &from.file, &to.file).await,
        _ => Err(Error::message("one of src or dest must be a remote file specification")),
    }
}

/// The container that is copied to or from.
struct Container<'a> {
    env: &'a Env,
    namespace: String,
    pod: String,
    name: String,
}

impl<'a> Container<'a> {
    async fn find(env: &'a Env, args: &CpArgs, place: &Place) -> Result<Container<'a>> {
        let namespace = place.namespace.clone().unwrap_or_else(|| env.namespace.clone());
        let name = place.pod.as_deref().unwrap_or_default();
        let path = path_of(&api::kinds::POD, ObjectRef::new(Some(&namespace), name));
        let pod: Value = env.rest().await?.get(&path).await?;
        refuse_ended(&pod, "exec into")?;
        let container = pods::container_of(&pod, args.container.as_deref(), false)?;
        Ok(Container { env, namespace, pod: name.to_string(), name: container })
    }

    async fn exec(&self, command: &[&str], session: Session<'_>) -> Result<()> {
        let command: Vec<String> = command.iter().map(ToString::to_string).collect();
        let request = Request {
            verb: "exec",
            namespace: &self.namespace,
            pod: &self.pod,
            container: &self.name,
            command: &command,
            stdin: session.input.is_some(),
            stderr: true,
            tty: false,
        };
        remote::run(self.env, &request.path(), session).await
    }

    async fn is_directory(&self, path: &str) -> Result<bool> {
        let request = Request {
            verb: "exec",
            namespace: &self.namespace,
            pod: &self.pod,
            container: &self.name,
            command: &["test".to_string(), "-d".to_string(), path.to_string()],
            stdin: false,
            stderr: true,
            tty: false,
        };
        let session = Session { input: None, output: Output::Nowhere, sizes: None, detach_keys: Vec::new() };
        let status = remote::status(self.env, &request.path(), session).await?;
        Ok(status.is_some_and(|status| status["status"] == "Success"))
    }

    /// Copies to the container.
    async fn write(&self, args: &CpArgs, from: &str, to: &str) -> Result<()> {
        if std::fs::metadata(from).is_err() {
            return Err(Error::message(format!("{from} doesn't exist in local filesystem")));
        }
        let to = clean(to);
        let to = if self.is_directory(&to).await? { clean(&format!("{to}/{}", base(from))) } else { to };
        let (sender, pieces) = mpsc::channel(PIECES);
        let (source, name) = (from.to_string(), base(&to).to_string());
        let packing = tokio::task::spawn_blocking(move || pack(source.as_ref(), &name, Sender(sender)));
        let mut command = vec!["tar"];
        if args.no_preserve {
            command.extend(["--no-same-permissions", "--no-same-owner"]);
        }
        let folder = parent(&to);
        command.extend(["-xmf", "-"]);
        if !folder.is_empty() {
            command.extend(["-C", folder]);
        }
        let input = Some(Box::new(Pieces::new(pieces)) as Box<_>);
        let session = Session { input, output: Output::Own, sizes: None, detach_keys: Vec::new() };
        let extracted = self.exec(&command, session).await;
        // Why the archive is not whole says more than that tar did not like it.
        match packing.await {
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => extracted,
        }
    }

    /// Copies from the container.
    async fn read(&self, args: &CpArgs, from: &str, to: &str) -> Result<()> {
        let source = clean(from);
        let stripped = source.trim_start_matches('/');
        let mut prefix = stripped;
        while let Some(rest) = prefix.strip_prefix("../") {
            prefix = rest;
        }
        let prefix = if matches!(prefix, ".." | ".") { "" } else { prefix };
        let (sender, pieces) = mpsc::channel::<Bytes>(PIECES);
        let hint =
            format!("kubectl exec -n {:?} {:?} -- tar cf - {from:?} | tar xf -", self.namespace, self.pod);
        let (prefix, target) = (prefix.to_string(), to.to_string());
        let unpacking = tokio::task::spawn_blocking(move || unpack(pieces, &prefix, target.as_ref(), &hint));
        let done = self.fetch(args, from, sender).await;
        let unpacked = unpacking.await.map_err(|error| Error::message(error.to_string()))?;
        done.and(unpacked.map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => Error::message(error.to_string()),
            _ => error.into(),
        }))
    }

    /// Reads the archive, from where it broke off if that is wanted.
    async fn fetch(&self, args: &CpArgs, from: &str, sender: mpsc::Sender<Bytes>) -> Result<()> {
        let (mut count, mut tries) = (0_u64, 0);
        loop {
            let quoted = from.replace('\'', "'\\''");
            let resumed = format!("tar cf - '{quoted}' | tail -c+{}", count + 1);
            let command =
                if args.retries == 0 { vec!["tar", "cf", "-", from] } else { vec!["sh", "-c", &resumed] };
            let done = self.fetch_once(&command, &sender, &mut count).await;
            match done {
                Err(error) if args.retries < 0 || tries < args.retries => {
                    tries += 1;
                    tell(&error.to_string());
                    let limit = args.retries;
                    crate::env::print_line(&format!(
                        "Resuming copy at {count} bytes, retry {tries}/{limit}"
                    ))?;
                }
                done => return done,
            }
        }
    }

    async fn fetch_once(
        &self,
        command: &[&str],
        sender: &mpsc::Sender<Bytes>,
        count: &mut u64,
    ) -> Result<()> {
        let output = Output::Pieces { taker: sender, count };
        let session = Session { input: None, output, sizes: None, detach_keys: Vec::new() };
        self.exec(command, session).await
    }
}

#[cfg(test)]
mod tests;
