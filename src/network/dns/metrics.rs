//! What is counted, under CoreDNS' names, for dashboards that are made for it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use hickory_proto::op::ResponseCode;
use parking_lot::Mutex;

use super::message::ValidQuery;
use super::plan::Plan;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Udp,
    Tcp,
}

#[derive(Default)]
pub(crate) struct Metrics {
    asked: Mutex<BTreeMap<(Protocol, bool, String), u64>>,
    answered: Mutex<Answered>,
    pub(crate) reloads: AtomicU64,
    pub(crate) failed_reloads: AtomicU64,
}

#[derive(Default)]
struct Answered {
    codes: BTreeMap<String, u64>,
    buckets: [u64; BOUNDS],
    count: u64,
    sum: f64,
}

/// Seconds: 0.25 ms, doubled 15 times, as CoreDNS has them.
const BOUNDS: usize = 16;

fn bound(at: usize) -> f64 {
    0.000_25 * f64::from(1_u32 << at)
}

/// Types that are counted under their own names; a client can ask for any.
const TYPES: [&str; 12] =
    ["A", "AAAA", "CNAME", "HTTPS", "MX", "NS", "PTR", "SOA", "SRV", "SVCB", "TXT", "ANY"];

/// Whose numbers they are.
const SERVER: &str = "server=\"dns://:53\",zone=\".\",view=\"\"";

impl Metrics {
    /// Counts a question; the time it came.
    pub(crate) fn asked(&self, asked: &ValidQuery, protocol: Protocol, client: IpAddr) -> Instant {
        let kind = asked.query.query_type().to_string();
        let kind = if TYPES.contains(&kind.as_str()) { kind } else { "other".to_string() };
        *self.asked.lock().entry((protocol, client.is_ipv4(), kind)).or_default() += 1;
        Instant::now()
    }

    pub(crate) fn answered(&self, began: Instant, code: ResponseCode) {
        let seconds = began.elapsed().as_secs_f64();
        let mut answered = self.answered.lock();
        *answered.codes.entry(name_of(code)).or_default() += 1;
        for (at, bucket) in answered.buckets.iter_mut().enumerate() {
            *bucket += u64::from(seconds <= bound(at));
        }
        answered.count += 1;
        answered.sum += seconds;
    }

    pub(crate) fn text(&self, plan: &Plan) -> String {
        let mut text = String::from("# TYPE coredns_build_info gauge\n");
        let version = env!("CARGO_PKG_VERSION");
        let _ = writeln!(
            text,
            "coredns_build_info{{goversion=\"\",revision=\"\",version=\"minik8s-{version}\"}} 1"
        );
        text.push_str("# TYPE coredns_dns_requests_total counter\n");
        for ((protocol, is_v4, kind), count) in self.asked.lock().iter() {
            let protocol = if *protocol == Protocol::Udp { "udp" } else { "tcp" };
            let family = if *is_v4 { 1 } else { 2 };
            let labels = format!("{SERVER},proto=\"{protocol}\",family=\"{family}\",type=\"{kind}\"");
            let _ = writeln!(text, "coredns_dns_requests_total{{{labels}}} {count}");
        }
        let answered = self.answered.lock();
        text.push_str("# TYPE coredns_dns_responses_total counter\n");
        for (code, count) in &answered.codes {
            let _ = writeln!(
                text,
                "coredns_dns_responses_total{{{SERVER},plugin=\"\",rcode=\"{code}\"}} {count}"
            );
        }
        let name = "coredns_dns_request_duration_seconds";
        let _ = writeln!(text, "# TYPE {name} histogram");
        for (at, count) in answered.buckets.iter().enumerate() {
            let _ = writeln!(text, "{name}_bucket{{{SERVER},le=\"{}\"}} {count}", bound(at));
        }
        let _ = writeln!(text, "{name}_bucket{{{SERVER},le=\"+Inf\"}} {}", answered.count);
        let _ = writeln!(
            text,
            "{name}_sum{{{SERVER}}} {}\n{name}_count{{{SERVER}}} {}",
            answered.sum, answered.count
        );
        drop(answered);
        self.write_cache(plan, &mut text);
        for (name, kind, value) in [
            ("reload_total", "counter", self.reloads.load(Relaxed)),
            ("reload_failed_total", "counter", self.failed_reloads.load(Relaxed)),
            ("hosts_entries", "gauge", plan.host_count() as u64),
            ("panics_total", "counter", 0),
        ] {
            let _ = writeln!(text, "# TYPE coredns_{name} {kind}\ncoredns_{name} {value}");
        }
        text
    }

    fn write_cache(&self, plan: &Plan, text: &mut String) {
        let (mut success, mut denial, mut misses, mut entries) = (0, 0, 0, 0);
        for upstreams in plan.upstreams() {
            let hits = upstreams.hits();
            success += hits.success;
            denial += hits.denial;
            misses += hits.misses;
            entries += upstreams.kept_count();
        }
        let server = "server=\"dns://:53\",zones=\".\",view=\"\"";
        text.push_str("# TYPE coredns_cache_hits_total counter\n");
        for (kind, count) in [("success", success), ("denial", denial)] {
            let _ = writeln!(text, "coredns_cache_hits_total{{{server},type=\"{kind}\"}} {count}");
        }
        let _ = writeln!(
            text,
            "# TYPE coredns_cache_misses_total counter\ncoredns_cache_misses_total{{{server}}} {misses}"
        );
        let _ = writeln!(text, "# TYPE coredns_cache_requests_total counter");
        let _ = writeln!(text, "coredns_cache_requests_total{{{server}}} {}", success + denial + misses);
        let _ =
            writeln!(text, "# TYPE coredns_cache_entries gauge\ncoredns_cache_entries{{{server}}} {entries}");
    }
}

/// The name that CoreDNS has for a code.
fn name_of(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_string(),
        ResponseCode::FormErr => "FORMERR".to_string(),
        ResponseCode::ServFail => "SERVFAIL".to_string(),
        ResponseCode::NXDomain => "NXDOMAIN".to_string(),
        ResponseCode::NotImp => "NOTIMPL".to_string(),
        ResponseCode::Refused => "REFUSED".to_string(),
        code => u16::from(code).to_string(),
    }
}
