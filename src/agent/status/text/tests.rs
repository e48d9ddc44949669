//! The report as people read it.

use super::super::report::Finding;
use super::*;

#[test]
fn what_wants_attention_comes_first() {
    let report = Report {
        version: "v1".into(),
        state: State::Degraded,
        role: Some("server".into()),
        data_dir: "/data".into(),
        problems: vec![Finding::new("etcd's API is off", "127.0.0.1:2379 is taken", "choose another")],
        etcd: Some(Etcd { url: None, off: Some("127.0.0.1:2379 is taken".into()) }),
        ..Report::default()
    };
    let text = render(&report);
    let wanted = "minik8s server: running, 1 thing to attend to\n  version       v1\n  data          /data\n\n\
                  Attention\n  - etcd's API is off: 127.0.0.1:2379 is taken; choose another\n\n\
                  etcd's API\n  off           127.0.0.1:2379 is taken\n";
    assert_eq!(text, wanted);
}

#[test]
fn amounts_are_short() {
    assert_eq!(size(1536), "1.5 KiB");
    assert_eq!(size(96 << 20), "96.0 MiB");
    assert_eq!(duration(59), "59 s");
    assert_eq!(duration(3 * 3600 + 120), "3 h 2 min");
    assert_eq!(duration(200_000), "2 d 7 h");
}
