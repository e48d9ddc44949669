//! Snapshots by the clock: when, where, and how many are kept. On by default.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use agent::status::collect::second;
use agent::{Instance, Problem, VERSION, files};
use croner::Cron;
use jiff::Zoned;
use supervisor::{Clock, OnExit, Stage};

use super::{SaveRequest, Saver, default_folder, list, prune};

/// What the flags say.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// None: no snapshots by the clock.
    cron: Option<Cron>,
    /// As it was given.
    pub(crate) text: String,
    pub(crate) keep: usize,
    pub(crate) folder: PathBuf,
}

impl Schedule {
    /// `cron` has five fields in the machine's time zone, or is `off`.
    pub(crate) fn new(
        cron: &str,
        keep: usize,
        folder: Option<PathBuf>,
        instance: &Instance,
    ) -> Result<Self, Problem> {
        let advice = "give --snapshot-schedule-cron five fields, such as \"0 */12 * * *\", or off";
        let text = cron.to_string();
        let cron = match cron {
            "off" => None,
            text => Some(
                Cron::from_str(text)
                    .map_err(|error| Problem::new(format!("save snapshots at {text:?}"), error, advice))?,
            ),
        };
        if keep == 0 {
            let advice = "give --snapshot-retention 1 or more, or --snapshot-schedule-cron off";
            return Err(Problem::new("keep snapshots", "none would be kept", advice));
        }
        Ok(Schedule { cron, text, keep, folder: folder.unwrap_or_else(|| default_folder(instance)) })
    }

    /// The time of the next one.
    pub(crate) fn next(&self) -> Option<String> {
        let due = self.cron.as_ref()?.find_next_occurrence(&Zoned::now(), false).ok()?;
        Some(second(due.timestamp()))
    }
}

/// A new server has objects worth keeping after this time.
const FIRST_AFTER: Duration = Duration::from_secs(300);

/// How long after the start there is to be a snapshot whatever the schedule says: at once if another version
/// ran before, for a way back from this one; soon if there is none at all. `noted` is the version that ran
/// last.
fn first_after(noted: Option<&str>, has_any: bool) -> Option<Duration> {
    match noted {
        Some(before) if before != VERSION => Some(Duration::ZERO),
        _ => (!has_any).then_some(FIRST_AFTER),
    }
}

/// Saves what [`first_after`] asks for, and notes the version.
async fn save_first(schedule: &Schedule, saver: &Saver) {
    let note = saver.instance.server_dir().join("version");
    let noted = files::read(&note).ok().flatten();
    let noted = noted.as_deref().map(str::trim);
    let has_any = list(&schedule.folder).is_ok_and(|all| !all.is_empty());
    let after = first_after(noted, has_any);
    if let Some(after) = after {
        tokio::time::sleep(after).await;
        match save_and_prune(schedule, saver).await {
            Ok(_) => {
                tracing::info!(before = noted, now = VERSION, "the first snapshot of this version is saved")
            }
            // The next start tries again.
            Err(problem) => return tracing::debug!(%problem, "first snapshot"),
        }
    }
    if noted != Some(VERSION)
        && let Err(problem) = files::write(&note, VERSION.as_bytes(), 0o600)
    {
        tracing::warn!(%problem, "the version is not noted: the next start saves a snapshot");
    }
}

/// Saves and prunes as the schedule says, until the stage stops.
pub(crate) fn start(schedule: Schedule, saver: Saver, stage: &Stage) {
    let Some(cron) = schedule.cron.clone() else { return };
    let mut clock = stage.clock();
    let (first_schedule, first_saver) = (schedule.clone(), saver.clone());
    stage.spawn_cancellable("first snapshot", OnExit::Done, async move {
        save_first(&first_schedule, &first_saver).await;
    });
    stage.spawn_cancellable("snapshots", OnExit::Done, async move {
        while wait_for_turn(&cron, &mut clock).await {
            match save_and_prune(&schedule, &saver).await {
                Ok(removed) => tracing::info!(removed, "snapshot is saved"),
                // What failed is told where it is noted for the status.
                Err(problem) => tracing::debug!(%problem, "snapshot by schedule"),
            }
        }
    });
}

/// Returns how many old ones were removed.
async fn save_and_prune(schedule: &Schedule, saver: &Saver) -> Result<usize, Problem> {
    saver.save(SaveRequest::default()).await?;
    let (folder, keep) = (schedule.folder.clone(), schedule.keep);
    let pruned = tokio::task::spawn_blocking(move || prune(&folder, keep)).await;
    let pruned = pruned.map_err(|error| Problem::new("remove old snapshots", error, "see the log"));
    let mut removed = warned(pruned.and_then(|outcome| outcome));
    if let Some(client) = &saver.upload {
        removed += warned(client.prune(client.target().retention).await);
    }
    Ok(removed)
}

fn warned(outcome: Result<Vec<String>, Problem>) -> usize {
    match outcome {
        Ok(names) => names.len(),
        Err(problem) => {
            tracing::warn!(%problem, "old snapshots stay");
            0
        }
    }
}

/// Returns at the next time of the schedule; false if there is none. If the clock is set back, what is next
/// is asked anew: else there would be no snapshot until it has caught up.
async fn wait_for_turn(cron: &Cron, clock: &mut Clock) -> bool {
    let mut from = Zoned::now();
    loop {
        let now = Zoned::now();
        if now < from {
            from = now.clone();
        }
        let Ok(due) = cron.find_next_occurrence(&from, false) else { return false };
        if now >= due {
            return true;
        }
        clock.sleep_towards(due.timestamp().as_second()).await;
    }
}

#[cfg(test)]
mod tests;
