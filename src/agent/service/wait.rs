//! Waiting for a process that was started: until its own node is Ready, or until it is known that this does
//! not come.
//!
//! The process is asked itself, so what the API still has of the one before does not count.

use std::process::{Child, Command};
use std::time::Duration;

use tokio::time::Instant;

use super::{Keeper, LOG, log_hint};
use crate::status::ask_any;
use crate::status::report::Report;
use crate::{Instance, Problem, failure};

const POLL: Duration = Duration::from_millis(200);

/// What a look at the process tells.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Ready,
    /// And what it waits for, as far as it says.
    Waiting(Option<String>),
    /// It will not come by itself.
    Failed(String),
}

/// What was started.
#[derive(Debug, Default)]
pub(super) struct Started {
    /// Our own child, where no service manager started it.
    pub(super) child: Option<Child>,
    /// The process that ran before, which a service manager may not have stopped yet.
    pub(super) before: Option<u32>,
}

pub(super) async fn until_ready(
    instance: &Instance,
    keeper: &Keeper,
    mut started: Started,
    patience: Duration,
) -> Result<(), Problem> {
    let deadline = Instant::now() + patience;
    let mut last = None;
    loop {
        // Asked before the process is looked at: one that ends in between is seen to have failed.
        let ended = started.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))));
        match look(instance, keeper, started.before, ended).await {
            Progress::Ready => return Ok(()),
            Progress::Failed(why) => return Err(Problem::plain(why)),
            Progress::Waiting(why) => last = why.or(last),
        }
        if Instant::now() >= deadline {
            let why = last.unwrap_or_else(|| "it does not answer".to_string());
            let what = format!("become ready within {} s", patience.as_secs());
            return Err(Problem::new(
                what,
                why,
                format!("'minik8s status' tells more, or {}", log_hint(instance)),
            ));
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn look(instance: &Instance, keeper: &Keeper, before: Option<u32>, ended: bool) -> Progress {
    // What kept it from going on is noted once it has ended.
    if let Some(failure) = failure::last(instance) {
        return Progress::Failed(failure.why);
    }
    if let Ok(report) = ask_any(instance).await {
        return of_report(&report, before);
    }
    match keeper {
        Keeper::Background(_) if ended => Progress::Failed(last_line()),
        Keeper::Systemd(unit) if restarts(unit) > 0 => Progress::Failed(last_message(unit)),
        _ => Progress::Waiting(None),
    }
}

fn of_report(report: &Report, before: Option<u32>) -> Progress {
    if before.is_some() && report.pid == before {
        return Progress::Waiting(Some(format!("process {} has not stopped yet", report.pid.unwrap_or(0))));
    }
    if let Some(why) = &report.blocked {
        return Progress::Failed(why.clone());
    }
    let has_api = report.api.as_ref().is_some_and(|api| api.ready);
    let has_node = report.node.as_ref().is_none_or(|node| node.ready);
    if has_api && has_node && !report.starting {
        return Progress::Ready;
    }
    let first = report.problems.first();
    Progress::Waiting(first.map(|finding| format!("{}: {}", finding.what, finding.why)))
}

/// One that ends before it has the data directory says why in its log only.
fn last_line() -> String {
    let text = std::fs::read_to_string(LOG).unwrap_or_default();
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.map_or_else(|| format!("it ended without a word; see {LOG}"), str::to_string)
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string()).unwrap_or_default()
}

fn restarts(unit: &str) -> u32 {
    output("systemctl", &["show", unit, "-p", "NRestarts", "--value"]).parse().unwrap_or(0)
}

fn last_message(unit: &str) -> String {
    let said = output("journalctl", &["-u", unit, "-t", "minik8s", "-n", "1", "-o", "cat"]);
    if said.is_empty() { format!("it ended; see 'journalctl -u {unit}'") } else { said }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::report::{Api, Finding, Node};

    fn report(api: bool, node: Option<bool>, starting: bool) -> Report {
        Report {
            api: Some(Api { ready: api, ..Api::default() }),
            node: node.map(|ready| Node { ready, ..Node::default() }),
            starting,
            ..Report::default()
        }
    }

    #[test]
    fn a_process_is_ready_with_its_node() {
        assert_eq!(of_report(&report(true, Some(true), false), None), Progress::Ready);
        assert_eq!(of_report(&report(true, None, false), None), Progress::Ready, "no node is to run");
        for waiting in
            [report(true, Some(false), false), report(false, Some(true), false), report(true, None, true)]
        {
            assert_eq!(of_report(&waiting, None), Progress::Waiting(None));
        }
        let old = Report { pid: Some(7), ..report(true, Some(true), false) };
        assert_ne!(of_report(&old, Some(7)), Progress::Ready, "the process of before the restart");
        assert_eq!(of_report(&old, Some(6)), Progress::Ready);
        let blocked = Report { blocked: Some("node two exists".into()), ..report(false, None, true) };
        assert_eq!(of_report(&blocked, None), Progress::Failed("node two exists".into()));
        let mut waiting = report(false, None, true);
        waiting.problems.push(Finding::new("it has not joined", "connection refused", "check"));
        assert_eq!(
            of_report(&waiting, None),
            Progress::Waiting(Some("it has not joined: connection refused".into()))
        );
    }

    #[tokio::test]
    async fn a_process_that_has_failed_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let instance = Instance::of(folder.path()).unwrap();
        let why = Problem::new("join https://x:6443", "node two exists", "delete it");
        failure::note(&instance, &Err(why.clone()));
        let outcome =
            until_ready(&instance, &Keeper::Nobody, Started::default(), Duration::from_secs(60)).await;
        assert_eq!(outcome, Err(why));
        failure::forget(&instance);
        let outcome =
            until_ready(&instance, &Keeper::Nobody, Started::default(), Duration::from_millis(1)).await;
        assert!(outcome.unwrap_err().to_string().contains("it does not answer"));
    }
}
