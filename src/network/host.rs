//! The machine's network as this crate changes it: programs that take scripts (`nft`, iptables), switches of
//! the kernel, routes and interfaces. [`Linux`] is the real one; tests write down what was asked for, in
//! order.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use client::BoxFuture;

use crate::error::NetworkError;
use crate::nfnetlink::{Batch, Flows, Tables};
use crate::{command, netlink, proxy};

/// The answer to a change, while it is being made.
pub(crate) type HostCall<'a, T> = BoxFuture<'a, Result<T, NetworkError>>;

pub(crate) trait Host: Send + Sync {
    /// Runs a program with a script on its input; its output.
    fn run<'a>(&'a self, program: &'a str, arguments: &'a [&'a str], input: &'a str) -> HostCall<'a, String>;
    fn sysctl(&self, path: &str) -> Result<String, NetworkError>;
    fn set_sysctl(&self, path: &str, value: &str) -> Result<(), NetworkError>;
    /// Makes a route, or changes the one to the same destination.
    fn replace_route<'a>(&'a self, destination: &'a str, gateway: Ipv4Addr) -> HostCall<'a, ()>;
    /// No error if there is none.
    fn remove_route<'a>(&'a self, destination: &'a str, gateway: Ipv4Addr) -> HostCall<'a, ()>;
    /// Removes an interface; no error if there is none.
    fn remove_link<'a>(&'a self, name: &'a str) -> HostCall<'a, ()>;
    /// All addresses of the machine.
    fn addresses(&self) -> HostCall<'_, Vec<IpAddr>>;
    /// Puts an address on the loopback interface; that it is there is fine.
    fn add_local_address(&self, address: IpAddr) -> HostCall<'_, ()>;
    /// No error if it is not there.
    fn remove_local_address(&self, address: IpAddr) -> HostCall<'_, ()>;
    /// Changes elements of a table's sets, all or none of them. `text` is how `nft` would be told.
    fn change_elements<'a>(&'a self, batch: Batch, text: &(dyn Fn() -> String + Sync)) -> HostCall<'a, ()>;
    /// Ends the UDP flows of these frontends that lead to none of their endpoints; how many there were.
    fn forget_stale_flows(&self, is_v4: bool, flows: Flows) -> HostCall<'_, usize>;
}

/// The machine that we run on.
#[derive(Default)]
pub(crate) struct Linux {
    /// For changes of rules past `nft`.
    tables: Arc<Tables>,
}

impl Host for Linux {
    fn run<'a>(&'a self, program: &'a str, arguments: &'a [&'a str], input: &'a str) -> HostCall<'a, String> {
        Box::pin(command::run(program, arguments, input))
    }

    fn sysctl(&self, path: &str) -> Result<String, NetworkError> {
        let failed = |source| NetworkError::File { path: Path::new(path).to_path_buf(), source };
        std::fs::read_to_string(path).map(|text| text.trim().to_string()).map_err(failed)
    }

    fn set_sysctl(&self, path: &str, value: &str) -> Result<(), NetworkError> {
        let failed = |source| NetworkError::File { path: Path::new(path).to_path_buf(), source };
        std::fs::write(path, value).map_err(failed)
    }

    fn replace_route<'a>(&'a self, destination: &'a str, gateway: Ipv4Addr) -> HostCall<'a, ()> {
        Box::pin(netlink::replace_route(destination, gateway))
    }

    fn remove_route<'a>(&'a self, destination: &'a str, gateway: Ipv4Addr) -> HostCall<'a, ()> {
        Box::pin(netlink::remove_route(destination, gateway))
    }

    fn remove_link<'a>(&'a self, name: &'a str) -> HostCall<'a, ()> {
        Box::pin(netlink::remove_link(name))
    }

    fn addresses(&self) -> HostCall<'_, Vec<IpAddr>> {
        Box::pin(netlink::addresses())
    }

    fn add_local_address(&self, address: IpAddr) -> HostCall<'_, ()> {
        Box::pin(netlink::add_local_address(address))
    }

    fn remove_local_address(&self, address: IpAddr) -> HostCall<'_, ()> {
        Box::pin(netlink::remove_local_address(address))
    }

    fn change_elements<'a>(&'a self, batch: Batch, _: &(dyn Fn() -> String + Sync)) -> HostCall<'a, ()> {
        proxy::change_elements(self.tables.clone(), batch)
    }

    fn forget_stale_flows(&self, is_v4: bool, flows: Flows) -> HostCall<'_, usize> {
        proxy::forget_stale_flows(is_v4, flows)
    }
}
