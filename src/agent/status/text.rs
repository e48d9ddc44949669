//! A report as text for people: what wants attention first, then part by part.

use std::fmt::Write;

use super::report::{Api, Component, Etcd, Failure, Node, Report, Server, Snapshot, Snapshots, State, Store};

/// The whole page.
pub(super) fn render(report: &Report) -> String {
    let mut page = Page(String::new());
    page.head(report);
    if !report.problems.is_empty() {
        page.title("Attention");
        for finding in &report.problems {
            page.line(&format!("- {}: {}; {}", finding.what, finding.why, finding.advice));
        }
    }
    report.api.iter().for_each(|api| page.api(api));
    report.store.iter().for_each(|store| page.store(store));
    page.servers(&report.servers);
    report.etcd.iter().for_each(|etcd| page.etcd(etcd));
    report.snapshots.iter().for_each(|snapshots| page.snapshots(snapshots));
    report.node.iter().for_each(|node| page.node(node));
    page.certificates(report);
    page.components(&report.components);
    page.0
}

struct Page(String);

impl Page {
    fn title(&mut self, title: &str) {
        let _ = writeln!(self.0, "\n{title}");
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.0, "  {text}");
    }

    fn row(&mut self, name: &str, text: impl std::fmt::Display) {
        let _ = writeln!(self.0, "  {name:<14}{text}");
    }

    fn head(&mut self, report: &Report) {
        let role = report.role.as_deref().unwrap_or("minik8s");
        let state = match report.state {
            State::Running => "running".to_string(),
            State::Degraded => format!("running, {} to attend to", count(report.problems.len(), "thing")),
            State::Unresponsive => "does not answer".to_string(),
            State::Stopped => "not running".to_string(),
        };
        let _ = writeln!(self.0, "minik8s {role}: {state}");
        self.row("version", &report.version);
        self.row("data", report.data_dir.display());
        if let Some(pid) = report.pid {
            self.row("process", pid);
        }
        if let (Some(at), Some(seconds)) = (&report.started_at, report.uptime_seconds) {
            self.row("started", format!("{at}, {} ago", duration(seconds)));
        }
    }

    fn api(&mut self, api: &Api) {
        self.title("API");
        self.row("url", &api.url);
        if let Some(advertised) = &api.advertised {
            self.row("advertised", advertised);
        }
        if let Some(path) = &api.kubeconfig {
            self.row("kubeconfig", path.display());
        }
        self.row("ready", yes(api.ready));
        for (name, ok) in &api.checks {
            self.line(&format!(
                "  [{}]{name} {}",
                if *ok { '+' } else { '-' },
                if *ok { "ok" } else { "failed" }
            ));
        }
    }

    fn store(&mut self, store: &Store) {
        self.title("Store");
        self.row("revision", format!("{} (compacted to {})", store.revision, store.compacted_revision));
        self.row(
            "keys",
            format!(
                "{} in {} of {} at most, {} watchers",
                store.keys,
                size(store.size_in_use),
                size(store.quota),
                store.watchers
            ),
        );
        self.row("on disk", format!("{}, {} of it log", size(store.size_on_disk), size(store.log_size)));
        let (free, reserve) = (size(store.free_on_disk), size(store.min_free_on_disk));
        self.row("free", format!("{free} (writes stop below {reserve})"));
        self.row("checkpoint", store.last_checkpoint.as_deref().unwrap_or("none yet"));
        let recovery = &store.recovery;
        self.row("last open", format!("{} replayed", count(recovery.replayed_records, "record")));
        for (what, told) in [("cut off", &recovery.torn_tail), ("rebuilt", &recovery.rebuilt)] {
            if let Some(told) = told {
                self.row(what, told);
            }
        }
        let alarms = if store.alarms.is_empty() { "none".to_string() } else { store.alarms.join(", ") };
        self.row("alarms", alarms);
    }

    fn servers(&mut self, servers: &[Server]) {
        if servers.is_empty() {
            return;
        }
        self.title("Servers");
        for line in servers_table(servers) {
            self.line(&line);
        }
    }

    fn etcd(&mut self, etcd: &Etcd) {
        self.title("etcd's API");
        match (&etcd.url, &etcd.off) {
            (Some(url), _) => self.row("url", url),
            (None, why) => self.row("off", why.as_deref().unwrap_or("by --etcd-listen off")),
        }
    }

    fn snapshots(&mut self, snapshots: &Snapshots) {
        self.title("Snapshots");
        self.row("schedule", format!("{}, {} kept", snapshots.schedule, snapshots.retention));
        self.row("folder", format!("{} ({} there)", snapshots.folder.display(), snapshots.count));
        self.row("last", snapshot(snapshots.last.as_ref()));
        self.row("next", snapshots.next.as_deref().unwrap_or("none"));
        self.failure("failed", snapshots.last_failure.as_ref());
        if let Some(target) = &snapshots.upload_to {
            self.row("upload to", target);
            self.row("last upload", snapshot(snapshots.last_upload.as_ref()));
            self.failure("upload failed", snapshots.last_upload_failure.as_ref());
        }
    }

    fn failure(&mut self, name: &str, failure: Option<&Failure>) {
        if let Some(failure) = failure {
            self.row(name, format!("{}: {}", failure.at, failure.why));
        }
    }

    fn node(&mut self, node: &Node) {
        self.title("Node");
        let addresses =
            if node.addresses.is_empty() { "address unknown".to_string() } else { node.addresses.join(", ") };
        self.row("name", format!("{} ({addresses})", node.name));
        self.row("ready", yes(node.ready));
        let conditions: Vec<String> =
            node.conditions.iter().map(|(kind, status)| format!("{kind}={status}")).collect();
        if !conditions.is_empty() {
            self.row("conditions", conditions.join(" "));
        }
        self.row("kubelet", format!("port {}", node.kubelet_port));
        let pods: Vec<String> = node.pods.iter().map(|(phase, number)| format!("{number} {phase}")).collect();
        self.row("pods", if pods.is_empty() { "none".to_string() } else { pods.join(", ") });
        let runtime = &node.runtime;
        let version = if runtime.version.is_empty() { "version unknown" } else { &runtime.version };
        let state = if runtime.answers { "running" } else { "does not answer" };
        let pid = runtime.pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
        self.row("runtime", format!("{version}, {state}{pid}"));
        self.row("", runtime.socket.display());
    }

    fn certificates(&mut self, report: &Report) {
        if report.certificates.is_empty() {
            return;
        }
        self.title("Certificates");
        let width = report.certificates.iter().map(|one| one.file.display().to_string().len()).max();
        for one in &report.certificates {
            let (file, width) = (one.file.display().to_string(), width.unwrap_or(0));
            let left = if one.days_left < 0 { "EXPIRED".to_string() } else { count(one.days_left, "day") };
            self.line(&format!("{file:<width$}  {}  {left:<10} {}", one.expires, one.subject));
        }
    }

    fn components(&mut self, components: &[Component]) {
        if components.is_empty() {
            return;
        }
        self.title("Components");
        for component in components {
            let running: usize = component.tasks.values().sum();
            let panicked: usize = component.panicked.values().sum();
            let broken = if panicked > 0 { format!(", {panicked} panicked") } else { String::new() };
            self.row(&component.name, format!("{}{broken}", count(running, "task")));
        }
    }
}

/// Servers as lines of a table.
pub fn servers_table(servers: &[Server]) -> Vec<String> {
    let line = |columns: [&str; 6]| {
        let [name, id, address, role, answers, behind] = columns;
        format!("{name:<20} {id:<16} {address:<24} {role:<8} {answers:<8} {behind}").trim_end().to_string()
    };
    let mut lines = vec![line(["NAME", "ID", "ADDRESS", "ROLE", "ANSWERS", "BEHIND"])];
    for server in servers {
        let answers = server.answers.map_or("?", yes);
        let behind = server.behind.map_or("?".to_string(), |records| records.to_string());
        lines.push(line([&server.name, &server.id, &server.address, &server.role, answers, &behind]));
    }
    lines
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "NO" }
}

fn count<N: std::fmt::Display>(number: N, what: &str) -> String {
    let number = number.to_string();
    let plural = if number == "1" { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn snapshot(snapshot: Option<&Snapshot>) -> String {
    match snapshot {
        Some(one) => format!("{} ({}, {})", one.name, one.at, size(one.size)),
        None => "none".to_string(),
    }
}

/// Three significant digits in binary units.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" || value >= 100.0 {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// The two largest units.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests;
