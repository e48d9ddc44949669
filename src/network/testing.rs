//! A machine that writes down what it is asked for.

pub(crate) mod kernel;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use parking_lot::Mutex;

use crate::error::NetworkError;
use crate::host::{Host, HostCall};
use crate::nfnetlink::{Batch, Flows};

/// Writes down what it is asked for, and fails where it is told to.
#[derive(Default)]
pub(crate) struct RecordingHost {
    journal: Mutex<Vec<String>>,
    /// How many of the next calls that begin so fail.
    failures: Mutex<HashMap<&'static str, usize>>,
    forwards: Mutex<bool>,
    /// Those that were set and not removed.
    addresses: Mutex<Vec<IpAddr>>,
    /// The machine's `filter` table.
    filter: String,
    /// What `nft` was told, and what went over netlink as `nft` would be told it.
    scripts: Mutex<Vec<String>>,
    /// The flows that were looked through.
    flows: Mutex<Vec<Flows>>,
}

impl RecordingHost {
    pub(crate) fn with_filter(filter: String) -> Self {
        RecordingHost { filter, ..RecordingHost::default() }
    }

    fn call(&self, line: String) -> Result<(), NetworkError> {
        let mut failures = self.failures.lock();
        let failure = failures.iter_mut().find(|(start, left)| line.starts_with(**start) && **left > 0);
        self.journal.lock().push(line);
        match failure {
            Some((start, left)) => {
                *left -= 1;
                Err(NetworkError::Failed { program: start.to_string(), message: "no".to_string() })
            }
            None => Ok(()),
        }
    }

    pub(crate) fn fail(&self, start: &'static str, times: usize) {
        self.failures.lock().insert(start, times);
    }

    pub(crate) fn journal(&self) -> Vec<String> {
        std::mem::take(&mut self.journal.lock())
    }

    /// Somebody else removes it.
    pub(crate) fn forget_address(&self, address: IpAddr) {
        self.addresses.lock().retain(|one| *one != address);
    }

    pub(crate) fn scripts(&self) -> Vec<String> {
        std::mem::take(&mut self.scripts.lock())
    }

    pub(crate) fn flows(&self) -> Vec<Flows> {
        std::mem::take(&mut self.flows.lock())
    }
}

fn now<'a, T: Send + 'a>(answer: Result<T, NetworkError>) -> HostCall<'a, T> {
    Box::pin(std::future::ready(answer))
}

impl Host for RecordingHost {
    fn run<'a>(&'a self, program: &'a str, arguments: &'a [&'a str], input: &'a str) -> HostCall<'a, String> {
        if program == "nft" && !input.is_empty() {
            self.scripts.lock().push(input.to_string());
        }
        let output = if program == "iptables-save" { self.filter.clone() } else { String::new() };
        now(self.call(format!("{program} {}", arguments.join(" "))).map(|()| output))
    }

    fn sysctl(&self, path: &str) -> Result<String, NetworkError> {
        self.call(format!("read {path}"))?;
        Ok(if *self.forwards.lock() { "1" } else { "0" }.to_string())
    }

    fn set_sysctl(&self, path: &str, value: &str) -> Result<(), NetworkError> {
        self.call(format!("write {path} {value}"))?;
        *self.forwards.lock() = value == "1";
        Ok(())
    }

    fn replace_route<'a>(&'a self, destination: &'a str, gateway: Ipv4Addr) -> HostCall<'a, ()> {
        now(self.call(format!("route {destination} via {gateway}")))
    }

    fn remove_route<'a>(&'a self, destination: &'a str, gateway: Ipv4Addr) -> HostCall<'a, ()> {
        now(self.call(format!("no route {destination} via {gateway}")))
    }

    fn remove_link<'a>(&'a self, name: &'a str) -> HostCall<'a, ()> {
        now(self.call(format!("no link {name}")))
    }

    fn addresses(&self) -> HostCall<'_, Vec<IpAddr>> {
        now(self.call("addresses".to_string()).map(|()| self.addresses.lock().clone()))
    }

    fn add_local_address(&self, address: IpAddr) -> HostCall<'_, ()> {
        now(self.call(format!("address {address}")).map(|()| self.addresses.lock().push(address)))
    }

    fn remove_local_address(&self, address: IpAddr) -> HostCall<'_, ()> {
        self.forget_address(address);
        now(self.call(format!("no address {address}")))
    }

    fn change_elements<'a>(&'a self, _: Batch, text: &(dyn Fn() -> String + Sync)) -> HostCall<'a, ()> {
        self.scripts.lock().push(text());
        now(self.call("elements".to_string()))
    }

    fn forget_stale_flows(&self, is_v4: bool, flows: Flows) -> HostCall<'_, usize> {
        self.flows.lock().push(flows);
        now(self.call(format!("stale flows {is_v4}")).map(|()| 0))
    }
}
