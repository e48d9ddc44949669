//! Service accounts.

use jiff::Timestamp;
use serde_json::Value;

use crate::printers;
use crate::strategy::{Cell, Column, Strategy};

pub(super) struct ServiceAccounts;

impl Strategy for ServiceAccounts {
    fn columns(&self) -> &'static [Column] {
        printers::core::SERVICE_ACCOUNT
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::core::service_account(tree, now)
    }
}
