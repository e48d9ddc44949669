//! Who belongs where, waiting and giving up.

use api::Identity;
use futures::FutureExt;

use super::levels::Level;
use super::*;

fn request<'a>(user: &'a Identity, resource: &'a str, namespace: Option<&'a str>) -> Request<'a> {
    let group = if resource == "leases" { "coordination.k8s.io" } else { "" };
    Request { user, verb: "update", group, resource, subresource: None, namespace }
}

fn level(user: &Identity, resource: &str, namespace: Option<&str>) -> Option<Level> {
    classify(&request(user, resource, namespace)).map(|(level, _)| level)
}

#[test]
fn levels_are_upstreams() {
    let node = Identity::node("n");
    let account = Identity::service_account("kube-system", "dns");
    let other = Identity::service_account("default", "app");
    let scheduler = Identity::user("system:kube-scheduler", []);
    let table = [
        (&node, "leases", Some("kube-node-lease"), Level::NodeHigh),
        (&node, "nodes", None, Level::NodeHigh),
        (&node, "pods", Some("default"), Level::System),
        (&scheduler, "leases", Some("kube-system"), Level::LeaderElection),
        (&scheduler, "pods", Some("default"), Level::WorkloadHigh),
        (&account, "leases", Some("kube-system"), Level::LeaderElection),
        (&account, "services", Some("default"), Level::WorkloadHigh),
        (&other, "leases", Some("kube-system"), Level::WorkloadLow),
        (&other, "pods", Some("default"), Level::WorkloadLow),
        (&Identity::user("eve", []), "pods", Some("default"), Level::GlobalDefault),
        (&Identity::anonymous(), "", None, Level::GlobalDefault),
    ];
    for (user, resource, namespace, expected) in table {
        assert_eq!(level(user, resource, namespace), Some(expected), "{} {resource}", user.name);
    }
    let impostor = Identity { name: "system:node:n".into(), ..Identity::user("x", []) };
    assert_eq!(level(&impostor, "leases", Some("kube-node-lease")), Some(Level::GlobalDefault));
    assert_eq!(level(&Identity::user("admin", [api::identity::GROUP_MASTERS]), "pods", None), None);
}

#[test]
fn every_request_matches_a_schema_and_a_level_that_there_are() {
    use crate::registry::strategies::flow_control::objects;
    let schemas = objects::schemas();
    let account = Identity::service_account("kube-system", "dns");
    let users = [
        Identity::node("n"),
        account,
        Identity::service_account("default", "app"),
        Identity::user("system:kube-scheduler", []),
        Identity::user("system:kube-controller-manager", []),
        Identity::user("admin", [api::identity::GROUP_MASTERS]),
        Identity::anonymous(),
    ];
    for user in &users {
        for (resource, namespace) in [("leases", Some("kube-system")), ("nodes", None), ("pods", Some("a"))] {
            let names = request(user, resource, namespace).names();
            let (_, spec) = schemas.iter().find(|(name, _)| *name == names.schema).expect(names.schema);
            assert_eq!(spec["priorityLevelConfiguration"]["name"], names.level, "{names:?}");
        }
    }
}

fn fairness() -> Fairness {
    Fairness::new(&Limits { mutating_requests: 40, streams_per_user: 2, ..Limits::default() })
}

const WRITES: Kind = Kind::Writes { body: Some(100) };

#[tokio::test(start_paused = true)]
async fn a_user_who_floods_waits_and_leases_of_nodes_do_not() {
    let fairness = fairness();
    let (eve, node) = (Identity::user("eve", []), Identity::node("n"));
    let eves = request(&eve, "configmaps", Some("default"));
    let mut seats = Vec::new();
    while let Some(Ok(seat)) = fairness.admit(&eves, WRITES).now_or_never() {
        seats.push(seat);
    }
    assert_eq!(seats.len(), 10);
    let lease = request(&node, "leases", Some("kube-node-lease"));
    assert!(fairness.admit(&lease, WRITES).now_or_never().is_some_and(|seat| seat.is_ok()));
    let bob = Identity::user("bob", []);
    let bobs = request(&bob, "configmaps", Some("default"));
    assert!(fairness.admit(&bobs, WRITES).now_or_never().is_some_and(|seat| seat.is_ok()));
    let begun = tokio::time::Instant::now();
    let Err(refused) = fairness.admit(&eves, WRITES).await else { panic!("nothing was given back") };
    assert_eq!((refused.code(), refused.message()), (429, "Too many requests, please try again later."));
    assert_eq!(refused.status().details.as_ref().unwrap().retry_after_seconds, Some(1));
    assert_eq!(begun.elapsed().as_secs(), 15);
    let waiting = fairness.admit(&eves, WRITES);
    let (waited, ()) = tokio::join!(waiting, async { drop(seats.pop()) });
    assert!(waited.is_ok(), "a seat that is given back is the next one's");
}

#[tokio::test]
async fn who_gives_up_holds_nothing() {
    let fairness = fairness();
    let eve = Identity::user("eve", []);
    let eves = request(&eve, "configmaps", Some("default"));
    let wide = fairness.admit(&eves, Kind::Writes { body: None }).await.unwrap();
    {
        let mut waiting = std::pin::pin!(fairness.admit(&eves, WRITES));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(wide);
        // Its turn has come, but it does not look any more.
    }
    let all: Vec<Seat> = (0..10).map_while(|_| fairness.admit(&eves, WRITES).now_or_never()?.ok()).collect();
    assert_eq!(all.len(), 10);
}

#[tokio::test]
async fn components_of_the_server_take_turns_and_are_never_refused() {
    let fairness = fairness();
    let account = Identity::service_account("kube-system", "replicaset-controller");
    let pods = request(&account, "pods", Some("default"));
    let mut seats = Vec::new();
    while let Some(seat) = fairness.seat_in_process(&pods, 100).now_or_never() {
        seats.push(seat);
    }
    assert_eq!(seats.len(), 10, "as many as anybody's flow");
    let write = || async { drop(fairness.seat_in_process(&pods, 100).await) };
    let mut many = std::pin::pin!(futures::future::join_all((0..5000).map(|_| write())));
    assert!(many.as_mut().now_or_never().is_none(), "they wait");
    let bob = Identity::user("bob", []);
    let bobs = request(&bob, "configmaps", Some("default"));
    assert!(fairness.admit(&bobs, WRITES).now_or_never().is_some_and(|seat| seat.is_ok()));
    drop(seats);
    assert_eq!(many.await.len(), 5000, "and none is refused");
}

#[tokio::test]
async fn streams_are_bounded_by_user_and_take_no_seats() {
    let fairness = fairness();
    let (eve, admin) = (Identity::user("eve", []), Identity::user("admin", [api::identity::GROUP_MASTERS]));
    let eves = request(&eve, "pods", None);
    let first = fairness.admit(&eves, Kind::Endless).await.unwrap();
    let _second = fairness.admit(&eves, Kind::Endless).await.unwrap();
    assert_eq!(fairness.admit(&eves, Kind::Endless).await.err().unwrap().code(), 429);
    drop(first);
    assert!(fairness.admit(&eves, Kind::Endless).await.is_ok());
    let admins = request(&admin, "pods", None);
    let admins: Vec<_> = (0..5).map(|_| fairness.admit(&admins, Kind::Endless)).collect();
    assert!(futures::future::join_all(admins).await.iter().all(Result::is_ok));
}
