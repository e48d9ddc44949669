//! Three servers under faults in random order, with clients that write, read and watch all the time:
//! partitions, also of one direction, kill -9, SIGSTOP and clean stops, sometimes of two servers at once.
//! For half a minute, or an hour with `MINIK8S_LONG=1`. A failure names the seed; `MINIK8S_SEED` repeats its
//! faults, though not their timing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use minik8s_tests::{Network, SmallDisk, eventually, run};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::checker::{History, Operation, Seen, Watched, check};
use super::machines::{LIMIT, Server};

const KEYS: usize = 4;
const CLIENTS: usize = 3;
const REPLICAS: usize = 8;
/// The value that watches end with.
const LAST: &str = "last";

/// Numbers without a pattern, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).expect("a small number")
    }

    fn millis(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_millis((from + self.roll(to - from)) as u64)
    }
}

/// What clients need: where they are, and who they are.
struct Site {
    network: Arc<Network>,
    urls: Vec<String>,
    folder: std::path::PathBuf,
    stop: AtomicBool,
    history: Mutex<History>,
    services: AtomicUsize,
}

impl Site {
    fn new(network: &Arc<Network>, servers: &[Server]) -> Arc<Site> {
        let folder = servers[0].folder.path().to_path_buf();
        let kubeconfig = fs::read_to_string(servers[0].data_dir().join("server/kubeconfig.yaml")).unwrap();
        for (field, name) in [
            ("certificate-authority-data", "ca"),
            ("client-certificate-data", "crt"),
            ("client-key-data", "key"),
        ] {
            let line = kubeconfig.lines().find_map(|line| line.trim().strip_prefix(field)).expect("a field");
            let decoded = base64::engine::general_purpose::STANDARD.decode(line.trim_matches([':', ' ']));
            fs::write(folder.join(name), decoded.expect("base64")).unwrap();
        }
        Arc::new(Site {
            network: network.clone(),
            urls: servers.iter().map(Server::url).collect(),
            folder,
            stop: AtomicBool::new(false),
            history: Mutex::default(),
            services: AtomicUsize::new(0),
        })
    }

    fn curl(&self) -> std::process::Command {
        let mut command = self.network.command(0, "curl".as_ref());
        for (flag, name) in [("--cacert", "ca"), ("--cert", "crt"), ("--key", "key")] {
            command.arg(flag).arg(self.folder.join(name));
        }
        command.args(["-sS", "-H", "Content-Type: application/json"]);
        command
    }

    /// What a server answers, and whether it says that this may be old; none if that is not known.
    fn call(&self, server: usize, method: &str, path: &str, body: &str) -> Option<(u16, bool, Value)> {
        let mut command = self.curl();
        command.args(["--max-time", "4", "-i", "-X", method]).arg(format!("{}{path}", self.urls[server]));
        if !body.is_empty() {
            command.args(["--data-binary", "@-"]);
        }
        let outcome = run(&mut command, body);
        let (head, content) = outcome.stdout.split_once("\r\n\r\n").filter(|_| outcome.success)?;
        let code = head.split_whitespace().nth(1)?.parse().ok()?;
        let warned = head.lines().any(|line| line.to_ascii_lowercase().starts_with("warning:"));
        Some((code, warned, serde_json::from_str(content).ok()?))
    }

    fn path(key: usize) -> String {
        format!("/api/v1/namespaces/default/configmaps/key-{key}")
    }

    fn read(&self, server: usize, key: usize) -> Option<(Seen, Value)> {
        let began = Instant::now();
        let (code, warned, object) = self.call(server, "GET", &Self::path(key), "")?;
        let seen = (code == 200).then(|| Seen::of(&object))??;
        if !warned {
            self.note(Operation { key, began, ended: Instant::now(), seen: seen.clone(), base: None });
        }
        Some((seen, object))
    }

    fn note(&self, operation: Operation) {
        self.history.lock().unwrap().operations.push(operation);
    }

    /// One read, and one write upon it that nobody else may have come before.
    fn turn(&self, dice: &mut Dice, client: usize, number: usize) {
        let (key, server) = (dice.roll(KEYS), dice.roll(self.urls.len()));
        let Some((base, mut object)) = self.read(server, key) else { return };
        let value = format!("{client}-{number}");
        object["data"]["value"] = json!(value);
        let (server, began) = (dice.roll(self.urls.len()), Instant::now());
        let answer = self.call(server, "PUT", &Self::path(key), &object.to_string());
        if let Some((200, _, object)) = answer {
            let seen = Seen::of(&object).expect("a version");
            assert_eq!(seen.value, value);
            self.note(Operation { key, began, ended: Instant::now(), seen, base: Some(base.revision) });
        }
        if number.is_multiple_of(5) {
            let body = json!({
                "metadata": {"generateName": "load-"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]},
            });
            let created = self.call(server, "POST", "/api/v1/namespaces/default/services", &body.to_string());
            if created.is_some_and(|(code, ..)| code == 201) {
                self.services.fetch_add(1, Ordering::Relaxed);
            }
        }
        if number.is_multiple_of(7) {
            let pods = "/api/v1/namespaces/default/pods";
            let listed = self.call(server, "GET", &format!("{pods}?limit=1"), "");
            if let Some(name) =
                listed.and_then(|(.., list)| Some(list["items"][0]["metadata"]["name"].as_str()?.to_string()))
            {
                let _ = self.call(server, "DELETE", &format!("{pods}/{name}"), "");
            }
        }
    }

    /// Follows all keys at one server from a revision on until a value comes. Returns what it has seen.
    fn follow(&self, server: usize, mut revision: u64) -> Watched {
        let mut watched = Watched::default();
        loop {
            let (more, expired) = self.watch_once(server, revision);
            watched.seen.extend(more);
            revision = watched.seen.last().map_or(revision, |(_, seen)| seen.revision.max(revision));
            if watched.seen.last().is_some_and(|(_, seen)| seen.value == LAST) {
                return watched;
            }
            // It comes back.
            let list = eventually("the server answers", Duration::from_secs(600), || {
                let path = "/api/v1/namespaces/default/configmaps?labelSelector=faults";
                let answer = self.call(server, "GET", path, "");
                answer.filter(|(code, ..)| *code == 200).map(|(.., list)| list).ok_or("no answer")
            });
            if expired {
                let now = list["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
                let now: u64 = now.expect("a version");
                watched.breaks.push((revision, now));
                revision = now;
                let items = list["items"].as_array().expect("items");
                if items.iter().filter_map(Seen::of).any(|seen| seen.value == LAST) {
                    return watched;
                }
            }
        }
    }

    /// One watch until it ends: what it has shown, and whether the server no longer has what is asked for.
    fn watch_once(&self, server: usize, revision: u64) -> (Vec<(usize, Seen)>, bool) {
        let query = format!("watch=1&labelSelector=faults&resourceVersion={revision}&timeoutSeconds=3600");
        let url = format!("{}/api/v1/namespaces/default/configmaps?{query}", self.urls[server]);
        let mut command = self.curl();
        command.args(["-N", "--connect-timeout", "2"]).arg(url);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("curl");
        let (mut seen, mut expired) = (Vec::new(), false);
        for line in BufReader::new(child.stdout.take().expect("its output")).lines() {
            // A line that a crash has cut short is no event.
            let Some(event) = line.ok().and_then(|line| serde_json::from_str::<Value>(&line).ok()) else {
                break;
            };
            let Some(now) = Seen::of(&event["object"]) else {
                expired = event["object"]["code"] == 410 || event["code"] == 410;
                break;
            };
            let name = event["object"]["metadata"]["name"].as_str().expect("a name");
            let done = now.value == LAST;
            seen.push((name.trim_start_matches("key-").parse().expect("a number"), now));
            if done {
                break;
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        (seen, expired)
    }
}

/// One fault, and how it ends.
fn fault(dice: &mut Dice, servers: &mut [Server], wait: &mpsc::Receiver<()>) {
    let network = servers[0].network.clone();
    let one = dice.roll(servers.len());
    let others: Vec<String> = servers
        .iter()
        .filter(|other| other.end != servers[one].end)
        .map(|other| other.address.clone())
        .collect();
    let length = dice.millis(300, 4000);
    let kind = dice.roll(6);
    eprintln!("fault {kind} of {} for {length:?}", servers[one].name);
    // Nobody sends anything: it is a pause.
    let pause = || {
        let _ = wait.recv_timeout(length);
    };
    match kind {
        // It is cut off.
        0 => network.deafen(servers[one].end, &others),
        // It hears one of the others no more, which hears it.
        1 => network.deafen(servers[one].end, &others[..1]),
        2 => servers[one].pause(true),
        3 => servers[one].signal(Signal::SIGKILL),
        4 => servers[one].signal(Signal::SIGTERM),
        // Two at once: there is no majority.
        _ => {
            let other = (one + 1) % servers.len();
            servers[one].pause(true);
            servers[other].signal(Signal::SIGKILL);
            pause();
            servers[one].pause(false);
            servers[other].spawn();
            return;
        }
    }
    pause();
    match kind {
        0 | 1 => network.heal(servers[one].end),
        2 => servers[one].pause(false),
        _ => servers[one].spawn(),
    }
}

fn three() -> (Arc<Network>, Vec<Server>) {
    let network = Arc::new(Network::star(3));
    let mut servers = Vec::new();
    for end in 1..=3 {
        servers.push(Server::at(&network, end));
        start(&mut servers);
    }
    (network, servers)
}

/// Starts the last one, which joins the first.
fn start(servers: &mut [Server]) {
    let first = (servers[0].url(), (servers.len() > 1).then(|| servers[0].token()));
    let last = servers.last_mut().expect("a server");
    if let (url, Some(token)) = first {
        last.flags = ["--server", &url, "--token", &token].map(str::to_string).to_vec();
    }
    last.spawn();
    last.wait();
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order_under_faults() {
    let long = std::env::var_os("MINIK8S_LONG").is_some_and(|long| long == "1");
    let time = Duration::from_secs(if long { 3600 } else { 30 });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let given = std::env::var("MINIK8S_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or(u64::try_from(now % u128::from(u64::MAX)).unwrap() | 1);
    eprintln!("MINIK8S_SEED={seed}");
    let (network, mut servers) = three();
    let site = Site::new(&network, &servers);
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "set"},
        "spec": {"replicas": REPLICAS, "selector": {"matchLabels": {"app": "set"}}, "template": {
            "metadata": {"labels": {"app": "set"}},
            "spec": {"containers": [{"name": "a", "image": "none"}]},
        }},
    });
    servers[0].kubectl(&["create", "-f", "-"], &deployment.to_string()).ok();
    let mut revision = 0;
    for key in 0..KEYS {
        let body = json!({
            "metadata": {"name": format!("key-{key}"), "labels": {"faults": "1"}}, "data": {"value": "first"},
        });
        let (code, _, object) = site
            .call(0, "POST", "/api/v1/namespaces/default/configmaps", &body.to_string())
            .expect("an answer");
        assert_eq!(code, 201, "{object}");
        let seen = Seen::of(&object).expect("a version");
        revision = seen.revision;
        site.history.lock().unwrap().first.push(seen);
    }
    let watching: Vec<JoinHandle<_>> = (0..servers.len())
        .map(|server| {
            let site = site.clone();
            std::thread::spawn(move || site.follow(server, revision))
        })
        .collect();
    let working: Vec<JoinHandle<()>> = (0..CLIENTS)
        .map(|client| {
            let site = site.clone();
            let mut dice = Dice(seed.wrapping_add(client as u64 + 1) | 1);
            std::thread::spawn(move || {
                (1..)
                    .take_while(|_| !site.stop.load(Ordering::Acquire))
                    .for_each(|number| site.turn(&mut dice, client, number));
            })
        })
        .collect();

    let mut dice = Dice(seed);
    let (_never, wait) = mpsc::channel();
    let began = Instant::now();
    while began.elapsed() < time {
        fault(&mut dice, &mut servers, &wait);
        let _ = wait.recv_timeout(dice.millis(200, 2500));
    }
    servers.iter_mut().for_each(Server::wait);
    site.stop.store(true, Ordering::Release);
    working.into_iter().for_each(|client| client.join().expect("a client"));
    // The end is a value that all watches wait for.
    let (_, mut object) = eventually("the key is read", LIMIT, || site.read(0, 0).ok_or("no answer"));
    object["data"]["value"] = json!(LAST);
    let (code, _, object) = site.call(1, "PUT", &Site::path(0), &object.to_string()).expect("an answer");
    assert_eq!(code, 200, "{object}");
    let watched: Vec<_> = watching.into_iter().map(|watch| watch.join().expect("a watch")).collect();
    let history = std::mem::take(&mut *site.history.lock().unwrap());
    let (reads, writes) = history.counts();
    eprintln!("{reads} reads, {writes} writes, {} versions watched", watched[0].seen.len());
    assert!(writes > 10 && reads > 20, "too little went through");
    if let Err(violation) = check(&history, &watched) {
        panic!("MINIK8S_SEED={seed}: {}", violation.0);
    }
    no_address_twice(&servers[0], site.services.load(Ordering::Relaxed));
    eventually("there are as many pods as wanted", LIMIT, || {
        let pods = servers[1].kubectl(&["get", "pods", "-l", "app=set", "-o", "json"], "").json();
        let pods = pods["items"].as_array().expect("pods");
        let live = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).count();
        if live == REPLICAS { Ok(()) } else { Err(format!("{live} pods")) }
    });
}

/// Every service has a cluster address and a node port of its own.
fn no_address_twice(server: &Server, acknowledged: usize) {
    let services = server.kubectl(&["get", "services", "-o", "json"], "").json();
    let services = services["items"].as_array().expect("services");
    let loads = services.iter().filter(|service| service["metadata"]["generateName"] == "load-").count();
    assert!(loads >= acknowledged, "{loads} of {acknowledged} services are there");
    for field in ["/spec/clusterIP", "/spec/ports/0/nodePort"] {
        let mut values: Vec<String> =
            services.iter().filter_map(|service| service.pointer(field)).map(Value::to_string).collect();
        let all = values.len();
        values.sort();
        values.dedup();
        assert_eq!(values.len(), all, "{field} is given out twice");
    }
}

#[test]
fn a_full_disk_of_one_stops_nobody_else() {
    let network = Arc::new(Network::star(3));
    let mut servers: Vec<Server> = Vec::new();
    let mut disks = Vec::new();
    for end in 1..=3 {
        servers.push(Server::at(&network, end));
        disks.push(SmallDisk::new(&servers[end - 1].data_dir(), 200));
        start(&mut servers);
    }
    let leads = |asked: &Server| -> Option<String> {
        let members = asked.members();
        let leader = members.iter().find(|member| member["role"] == "leader")?;
        Some(leader["name"].as_str()?.to_string())
    };
    let leader = eventually("somebody leads", LIMIT, || leads(&servers[0]).ok_or("nobody"));
    let full = servers.iter().position(|server| server.name == leader).expect("one of the servers");
    disks[full].fill(usize::MAX);
    let other = (full + 1) % 3;
    for number in 0..20 {
        eventually("writes go on", LIMIT, || {
            let outcome = servers[other].create(&format!("meanwhile-{number}"));
            if outcome.success || outcome.stderr.contains("already exists") { Ok(()) } else { Err(outcome) }
        });
    }
    disks[full].free();
    servers[full].signal(Signal::SIGKILL);
    servers[full].spawn();
    servers[full].wait();
    servers[full].kubectl(&["get", "configmap", "meanwhile-19"], "").ok();
    servers[full].created("afterwards");
    drop(servers);
    drop(disks);
}
