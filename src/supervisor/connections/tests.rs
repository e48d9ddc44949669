//! Bounds, who gives way to whom, and that every place comes back.

use std::net::IpAddr;

use futures::FutureExt;

use super::*;

fn limiter(total: usize, reserved: usize, per_address: usize, per_user: usize) -> ConnectionLimiter {
    ConnectionLimiter::new(ConnectionLimits { total, reserved, per_address, per_user })
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn is_cut(admission: &Admission) -> bool {
    admission.cut().now_or_never().is_some()
}

#[test]
fn the_oldest_stranger_of_an_address_gives_way() {
    let limiter = limiter(100, 0, 2, 10);
    let other = limiter.admit(address(2)).unwrap();
    let first = limiter.admit(address(1)).unwrap();
    let second = limiter.admit(address(1)).unwrap();
    let third = limiter.admit(address(1)).unwrap();
    assert_eq!([&other, &first, &second, &third].map(is_cut), [false, true, false, false]);
    assert_eq!((limiter.len(), limiter.turned_away()), (3, 1));
    assert!(!first.identify("late", Standing::Reserved), "what has given way does not come back");
    drop(first);
    assert_eq!(limiter.len(), 3, "and its place is not given back twice");
}

#[test]
fn a_flood_of_strangers_does_not_keep_users_out_or_cut_them_off() {
    let limiter = limiter(10, 2, 10, 5);
    let user = limiter.admit(address(1)).unwrap();
    assert!(user.identify("alice", Standing::Ordinary));
    let flood: Vec<Admission> = (0..100).map(|n| limiter.admit(address(n)).unwrap()).collect();
    assert_eq!(limiter.len(), 10);
    assert!(!is_cut(&user));
    assert_eq!(flood.iter().filter(|one| !is_cut(one)).count(), 9);
    let more = limiter.admit(address(1)).unwrap();
    assert!(more.identify("alice", Standing::Ordinary));
}

#[test]
fn a_user_has_a_bound_and_the_last_places_are_kept() {
    let limiter = limiter(6, 2, 10, 3);
    let enter = |user: &str, standing| {
        let admission = limiter.admit(address(1))?;
        admission.identify(user, standing).then_some(admission)
    };
    let alice: Vec<Admission> = (0..3).map(|_| enter("alice", Standing::Ordinary).unwrap()).collect();
    assert!(enter("alice", Standing::Ordinary).is_none(), "a user has at most three");
    let _bob = enter("bob", Standing::Ordinary).unwrap();
    assert!(enter("carol", Standing::Ordinary).is_none(), "the last two are kept");
    let nodes = [enter("node-a", Standing::Reserved).unwrap(), enter("node-b", Standing::Reserved).unwrap()];
    assert!(limiter.admit(address(1)).is_none(), "all places are known users'");
    drop(alice);
    assert!(enter("carol", Standing::Ordinary).is_some());
    drop(nodes);
    assert_eq!(limiter.len(), 1);
}

#[test]
fn a_connection_is_counted_once_however_often_it_says_its_user() {
    let limiter = limiter(6, 0, 10, 1);
    let admission = limiter.admit(address(1)).unwrap();
    assert!(!admission.is_identified());
    assert!(admission.identify("alice", Standing::Ordinary));
    assert!(admission.identify("alice", Standing::Ordinary) && admission.is_identified());
    drop(admission);
    assert!(limiter.is_empty());
    assert!(limiter.admit(address(1)).unwrap().identify("alice", Standing::Ordinary));
}

#[test]
fn addresses_of_one_network_count_together() {
    let limiter = limiter(10, 0, 1, 1);
    let first = limiter.admit("2001:db8::1".parse().unwrap()).unwrap();
    let second = limiter.admit("2001:db8::ffff:2".parse().unwrap()).unwrap();
    let elsewhere = limiter.admit("2001:db8:0:1::1".parse().unwrap()).unwrap();
    assert_eq!([&first, &second, &elsewhere].map(is_cut), [true, false, false]);
    let four = limiter.admit("192.0.2.1".parse().unwrap()).unwrap();
    let _same = limiter.admit("::ffff:192.0.2.1".parse().unwrap()).unwrap();
    assert!(is_cut(&four));
}
