//! A listening socket with a long queue of connections that nobody has accepted yet.
//!
//! The runtime's own `bind` makes one for 128. When more clients than that dial in the same moment, as all
//! agents do after a restart, the kernel drops the rest, and each of them tries again after a whole second.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// As long as Go's, whose servers these stand in for; the kernel cuts it to `net.core.somaxconn`.
const QUEUE: u32 = 4096;

pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that was restarted need not wait for the connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

#[cfg(test)]
mod tests;
