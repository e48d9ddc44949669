//! Counters and histograms of the store, under etcd's names where etcd has them.
//!
//! Plain atomics: the store knows no metrics library. [`Metrics::render`] writes the text exposition format.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets: 0.1 ms doubled, up to 6.5536 s. etcd begins at 1 ms, which is more than our
/// usual sync.
const BUCKETS: usize = 17;

#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, duration: Duration) {
        let units = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).div_ceil(100);
        let bucket = units.max(1).next_power_of_two().trailing_zeros() as usize;
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn render(&self, name: &str, help: &str, out: &mut String) {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut total = 0;
        for (position, bucket) in self.buckets.iter().enumerate() {
            total += bucket.load(Ordering::Relaxed);
            let bound = 0.0001 * f64::from(1u32 << position);
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {total}");
        }
        let (count, nanos) = (self.count.load(Ordering::Relaxed), self.nanos.load(Ordering::Relaxed));
        let seconds = Duration::from_nanos(nanos).as_secs_f64();
        let _ =
            writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {seconds}\n{name}_count {count}");
    }
}

/// What the store counts itself; sizes and revisions are read from it when they are asked for.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) wal_fsync: Histogram,
    pub(crate) backend_commit: Histogram,
    pub(crate) puts: AtomicU64,
    pub(crate) deletes: AtomicU64,
    pub(crate) txns: AtomicU64,
    pub(crate) ranges: AtomicU64,
    pub(crate) failed_proposals: AtomicU64,
    pub(crate) failed_checkpoints: AtomicU64,
}

/// Values of the moment that go with the counters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) revision: u64,
    pub(crate) compacted_revision: u64,
    pub(crate) keys: u64,
    pub(crate) watchers: u64,
    pub(crate) size_in_use: u64,
    pub(crate) quota: u64,
    /// Writes are refused for want of room.
    pub(crate) no_space: bool,
    pub(crate) size_on_disk: u64,
    pub(crate) applied_index: u64,
    /// Requests that wait for the log.
    pub(crate) pending: u64,
    /// The last attempt to write the applied state failed.
    pub(crate) checkpoint_failing: bool,
}

impl Gauges {
    /// Names, helps and values.
    fn values(&self) -> [(&'static str, &'static str, u64); 12] {
        [
            ("etcd_debugging_mvcc_current_revision", "The current revision of store.", self.revision),
            (
                "etcd_debugging_mvcc_compact_revision",
                "The revision of the last compaction in store.",
                self.compacted_revision,
            ),
            ("etcd_debugging_mvcc_keys_total", "Total number of keys.", self.keys),
            ("etcd_debugging_mvcc_watcher_total", "Total number of watchers.", self.watchers),
            (
                "etcd_mvcc_db_total_size_in_bytes",
                "Total size of the underlying database physically allocated in bytes.",
                self.size_on_disk,
            ),
            (
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Total size of the underlying database logically in use in bytes.",
                self.size_in_use,
            ),
            ("etcd_server_quota_backend_bytes", "Current backend storage quota size in bytes.", self.quota),
            (
                "minik8s_store_no_space",
                "Whether writes are refused for want of room, on the disk or within the quota.",
                u64::from(self.no_space),
            ),
            (
                "etcd_server_proposals_applied_total",
                "The total number of consensus proposals applied.",
                self.applied_index,
            ),
            (
                "etcd_server_proposals_committed_total",
                "The total number of consensus proposals committed.",
                self.applied_index,
            ),
            (
                "etcd_server_proposals_pending",
                "The current number of pending proposals to commit.",
                self.pending,
            ),
            (
                "minik8s_store_checkpoint_failing",
                "Whether the last attempt to write the applied state failed; the log grows meanwhile.",
                u64::from(self.checkpoint_failing),
            ),
        ]
    }
}

impl Metrics {
    /// The Prometheus text format.
    pub(crate) fn render(&self, gauges: &Gauges) -> String {
        let mut out = String::with_capacity(8192);
        self.wal_fsync.render(
            "etcd_disk_wal_fsync_duration_seconds",
            "The latency distributions of fsync called by WAL.",
            &mut out,
        );
        self.backend_commit.render(
            "etcd_disk_backend_commit_duration_seconds",
            "The latency distributions of commit called by backend.",
            &mut out,
        );
        for (name, help, value) in self.counters() {
            let value = value.load(Ordering::Relaxed);
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
        }
        for (name, help, value) in gauges.values() {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        out
    }

    /// Names, helps and values of the counters.
    fn counters(&self) -> [(&'static str, &'static str, &AtomicU64); 6] {
        [
            ("etcd_mvcc_put_total", "Total number of puts seen by this member.", &self.puts),
            ("etcd_mvcc_delete_total", "Total number of deletes seen by this member.", &self.deletes),
            ("etcd_mvcc_txn_total", "Total number of txns seen by this member.", &self.txns),
            ("etcd_mvcc_range_total", "Total number of ranges seen by this member.", &self.ranges),
            (
                "etcd_server_proposals_failed_total",
                "The total number of failed proposals seen.",
                &self.failed_proposals,
            ),
            (
                "minik8s_store_checkpoint_failures_total",
                "The total number of failed attempts to write the applied state.",
                &self.failed_checkpoints,
            ),
        ]
    }
}
