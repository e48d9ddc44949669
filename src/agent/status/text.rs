//! A report as text for people: what wants attention first, then either a line for each part or all that is
//! known of it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::report::{Api, Component, Etcd, Failure, Node, Report, Server, Snapshot, Snapshots, State, Store};

/// What one wants to know at a glance: ten lines if nothing is wrong.
pub(super) fn brief(report: &Report) -> String {
    let mut page = Page(String::new());
    page.state(report);
    page.attention(report);
    let rows = brief_rows(report);
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, text) in rows {
        page.line(&format!("{name:<width$}  {text}"));
    }
    page.servers(&report.servers);
    page.0
}

fn brief_rows(report: &Report) -> Vec<(&'static str, String)> {
    let running = match (report.pid, report.uptime_seconds) {
        (Some(pid), Some(seconds)) => format!(", process {pid} for {}", duration(seconds)),
        _ => String::new(),
    };
    let mut rows = vec![("version", format!("{}{running}", report.version))];
    if let Some(api) = &report.api {
        let place =
            api.advertised.as_ref().map_or_else(|| api.url.clone(), |place| format!("https://{place}"));
        let config =
            api.kubeconfig.as_ref().map_or(String::new(), |path| format!(", kubeconfig {}", path.display()));
        rows.push(("API", format!("{}{place}{config}", if api.ready { "" } else { "NOT READY: " })));
    }
    if let Some(cluster) = &report.cluster {
        rows.push(("nodes", format!("{} of {} Ready", cluster.nodes_ready, cluster.nodes)));
        rows.push(("pods", phases(&cluster.pods)));
    }
    if let Some(node) = &report.node {
        let ready = if node.ready { "Ready" } else { "NOT READY" };
        let pods =
            if report.cluster.is_some() { String::new() } else { format!(", pods: {}", phases(&node.pods)) };
        rows.push((
            "node",
            format!("{} ({}), {ready}, {}{pods}", node.name, addresses(node), node.runtime.version),
        ));
        if let Some(dns) = &node.dns {
            let answers = if dns.answers { "answers" } else { "DOES NOT ANSWER" };
            rows.push(("DNS", format!("{} {answers}", dns.address)));
        }
    }
    if let Some(store) = &report.store {
        let (used, quota, free) = (size(store.size_in_use), size(store.quota), size(store.free_on_disk));
        rows.push(("store", format!("{} keys, {used} of {quota}; {free} free on its disk", store.keys)));
    }
    if let Some(snapshots) = &report.snapshots {
        let last =
            snapshots.last.as_ref().map_or("none yet".to_string(), |last| format!("the last of {}", last.at));
        let next = snapshots.next.as_ref().map_or(String::new(), |next| format!(", the next at {next}"));
        rows.push((
            "snapshots",
            format!("{} in {}, {last}{next}", snapshots.count, snapshots.folder.display()),
        ));
    }
    if report.api.is_none() || report.store.is_none() {
        rows.push(("data", report.data_dir.display().to_string()));
    }
    rows.push(("more", "minik8s status --all".to_string()));
    rows
}

/// The whole page.
pub(super) fn all(report: &Report) -> String {
    let mut page = Page(String::new());
    page.head(report);
    if !report.problems.is_empty() {
        page.title("Attention");
    }
    page.attention(report);
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

    fn attention(&mut self, report: &Report) {
        for finding in &report.problems {
            self.line(&format!("- {}: {}; {}", finding.what, finding.why, finding.advice));
        }
    }

    fn state(&mut self, report: &Report) {
        let role = report.role.as_deref().unwrap_or("minik8s");
        let state = match report.state {
            State::Running if report.starting => "starting".to_string(),
            State::Running => "running".to_string(),
            State::Degraded => format!("running, {} to attend to", count(report.problems.len(), "thing")),
            State::Unresponsive => "does not answer".to_string(),
            State::Stopped => "not running".to_string(),
        };
        let _ = writeln!(self.0, "minik8s {role}: {state}");
    }

    fn head(&mut self, report: &Report) {
        self.state(report);
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
        if !snapshots.schedule.is_empty() {
            self.row("schedule", format!("{}, {} kept", snapshots.schedule, snapshots.retention));
        }
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
        self.row("name", format!("{} ({})", node.name, addresses(node)));
        self.row("ready", yes(node.ready));
        let conditions: Vec<String> =
            node.conditions.iter().map(|(kind, status)| format!("{kind}={status}")).collect();
        if !conditions.is_empty() {
            self.row("conditions", conditions.join(" "));
        }
        self.row("kubelet", format!("port {}", node.kubelet_port));
        self.row("pods", phases(&node.pods));
        if let Some(dns) = &node.dns {
            self.row("DNS", format!("{}, answers: {}", dns.address, yes(dns.answers)));
        }
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
        let width = components.iter().map(|one| one.name.len()).max().unwrap_or(0);
        for component in components {
            let running: usize = component.tasks.values().sum();
            let panicked: usize = component.panicked.values().sum();
            let broken = if panicked > 0 { format!(", {panicked} panicked") } else { String::new() };
            self.line(&format!("{:<width$}  {}{broken}", component.name, count(running, "task")));
        }
    }
}

fn phases(pods: &BTreeMap<String, usize>) -> String {
    let all: Vec<String> = pods.iter().map(|(phase, number)| format!("{number} {phase}")).collect();
    if all.is_empty() { "none".to_string() } else { all.join(", ") }
}

fn addresses(node: &Node) -> String {
    if node.addresses.is_empty() { "address unknown".to_string() } else { node.addresses.join(", ") }
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
