//! Snapshots by the clock: when, where, and how many are kept. On by default.

use std::path::PathBuf;
use std::str::FromStr;

use agent::status::collect::second;
use agent::{Instance, Problem};
use croner::Cron;
use jiff::Zoned;
use supervisor::{Clock, OnExit, Stage};

use super::{SaveRequest, Saver, default_folder, prune};

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

/// Saves and prunes as the schedule says, until the stage stops.
pub(crate) fn start(schedule: Schedule, saver: Saver, stage: &Stage) {
    let Some(cron) = schedule.cron.clone() else { return };
    let mut clock = stage.clock();
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
