//! Tests of what the proxy lets through.

use super::{Filter, host_of};
use crate::verbs::Verb;

fn filter(args: &[&str]) -> Filter {
    let words = ["kubectl", "proxy"].iter().chain(args).map(Into::into).collect();
    match crate::cli::parse(words) {
        Ok(cli) => match cli.verb {
            Verb::Proxy(args) => Filter::new(&args).unwrap(),
            _ => panic!("not a proxy"),
        },
        Err(stop) => panic!("{}", stop.text),
    }
}

#[test]
fn only_local_names_and_no_exec() {
    let filter = filter(&[]);
    for host in ["localhost:8001", "127.0.0.1", "[::1]:8001"] {
        assert!(filter.allows("GET", "/api/v1/nodes/n/", host_of(host)), "{host}");
    }
    assert!(!filter.allows("GET", "/api", host_of("evil.example:8001")));
    assert!(!filter.allows("POST", "/api/v1/namespaces/n/pods/p/exec", "localhost"));
    assert!(self::filter(&["--disable-filter"]).allows("POST", "/api/v1/namespaces/n/pods/p/exec", "x"));
}
