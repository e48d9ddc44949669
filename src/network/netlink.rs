//! Routes and interfaces over netlink. Each call has a connection of its own: they are rare.

use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressScope};
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::error::NetworkError;
use crate::range::parse;

fn message(cidr: &str, gateway: Ipv4Addr) -> Result<RouteMessage, NetworkError> {
    let (address, prefix) = parse(cidr)?;
    Ok(RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, prefix).gateway(gateway).build())
}

fn failed(cidr: &str, gateway: Ipv4Addr, source: rtnetlink::Error) -> NetworkError {
    NetworkError::Route {
        destination: cidr.to_string(),
        gateway: gateway.to_string(),
        source: Box::new(source),
    }
}

pub(crate) async fn replace_route(cidr: &str, gateway: Ipv4Addr) -> Result<(), NetworkError> {
    let route = message(cidr, gateway)?;
    let made = connected(|handle| async move { handle.route().add(route).replace().execute().await }).await?;
    made.map_err(|source| failed(cidr, gateway, source))
}

pub(crate) async fn remove_route(cidr: &str, gateway: Ipv4Addr) -> Result<(), NetworkError> {
    let route = message(cidr, gateway)?;
    match connected(|handle| async move { handle.route().del(route).execute().await }).await? {
        Err(error) if !is_absent(&error) => Err(failed(cidr, gateway, error)),
        _ => Ok(()),
    }
}

pub(crate) async fn remove_link(name: &str) -> Result<(), NetworkError> {
    let removed = connected(|handle| async move {
        let found = handle.link().get().match_name(name.to_string()).execute().try_next().await;
        match found {
            Ok(Some(link)) => handle.link().del(link.header.index).execute().await,
            Ok(None) => Ok(()),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(error),
        }
    });
    removed.await?.map_err(|error| NetworkError::Failed {
        program: format!("removing interface {name}"),
        message: error.to_string(),
    })
}

/// Every address of this network namespace.
pub(crate) async fn addresses() -> Result<Vec<IpAddr>, NetworkError> {
    let listed = connected(|handle| async move {
        let messages: Vec<_> = handle.address().get().execute().try_collect().await?;
        Ok::<_, rtnetlink::Error>(messages)
    });
    let messages = listed.await?.map_err(|error| NetworkError::Failed {
        program: "listing addresses".to_string(),
        message: error.to_string(),
    })?;
    let attributes = messages.into_iter().flat_map(|message| message.attributes);
    // On a point-to-point link `Address` is the other end's.
    let mut found: Vec<IpAddr> = attributes
        .filter_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(address),
            AddressAttribute::Address(IpAddr::V6(address)) => Some(IpAddr::V6(address)),
            _ => None,
        })
        .collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// The loopback interface has this number everywhere.
const LOOPBACK: u32 = 1;

fn address_failed(address: IpAddr, error: &rtnetlink::Error) -> NetworkError {
    NetworkError::Failed { program: format!("address {address} on lo"), message: error.to_string() }
}

/// Puts an address on the loopback interface, for this machine only: nobody is told of it.
pub(crate) async fn add_local_address(address: IpAddr) -> Result<(), NetworkError> {
    let width = if address.is_ipv4() { 32 } else { 128 };
    let added = connected(|handle| async move {
        let mut request = handle.address().add(LOOPBACK, address, width).replace();
        request.message_mut().header.scope = AddressScope::Host;
        request.execute().await
    });
    added.await?.map_err(|error| address_failed(address, &error))
}

pub(crate) async fn remove_local_address(address: IpAddr) -> Result<(), NetworkError> {
    let removed = connected(|handle| async move {
        let found: Vec<_> =
            handle.address().get().set_link_index_filter(LOOPBACK).execute().try_collect().await?;
        let has_it = |attribute: &AddressAttribute| matches!(attribute, AddressAttribute::Local(it) | AddressAttribute::Address(it) if *it == address);
        for message in found.into_iter().filter(|message| message.attributes.iter().any(has_it)) {
            handle.address().del(message).execute().await?;
        }
        Ok::<_, rtnetlink::Error>(())
    });
    removed.await?.map_err(|error| address_failed(address, &error))
}

/// No such route, no such device, no such process (what the kernel says of a missing route).
fn is_absent(error: &rtnetlink::Error) -> bool {
    let rtnetlink::Error::NetlinkError(message) = error else { return false };
    let code = message.raw_code().abs();
    [nix::errno::Errno::ENOENT, nix::errno::Errno::ESRCH, nix::errno::Errno::ENODEV]
        .iter()
        .any(|errno| *errno as i32 == code)
}

/// Does something with a netlink connection of its own.
async fn connected<F: Future>(task: impl FnOnce(Handle) -> F) -> Result<F::Output, NetworkError> {
    let failed = |source| NetworkError::Run { program: "netlink".to_string(), source };
    let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
    let mut connection = std::pin::pin!(connection);
    let mut task = std::pin::pin!(task(handle));
    tokio::select! {
        outcome = &mut task => return Ok(outcome),
        () = &mut connection => {}
    }
    Ok(task.await)
}
