//! Measurements of a node of fakes, and the forms they are shown in.

use client::Informers;
use serde_json::{Value, json};

use super::interfaces::{Traffic, default_of, parse};
use super::*;
use crate::testing::{TestNode, containers, pod};

/// A node with a running pod `p` of the containers `a` and `b`.
async fn start() -> (TestNode, Stats) {
    let node = TestNode::new();
    let mut spec = json!({"containers": containers(&["a", "b"]), "volumes": [{"name": "v", "emptyDir": {}}]});
    spec["containers"][0]["resources"] = json!({"limits": {"cpu": "500m", "memory": "64Mi"}});
    node.run(&pod(spec));
    node.until("status Running, ready").await;
    let pods = Informers::new(node.api.clone(), node.agent.stage.clone()).of();
    crate::testing::until("the pod is known", || pods.get(Some("ns"), "p").is_some(), String::new).await;
    let stats = node.service(pods).stats;
    (node, stats)
}

fn use_of(cpu: u64, memory: u64) -> CgroupUsage {
    CgroupUsage { cpu, memory, working_set: memory / 2, processes: 3, ..CgroupUsage::default() }
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_there_at_the_first_question() {
    let (node, stats) = start().await;
    node.runtime.used.lock().insert("a".to_string(), (1_000_000_000, 4096));
    let growing = node.runtime.clone();
    node.agent.stage.spawn_cancellable("load", supervisor::OnExit::Done, async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        growing.used.lock().insert("a".to_string(), (1_250_000_000, 8192));
    });
    let measured = stats.measure(everybody).await.unwrap();
    let one = measured.pods[0].containers.iter().find(|one| one.name == "a").unwrap();
    assert_eq!(one.cpu.used, 1_250_000_000);
    let rate = one.cpu.rate.unwrap();
    assert!((240_000_000..=250_000_000).contains(&rate), "a quarter of a core, not {rate}");
    assert_eq!(one.memory.working_set, 8192);
    // Asked again at once, nothing is waited for, and the rate holds.
    let before = Instant::now();
    let again = stats.measure(everybody).await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(again.pods[0].containers.iter().find(|one| one.name == "a").unwrap().cpu.rate, Some(rate));
    // An old measurement makes no rate of now.
    tokio::time::advance(RECENT).await;
    let before = Instant::now();
    stats.measure(everybody).await.unwrap();
    assert_eq!(before.elapsed(), APART);
}

/// The evictor measures for itself, whether or not anybody asks for rates.
#[tokio::test(start_paused = true)]
async fn what_is_no_longer_measured_is_forgotten() {
    let (_node, stats) = start().await;
    stats.rates.lock().add("a container that has gone", 1, Instant::now());
    tokio::time::advance(RECENT).await;
    stats.measure_once(everybody).await.unwrap();
    let rates = stats.rates.lock();
    assert!(!rates.known.contains_key("a container that has gone"));
    assert!(rates.known.contains_key(NODE));
}

#[tokio::test(start_paused = true)]
async fn the_summary_has_upstreams_form() {
    let (node, stats) = start().await;
    let pod_cgroup = stats.cgroups.path_of(&stats.pods.get("ns", "p").unwrap());
    node.host.used.lock().insert(pod_cgroup, use_of(5_000, 4096));
    node.host.used.lock().insert(String::new(), use_of(9_000, 0));
    let volume = "/data/pods/u/volumes/kubernetes.io~empty-dir/v";
    node.host.taken.lock().insert(volume.into(), TreeUsage { bytes: 700, inodes: 2 });
    node.host.taken.lock().insert("/logs/ns_p_u".into(), TreeUsage { bytes: 50, inodes: 1 });
    let disk = Disk { total: 1000, usable: 900, available: 300, inodes: 10, inodes_free: 4 };
    *node.host.disk.lock() = Some(disk);
    let measured = stats.measure(everybody).await.unwrap();
    let value = summary::of(&measured, "n", stats.settings.started, false);
    assert_eq!(value["node"]["nodeName"], "n");
    assert_eq!(value["node"]["cpu"]["usageCoreNanoSeconds"], 9_000);
    assert_eq!(value["node"]["fs"]["usedBytes"], 600);
    assert_eq!(value["node"]["runtime"]["imageFs"]["capacityBytes"], 1000);
    let shown = &value["pods"][0];
    assert_eq!(shown["podRef"], json!({"name": "p", "namespace": "ns", "uid": "u"}));
    assert_eq!(shown["memory"]["workingSetBytes"], 2048);
    assert_eq!((&shown["volume"][0]["name"], &shown["volume"][0]["usedBytes"]), (&json!("v"), &json!(700)));
    assert_eq!(shown["ephemeral-storage"]["usedBytes"], 750);
    assert_eq!(shown["process_stats"]["process_count"], 3);
    let names: Vec<&Value> = shown["containers"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names.len(), 2);
    let brief = summary::of(&measured, "n", stats.settings.started, true);
    assert!(brief["node"]["fs"].is_null() && brief["pods"][0]["ephemeral-storage"].is_null());
}

#[tokio::test(start_paused = true)]
async fn metrics_have_the_names_that_are_looked_for() {
    let (node, stats) = start().await;
    node.runtime.used.lock().insert("a".to_string(), (1_500_000_000, 4096));
    let measured = stats.measure_once(nobody).await.unwrap();
    let at = measured.at.as_millisecond();
    let text = resource::of(&measured);
    let labels = "container=\"a\",namespace=\"ns\",pod=\"p\"";
    assert!(text.contains(&format!("container_cpu_usage_seconds_total{{{labels}}} 1.5 {at}\n")), "{text}");
    assert!(text.contains(&format!("container_memory_working_set_bytes{{{labels}}} 4096 {at}\n")), "{text}");
    assert!(text.contains("\nnode_cpu_usage_seconds_total ") && text.contains("\nresource_scrape_error 0\n"));
    let text = cadvisor::of(&measured);
    let quota = text.lines().find(|line| line.starts_with("container_spec_cpu_quota{container=\"a\""));
    assert!(quota.is_some_and(|line| line.contains(" 50000 ")), "{text}");
    // Each metric is described once, before its values.
    let described: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let mut once = described.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(described.len(), once.len());
}

#[test]
fn interfaces_are_read_from_the_kernels_tables() {
    let text = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
        lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n  \
        eth0: 5000 50 1 2 0 0 0 0 7000 70 3 4 0 0 0 0\n";
    let found = parse(text);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].name, "eth0");
    assert_eq!(found[0].received, Traffic { bytes: 5000, packets: 50, errors: 1, dropped: 2 });
    assert_eq!(found[0].sent, Traffic { bytes: 7000, packets: 70, errors: 3, dropped: 4 });
    let routes = "Iface\tDestination\tGateway\neth1\t0002000A\t00000000\neth0\t00000000\t0102000A\n";
    assert_eq!(default_of(routes).as_deref(), Some("eth0"));
}
