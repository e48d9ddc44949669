//! The log back-end: one event a line, into a file that is rotated by size, with what is old removed by age
//! and number, or to standard output.
//!
//! A rotation that fails is reported, and the file goes on growing: no event is lost for that.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// In which form an event is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Json,
    /// One line for people.
    Legacy,
}

/// Where and how events are logged.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// `-` is standard output.
    pub path: PathBuf,
    pub format: LogFormat,
    /// Days that rotated files are kept; 0: for ever.
    pub max_age: u32,
    /// Rotated files that are kept; 0: all.
    pub max_backups: usize,
    /// MiB after which the file is rotated; 0: never.
    pub max_size: u64,
    /// Rotated files are compressed.
    pub compress: bool,
}

/// The file that is written to.
pub(super) struct LogFile {
    options: LogOptions,
    open: Option<(File, u64)>,
}

const MEGABYTE: u64 = 1 << 20;
const STAMP: &str = "%Y-%m-%dT%H-%M-%S%.3f";

impl LogFile {
    /// Opens the file: a server that cannot write its audit log does not start.
    pub(super) fn new(options: LogOptions) -> io::Result<LogFile> {
        let mut log = LogFile { options, open: None };
        log.reopen()?;
        Ok(log)
    }

    fn is_standard_output(&self) -> bool {
        self.options.path == Path::new("-")
    }

    fn reopen(&mut self) -> io::Result<()> {
        if self.is_standard_output() {
            return Ok(());
        }
        let path = &self.options.path;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let size = file.metadata()?.len();
        self.open = Some((file, size));
        Ok(())
    }

    /// Writes some events, whole lines each.
    pub(super) fn write(&mut self, events: &[Vec<u8>]) -> io::Result<()> {
        let mut lines = Vec::with_capacity(events.iter().map(|event| event.len() + 1).sum());
        for event in events {
            lines.extend_from_slice(event);
            lines.push(b'\n');
        }
        if self.is_standard_output() {
            return io::stdout().lock().write_all(&lines);
        }
        let length = lines.len() as u64;
        let most = self.options.max_size * MEGABYTE;
        if most > 0 && self.open.as_ref().is_some_and(|(_, size)| *size > 0 && size + length > most) {
            self.rotate();
        }
        if self.open.is_none() {
            self.reopen()?;
        }
        let Some((file, size)) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(error) = file.write_all(&lines) {
            // Opened again next time: its file system may be another by then.
            self.open = None;
            return Err(error);
        }
        *size += length;
        Ok(())
    }

    /// `audit-2026-11-28T17-55-00.000.log` beside `audit.log`.
    fn rotate(&mut self) {
        let stamp = Timestamp::now().strftime(STAMP).to_string();
        let path = &self.options.path;
        let (stem, ending) = name_parts(path);
        let renamed = path.with_file_name(format!("{stem}-{stamp}{ending}"));
        match fs::rename(path, &renamed) {
            Ok(()) => {}
            // Somebody has taken it away. What is written to it from now on would be nobody's to read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.open = None;
                return;
            }
            Err(error) => {
                tracing::error!(%error, file = %path.display(), "the audit log cannot be rotated");
                return;
            }
        }
        self.open = None;
        let options = self.options.clone();
        // What is old is not worth waiting for: events go on meanwhile.
        let tidying = std::thread::Builder::new().name("audit-log-rotation".to_string()).spawn(move || {
            if let Err(error) = tidy(&options) {
                tracing::error!(%error, "rotated audit logs cannot be compressed or removed");
            }
        });
        if let Err(error) = tidying {
            tracing::error!(%error, "rotated audit logs are not looked after");
        }
    }
}

/// Removes rotated files that are too many or too old, and compresses the others if that is wanted.
pub(super) fn tidy(options: &LogOptions) -> io::Result<()> {
    let (stem, ending) = name_parts(&options.path);
    let folder = match options.path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut rotated: Vec<(DateTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(at) = rotated_at(&entry.file_name().to_string_lossy(), &stem, &ending) {
            rotated.push((at, entry.path()));
        }
    }
    rotated.sort();
    let too_many = match options.max_backups {
        0 => 0,
        most => rotated.len().saturating_sub(most),
    };
    let oldest = match options.max_age {
        0 => None,
        days => {
            let age = SignedDuration::from_hours(24 * i64::from(days));
            Timestamp::now().checked_sub(age).ok().map(|at| at.to_zoned(TimeZone::UTC).datetime())
        }
    };
    for (index, (at, path)) in rotated.iter().enumerate() {
        if index < too_many || oldest.is_some_and(|oldest| *at < oldest) {
            fs::remove_file(path)?;
        } else if options.compress && path.extension().is_none_or(|ending| ending != "gz") {
            compress(path)?;
        }
    }
    Ok(())
}

/// When a file of this name was rotated; none if it is no such file.
fn rotated_at(name: &str, stem: &str, ending: &str) -> Option<DateTime> {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let stamp = name.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(ending)?;
    DateTime::strptime("%Y-%m-%dT%H-%M-%S%.f", stamp).ok()
}

/// Under its new name only when it is whole.
fn compress(path: &Path) -> io::Result<()> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (unfinished, finished) = (with(".gz.tmp"), with(".gz"));
    let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&unfinished)?;
    let mut encoder = GzEncoder::new(file, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    fs::rename(&unfinished, finished)?;
    fs::remove_file(path)
}

/// `audit` and `.log`.
fn name_parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let ending = text(path.extension());
    let ending = if ending.is_empty() { ending } else { format!(".{ending}") };
    (text(path.file_stem()), ending)
}

#[cfg(test)]
mod tests;
