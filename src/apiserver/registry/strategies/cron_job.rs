//! Cron jobs.

use crate::strategy::Strategy;

pub(super) struct CronJobs;

impl Strategy for CronJobs {
    fn has_generation(&self) -> bool {
        true
    }
}
