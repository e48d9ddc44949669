//! What each part asks of the machine, in order, and that none waits for another.

use std::net::Ipv4Addr;
use std::path::Path;

use parking_lot::Mutex;

use super::*;
use crate::config::Config;
use crate::forward::Forwarding;
use crate::pod_network::PodNetwork;
use crate::routes::Routes;
use crate::testing::RecordingHost;

fn peer(number: u8, cidr: bool) -> Peer {
    Peer {
        name: format!("node{number}"),
        pod_cidr: cidr.then(|| format!("10.42.{number}.0/24")),
        address: Some(Ipv4Addr::new(192, 0, 2, number).into()),
        created: None,
    }
}

fn config(folder: &Path) -> Config {
    Config {
        node_name: "node1".to_string(),
        network_name: "net".to_string(),
        bridge: "bridge".to_string(),
        table: "table".to_string(),
        cluster_cidr: "10.42.0.0/16".to_string(),
        cni_conf_dir: folder.join("cni"),
        state_dir: folder.join("state"),
    }
}

fn has_cni(folder: &Path) -> bool {
    folder.join("cni/10-net.conflist").exists()
}

#[tokio::test]
async fn the_runtime_is_told_of_the_network_last() {
    let folder = tempfile::tempdir().unwrap();
    let host = Arc::new(RecordingHost::default());
    let mut part = PodNetwork { host: host.clone(), config: config(folder.path()), applied: None };
    part.reconcile(&[peer(1, false), peer(2, true)]).await.unwrap();
    assert_eq!(host.journal(), Vec::<String>::new(), "there is no range yet");
    host.fail("nft -f", 1);
    assert!(part.reconcile(&[peer(1, true)]).await.is_err());
    let forwarding = "/proc/sys/net/ipv4/ip_forward";
    let begun = [format!("read {forwarding}"), format!("write {forwarding} 1")];
    assert_eq!(host.journal(), [&begun[..], &["nft list tables".into(), "nft -f -".into()]].concat());
    assert!(!has_cni(folder.path()), "without masquerading no pod is to start");
    assert!(folder.path().join("state/forwarding-was-off").exists());
    part.reconcile(&[peer(1, true)]).await.unwrap();
    assert_eq!(host.journal(), [format!("read {forwarding}"), "nft -f -".to_string()]);
    assert!(has_cni(folder.path()));
    part.reconcile(&[peer(1, true)]).await.unwrap();
    assert_eq!(host.journal(), Vec::<String>::new(), "once is enough");
}

#[tokio::test]
async fn one_node_that_cannot_be_reached_keeps_no_other_from_being() {
    let folder = tempfile::tempdir().unwrap();
    let host = Arc::new(RecordingHost::default());
    let mut part = Routes::new(host.clone(), &config(folder.path()));
    host.fail("route 10.42.2.0/24", 1);
    let peers = [peer(1, true), peer(2, true), peer(3, true)];
    assert!(part.reconcile(&peers).await.is_err());
    assert_eq!(host.journal(), ["route 10.42.2.0/24 via 192.0.2.2", "route 10.42.3.0/24 via 192.0.2.3"]);
    part.reconcile(&peers).await.unwrap();
    assert_eq!(host.journal(), ["route 10.42.2.0/24 via 192.0.2.2"]);
    // A later start takes back what an earlier one has made, and only then forgets it.
    let mut later = Routes::new(host.clone(), &config(folder.path()));
    host.fail("no route", 1);
    assert!(later.reconcile(&peers[..2]).await.is_err());
    later.reconcile(&peers[..2]).await.unwrap();
    let removal = "no route 10.42.3.0/24 via 192.0.2.3";
    assert_eq!(host.journal(), [removal, removal, "route 10.42.2.0/24 via 192.0.2.2"]);
}

#[tokio::test(start_paused = true)]
async fn each_part_fails_alone_and_is_tried_again_ever_later() {
    let folder = tempfile::tempdir().unwrap();
    let filter = ":FORWARD DROP [0:0]\n".to_string();
    let host = Arc::new(RecordingHost::with_filter(filter));
    host.fail("nft", usize::MAX);
    host.fail("iptables-restore", 2);
    let changed = Arc::new(Notify::new());
    let peers = || vec![peer(1, true), peer(2, true)];
    let config = config(folder.path());
    let pod_network = PodNetwork { host: host.clone(), config: config.clone(), applied: None };
    let forwarding = Forwarding { host: host.clone(), config: config.clone() };
    let routes = Routes::new(host.clone(), &config);
    let all = futures::future::join3(
        keep(pod_network, peers, changed.clone()),
        keep(forwarding, peers, Arc::default()),
        keep(routes, peers, Arc::default()),
    );
    let _ = tokio::time::timeout(Duration::from_secs(16), all).await;
    let journal = host.journal();
    let count = |start: &str| journal.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(count("route 10.42.2.0/24"), 1, "routes are set: {journal:#?}");
    // At 0, 1 and 3 s; the third has worked, and the next look is a minute later.
    assert_eq!(count("iptables-restore"), 3, "{journal:#?}");
    // At 0, 1, 3, 7 and 15 s.
    assert_eq!(count("nft list tables"), 5, "{journal:#?}");
}

#[tokio::test(start_paused = true)]
async fn what_others_may_undo_is_looked_at_every_minute_and_the_rest_on_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let host = Arc::new(RecordingHost::default());
    let config = config(folder.path());
    let changed = Arc::new(Notify::new());
    let known = Arc::new(Mutex::new(vec![peer(1, true)]));
    let peers = || known.lock().clone();
    let all = futures::future::join(
        keep(Forwarding { host: host.clone(), config: config.clone() }, peers, Arc::default()),
        keep(Routes::new(host.clone(), &config), peers, changed.clone()),
    );
    let mut all = Box::pin(all);
    let _ = tokio::time::timeout(Duration::from_secs(150), all.as_mut()).await;
    assert_eq!(host.journal(), ["iptables-save -t filter"; 3]);
    known.lock().push(peer(2, true));
    changed.notify_one();
    let _ = tokio::time::timeout(Duration::from_secs(1), all.as_mut()).await;
    assert_eq!(host.journal(), ["route 10.42.2.0/24 via 192.0.2.2"]);
}
