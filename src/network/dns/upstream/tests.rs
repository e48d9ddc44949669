//! Which servers are asked, and for how long answers are kept.

use std::str::FromStr;

use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::SOA;

use super::*;

#[test]
fn servers_are_read_and_our_own_addresses_passed_over() {
    let text = "# comment\nsearch x\nnameserver 10.43.0.10\n nameserver 192.0.2.1 \nnameserver nonsense\nnameserver fd00::1\n\
                nameserver 192.0.2.2\nnameserver 192.0.2.3\n";
    let found = servers(text, &["10.43.0.10".parse().unwrap()], 53);
    assert_eq!(
        found,
        ["192.0.2.1:53".parse().unwrap(), "[fd00::1]:53".parse().unwrap(), "192.0.2.2:53".parse().unwrap()]
    );
}

#[test]
fn behind_the_stub_of_systemd_are_the_real_servers() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files { resolved_conf: folder.path().join("b"), port: 53 };
    let resolv_conf = folder.path().join("a");
    let of = |files: Files| Upstreams::new(vec![Target::File(resolv_conf.clone())], files, Vec::new(), 30);
    let upstreams = of(files.clone());
    assert_eq!(upstreams.servers(), Vec::new());
    std::fs::write(&resolv_conf, "nameserver 127.0.0.53\n").unwrap();
    assert_eq!(upstreams.servers(), ["127.0.0.53:53".parse().unwrap()]);
    std::fs::write(&files.resolved_conf, "nameserver 192.0.2.1\n").unwrap();
    let again = of(files);
    assert_eq!(again.servers(), ["192.0.2.1:53".parse().unwrap()]);
}

fn key_of(number: usize) -> Key {
    (Name::from_str(&format!("n{number}.example.")).unwrap(), RecordType::A, false)
}

fn content(ttl: u32) -> Content {
    let record = Record::from_rdata(key_of(0).0, ttl, RData::from(IpAddr::from([192, 0, 2, 1])));
    Content { answers: vec![record], ..Content::default() }
}

#[test]
fn answers_are_kept_as_long_as_they_say_and_half_a_minute_at_most() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    let after = |seconds| now + Duration::from_secs(seconds);
    cache.keep(key_of(1), &content(10), now, 30);
    cache.keep(key_of(2), &content(3600), now, 30);
    cache.keep(key_of(3), &content(0), now, 30);
    assert_eq!(cache.get(&key_of(1), after(4)).unwrap().answers[0].ttl, 6);
    assert!(cache.get(&key_of(1), after(10)).is_none());
    assert!(cache.get(&key_of(2), after(29)).is_some() && cache.get(&key_of(2), after(30)).is_none());
    assert!(cache.get(&key_of(3), now).is_none());
    // An absence is kept as its zone says; one that says nothing is not.
    let absent = Content::of_code(ResponseCode::NXDomain);
    cache.keep(key_of(4), &absent, now, 30);
    assert!(cache.get(&key_of(4), now).is_none());
    let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, 7);
    let authorities = vec![Record::from_rdata(Name::root(), 100, RData::SOA(soa))];
    cache.keep(key_of(4), &Content { authorities, ..absent }, now, 30);
    assert!(cache.get(&key_of(4), after(6)).is_some() && cache.get(&key_of(4), after(7)).is_none());
}

#[test]
fn what_is_kept_is_bounded_and_what_is_asked_for_stays() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    for number in 0..4 * KEPT {
        cache.keep(key_of(number), &content(20), now, 30);
        assert!(cache.get(&key_of(0), now).is_some());
    }
    assert!(cache.len() <= 2 * KEPT, "{}", cache.len());
}

/// A name server that answers what it is told to, so many questions, and counts them.
async fn name_server(socket: UdpSocket, code: ResponseCode, count: usize) -> usize {
    let mut buffer = [0; 1500];
    for asked in 0..count {
        let waiting = tokio::time::timeout(Duration::from_millis(500), socket.recv_from(&mut buffer)).await;
        let Ok(Ok((length, client))) = waiting else { return asked };
        let super::super::message::Received::ValidQuery(asked) =
            super::super::message::read(&buffer[..length])
        else {
            panic!("a question")
        };
        let content = Content { code, ..content(20) };
        socket.send_to(&asked.answer(content, false).unwrap(), client).await.unwrap();
    }
    count
}

#[tokio::test]
async fn the_first_server_that_says_something_counts_and_is_asked_once() {
    let good = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = good.local_addr().unwrap().port();
    let bad = UdpSocket::bind(("127.0.0.2", port)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = Files { resolved_conf: folder.path().join("b"), port };
    let resolv_conf = folder.path().join("a");
    std::fs::write(&resolv_conf, "nameserver 127.0.0.2\nnameserver 127.0.0.1\n").unwrap();
    let upstreams = Upstreams::new(vec![Target::File(resolv_conf)], files, Vec::new(), 30);
    let mut message = hickory_proto::op::Message::query();
    message.add_query(Query::query(key_of(0).0, RecordType::A));
    let super::super::message::Received::ValidQuery(asked) =
        super::super::message::read(&message.to_vec().unwrap())
    else {
        panic!("a question")
    };
    let asking = async {
        let first = upstreams.ask(&asked).await;
        let second = upstreams.ask(&asked).await;
        (first, second)
    };
    let (refused, answered, (first, second)) = tokio::join!(
        name_server(bad, ResponseCode::Refused, 2),
        name_server(good, ResponseCode::NoError, 2),
        asking
    );
    assert_eq!((first.code, first.answers.len(), second.answers.len()), (ResponseCode::NoError, 1, 1));
    assert_eq!(answered, 1, "the second answer was kept");
    assert!(refused <= 1);
    assert!(upstreams.sent.lock().is_empty(), "nothing waits any more");
}
