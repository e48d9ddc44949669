//! Precedence of hosts and paths, and whose a host is.

use proptest::prelude::*;

use super::{Fault, Table};
use crate::facts::{Backend, IngressFacts, PathRule, PortName, Rule};
use crate::paths::{Kind, climbs};

fn backend(name: &str) -> Backend {
    Backend::Service { name: name.to_string(), port: PortName::Number(80) }
}

fn path(kind: Kind, path: &str, to: &str) -> PathRule {
    PathRule { kind, path: path.to_string(), backend: backend(to) }
}

fn ingress(place: &str, rules: Vec<(&str, Vec<PathRule>)>) -> IngressFacts {
    let (namespace, name) = place.split_once('/').unwrap();
    IngressFacts {
        namespace: namespace.to_string(),
        name: name.to_string(),
        uid: place.to_string(),
        created: None,
        rules: rules.into_iter().map(|(host, paths)| Rule { host: host.to_string(), paths }).collect(),
        default: None,
        tls: Vec::new(),
        redirects: true,
        response_timeout: None,
    }
}

fn table(all: &[IngressFacts]) -> (Table<String>, Vec<Fault>) {
    Table::build(all, |_, backend| match backend {
        Backend::Service { name, .. } => Some(name.clone()),
        Backend::Resource { .. } => None,
    })
}

fn found<'a>(table: &'a Table<String>, host: &str, path: &str) -> &'a str {
    table.find(host, path).map_or("-", String::as_str)
}

/// The examples of the documentation of Ingress v1.
#[test]
fn paths_match_as_upstream_says() {
    let cases = [
        (Kind::Prefix, "/", "/any/thing", true),
        (Kind::Exact, "/foo", "/foo", true),
        (Kind::Exact, "/foo", "/bar", false),
        (Kind::Exact, "/foo", "/foo/", false),
        (Kind::Exact, "/foo/", "/foo", false),
        (Kind::Prefix, "/foo", "/foo", true),
        (Kind::Prefix, "/foo", "/foo/", true),
        (Kind::Prefix, "/foo/", "/foo", true),
        (Kind::Prefix, "/foo/", "/foo/", true),
        (Kind::Prefix, "/aaa/bb", "/aaa/bbb", false),
        (Kind::Prefix, "/aaa/bbb", "/aaa/bbb", true),
        (Kind::Prefix, "/aaa/bbb/", "/aaa/bbb", true),
        (Kind::Prefix, "/aaa/bbb", "/aaa/bbb/", true),
        (Kind::Prefix, "/aaa/bbb", "/aaa/bbb/ccc", true),
        (Kind::Prefix, "/aaa/bbb", "/aaa/bbbxyz", false),
        (Kind::Prefix, "/aaa", "/ccc", false),
        // A multi-byte character may lie across the end of a prefix.
        (Kind::Prefix, "/a", "/é", false),
        (Kind::Prefix, "/", "*", false),
    ];
    for (kind, rule, request, matches) in cases {
        let (table, faults) = table(&[ingress("n/i", vec![("", vec![path(kind, rule, "hit")])])]);
        assert!(faults.is_empty());
        assert_eq!(
            found(&table, "h", request),
            if matches { "hit" } else { "-" },
            "{kind:?} {rule} {request}"
        );
    }
}

#[test]
fn longer_paths_and_nearer_hosts_win() {
    let all = [
        ingress(
            "n/any",
            vec![("", vec![path(Kind::Prefix, "/", "any"), path(Kind::Prefix, "/only", "only")])],
        ),
        ingress("n/wild", vec![("*.x.io", vec![path(Kind::Prefix, "/", "wild")])]),
        ingress(
            "n/exact",
            vec![(
                "a.x.io",
                vec![
                    path(Kind::Prefix, "/foo", "foo"),
                    path(Kind::Prefix, "/foo/bar", "bar"),
                    path(Kind::Exact, "/foo/bar", "exact"),
                ],
            )],
        ),
    ];
    let (table, faults) = table(&all);
    assert_eq!(faults, []);
    for (host, path, to) in [
        ("a.x.io", "/foo/bar", "exact"),
        ("a.x.io", "/foo/bar/", "bar"),
        ("a.x.io", "/foo/baz", "foo"),
        // What no path of a host matches is looked up in the next.
        ("a.x.io", "/", "wild"),
        ("b.x.io", "/foo/bar", "wild"),
        ("b.x.io", "/only", "wild"),
        // A wildcard stands for one label.
        ("c.b.x.io", "/", "any"),
        ("x.io", "/only/so", "only"),
        (".x.io", "/", "any"),
        ("", "/", "any"),
    ] {
        assert_eq!(found(&table, host, path), to, "{host}{path}");
    }
}

#[test]
fn default_backends_come_last() {
    let mut named = ingress("n/named", vec![("a.io", vec![path(Kind::Prefix, "/x", "x")])]);
    named.default = Some(backend("named"));
    let mut all = ingress("n/all", vec![]);
    all.default = Some(backend("all"));
    let mut late = ingress("m/late", vec![]);
    late.default = Some(backend("late"));
    let (table, faults) = table(&[all, named, late]);
    assert_eq!(found(&table, "a.io", "/x"), "x");
    assert_eq!(found(&table, "a.io", "/y"), "named");
    assert_eq!(found(&table, "b.io", "/y"), "all");
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!((faults[0].reason, faults[0].ingress.1.as_str()), ("DefaultBackendConflict", "late"));
}

#[test]
fn what_an_older_ingress_has_is_not_taken_by_another_namespace() {
    let old = ingress(
        "a/old",
        vec![
            ("shop.io", vec![path(Kind::Prefix, "/api", "api")]),
            ("*.w.io", vec![path(Kind::Prefix, "/", "w")]),
        ],
    );
    let same = ingress("a/same", vec![("shop.io", vec![path(Kind::Exact, "/api/login", "login")])]);
    let thief = ingress(
        "b/thief",
        vec![
            (
                "shop.io",
                vec![
                    path(Kind::Prefix, "/api/", "stolen"),
                    path(Kind::Exact, "/api/v1", "stolen"),
                    path(Kind::Prefix, "/apix", "free"),
                    path(Kind::Prefix, "/", "rest"),
                ],
            ),
            ("x.w.io", vec![path(Kind::Exact, "/", "stolen")]),
            ("y.x.w.io", vec![path(Kind::Exact, "/", "deeper")]),
        ],
    );
    let (table, faults) = table(&[old, same, thief]);
    for (host, path, to) in [
        ("shop.io", "/api", "api"),
        ("shop.io", "/api/v1", "api"),
        ("shop.io", "/api/login", "login"),
        ("shop.io", "/apix", "free"),
        ("shop.io", "/other", "rest"),
        ("x.w.io", "/", "w"),
        ("y.x.w.io", "/", "deeper"),
    ] {
        assert_eq!(found(&table, host, path), to, "{host}{path}");
    }
    let told: Vec<String> =
        faults.iter().map(|it| format!("{} {}: {}", it.ingress.1, it.reason, it.message)).collect();
    assert_eq!(
        told,
        [
            "thief PathConflict: path \"/api/\" of host \"shop.io\" is left out: Ingress a/old has it",
            "thief PathConflict: path \"/api/v1\" of host \"shop.io\" is left out: Ingress a/old has it",
            "thief HostConflict: host \"x.w.io\" is left out: Ingress a/old has the wildcard above it",
        ]
    );
}

#[test]
fn a_default_backend_has_the_hosts_that_its_ingress_names() {
    let mut old = ingress(
        "a/old",
        vec![
            ("shop.io", vec![path(Kind::Prefix, "/api", "api")]),
            ("*.w.io", vec![path(Kind::Prefix, "/api", "api")]),
        ],
    );
    old.default = Some(backend("app"));
    let mut thief = ingress(
        "b/thief",
        vec![
            ("shop.io", vec![path(Kind::Prefix, "/", "stolen"), path(Kind::Exact, "/login", "stolen")]),
            ("*.io", vec![path(Kind::Prefix, "/", "wild")]),
            ("", vec![path(Kind::Prefix, "/", "any")]),
            // Without paths: what is left out has no default backend either.
            ("x.w.io", vec![]),
            ("*.w.io", vec![path(Kind::Prefix, "/", "stolen")]),
        ],
    );
    thief.default = Some(backend("stolen"));
    let (table, faults) = table(&[old, thief]);
    for (host, path, to) in [
        ("shop.io", "/", "app"),
        ("shop.io", "/login", "app"),
        ("shop.io", "/api/v1", "api"),
        ("x.w.io", "/", "app"),
        ("x.w.io", "/api", "api"),
        ("free.io", "/", "wild"),
        ("else.org", "/", "any"),
    ] {
        assert_eq!(found(&table, host, path), to, "{host}{path}");
    }
    let told: Vec<&str> = faults.iter().map(|it| it.reason).collect();
    assert_eq!(told, ["PathConflict", "PathConflict", "HostConflict", "PathConflict"]);
}

#[test]
fn backends_of_other_kinds_are_named() {
    let mut one = ingress("n/i", vec![]);
    one.default = Some(Backend::Resource { kind: "Bucket".into(), name: "b".into() });
    let (table, faults) = table(&[one]);
    assert_eq!(found(&table, "h", "/"), "-");
    assert_eq!(faults[0].reason, "UnsupportedBackend");
}

#[test]
fn paths_that_climb_are_known() {
    for path in ["/..", "/a/../b", "/./a", "/%2e%2E/x", "/a/.%2e", "/a\\..\\b", "/%2e"] {
        assert!(climbs(path), "{path}");
    }
    for path in ["/", "/a.b", "/...", "/..a", "/%2f", "/a%2e", "/.well-known/x"] {
        assert!(!climbs(path), "{path}");
    }
}

/// How near a rule's host is to a request's: exact, a wildcard, or none at all.
fn distance(rule: &str, host: &str) -> Option<usize> {
    match rule.strip_prefix('*') {
        _ if rule.is_empty() => Some(2),
        Some(domain) => {
            let label = host.strip_suffix(domain)?;
            (!label.is_empty() && !label.contains('.')).then_some(1)
        }
        None => (rule == host).then_some(0),
    }
}

/// Nearest host, paths before defaults, exact ones first, then the longest, then the oldest.
type Rank = (usize, bool, Kind, std::cmp::Reverse<usize>, usize);

/// Looks at every rule and default backend and takes the best.
fn naive(all: &[IngressFacts], host: &str, path: &str) -> Option<String> {
    let matches_path = |rule: &PathRule| match rule.kind {
        Kind::Exact => rule.path == path,
        Kind::Prefix => {
            let elements =
                |text: &str| text.trim_end_matches('/').split('/').map(str::to_string).collect::<Vec<_>>();
            elements(path).starts_with(&elements(&rule.path))
        }
    };
    let name_of = |backend: &Backend| match backend {
        Backend::Service { name, .. } => name.clone(),
        Backend::Resource { .. } => panic!("no such backend is made here"),
    };
    let mut candidates: Vec<(Rank, String)> = Vec::new();
    for (age, ingress) in all.iter().enumerate() {
        for rule in &ingress.rules {
            let Some(distance) = distance(&rule.host, host) else { continue };
            for it in rule.paths.iter().filter(|it| matches_path(it)) {
                let length = std::cmp::Reverse(it.path.trim_end_matches('/').len());
                candidates.push(((distance, false, it.kind, length, age), name_of(&it.backend)));
            }
        }
        if let Some(default) = &ingress.default {
            let named = ingress.rules.iter().filter_map(|rule| distance(&rule.host, host));
            let last =
                |distance| ((distance, true, Kind::Prefix, std::cmp::Reverse(0), age), name_of(default));
            candidates.extend(named.chain([2]).map(last));
        }
    }
    candidates.into_iter().min_by(|one, other| one.0.cmp(&other.0)).map(|(_, name)| name)
}

fn any_path() -> impl Strategy<Value = String> {
    "(/(a|b|ab)){0,3}/?".prop_map(|path| if path.starts_with('/') { path } else { format!("/{path}") })
}

fn any_default() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.3)
}

fn any_host() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "x.io", "a.x.io", "b.a.x.io", "*.x.io", "*.a.x.io"])
}

proptest! {
    #[test]
    fn the_table_finds_what_looking_at_every_rule_finds(
        rules in prop::collection::vec((any_host(), any::<bool>(), any_path(), any_default()), 0..20),
        requests in prop::collection::vec((any_host(), any_path()), 1..20),
    ) {
        let all: Vec<IngressFacts> = rules
            .iter()
            .enumerate()
            .map(|(at, (host, exact, rule, default))| {
                let kind = if *exact { Kind::Exact } else { Kind::Prefix };
                let name = format!("n/{at:02}");
                let mut one = ingress(&name, vec![(*host, vec![path(kind, rule, &at.to_string())])]);
                one.default = default.then(|| backend(&format!("default {at}")));
                one
            })
            .collect();
        let (table, _) = table(&all);
        for (host, path) in &requests {
            prop_assert_eq!(table.find(host, path).cloned(), naive(&all, host, path), "{}{}", host, path);
        }
    }

    #[test]
    fn nobody_takes_what_an_older_ingress_of_another_namespace_answers(
        old in prop::collection::vec((any_host(), any::<bool>(), any_path()), 1..8),
        new in prop::collection::vec((any_host(), any::<bool>(), any_path()), 1..8),
        defaults in (any::<bool>(), any::<bool>()),
        // Rules without paths name hosts, too.
        bare in prop::collection::vec(any_host(), 0..4),
        requests in prop::collection::vec((any_host(), any_path()), 1..20),
    ) {
        let of = |place: &str, rules: &[(&'static str, bool, String)], default: bool| {
            let rule = |(host, exact, rule): &(&'static str, bool, String)| {
                let kind = if *exact { Kind::Exact } else { Kind::Prefix };
                (*host, vec![path(kind, rule, place)])
            };
            let bare = bare.iter().filter(|host| default && !host.is_empty()).map(|host| (*host, Vec::new()));
            let mut one = ingress(place, rules.iter().map(rule).chain(bare).collect());
            one.default = default.then(|| backend(place));
            one
        };
        let named: Vec<_> = old.iter().filter(|(host, ..)| !host.is_empty()).cloned().collect();
        let old = of("a/old", &named, defaults.0);
        let before = table(std::slice::from_ref(&old)).0;
        let after = table(&[old.clone(), of("b/new", &new, defaults.1)]).0;
        for (host, path) in &requests {
            // Whoever names no host owns none, also not by a default backend.
            let is_named = old.rules.iter().any(|rule| distance(&rule.host, host).is_some());
            if let Some(old) = before.find(host, path).filter(|_| is_named) {
                prop_assert_eq!(after.find(host, path), Some(old), "{}{}", host, path);
            }
        }
    }
}
