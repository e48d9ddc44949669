//! Netfilter's part of netlink, as far as the proxy speaks it: flows of conntrack, news of tables, and
//! changes of their elements.
//!
//! A few hundred bytes of format (linux/netfilter/nfnetlink*.h) instead of the `conntrack` program, which few
//! machines have.

pub(crate) mod elements;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, Socket, SocketAddr, TokioSocket};

const HEADER: usize = 16;
/// Follows the header: family, version, resource.
const EXTRA: usize = 4;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;

const ERROR: u16 = 2;
const DONE: u16 = 3;

const CONNTRACK: u16 = 1 << 8;
const CT_GET: u16 = CONNTRACK | 1;
const CT_DELETE: u16 = CONNTRACK | 2;

const TABLES: u16 = 10 << 8;
const NEW_TABLE: u16 = TABLES;
const DELETED_TABLE: u16 = TABLES | 2;
const DELETED_CHAIN: u16 = TABLES | 5;
const DELETED_RULE: u16 = TABLES | 8;
const NEW_GENERATION: u16 = TABLES | 15;
const NEW_ELEMENTS: u16 = TABLES | 12;
const DELETE_ELEMENTS: u16 = TABLES | 14;

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const CREATE: u16 = 0x400;

/// One message: its type, its family and what follows.
struct Message<'a> {
    kind: u16,
    family: u8,
    body: &'a [u8],
}

fn number16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn number32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn aligned(length: usize) -> usize {
    (length + 3) & !3
}

/// The messages of a datagram. What does not fit its own length ends the walk.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = number32(rest)? as usize;
        let kind = number16(rest.get(4..)?)?;
        let body = rest.get(HEADER..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        let (family, body) = match kind {
            ERROR | DONE => (0, body),
            _ => (*body.first()?, body.get(EXTRA..)?),
        };
        Some(Message { kind, family, body })
    })
}

/// The attributes of a message: type and content.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = number16(rest)? as usize;
        let kind = number16(rest.get(2..)?)?;
        let content = rest.get(4..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        // The upper bits say "nested" and "network byte order".
        Some((kind & 0x3fff, content))
    })
}

fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, content)| content)
}

fn request(kind: u16, flags: u16, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_message(kind, flags, [family, 0, 0, 0], body, &mut bytes);
    bytes
}

/// Appends a message; `extra` is family, version and resource.
fn write_message(kind: u16, flags: u16, extra: [u8; EXTRA], body: &[u8], into: &mut Vec<u8>) {
    into.extend(((HEADER + EXTRA + body.len()) as u32).to_ne_bytes());
    into.extend(kind.to_ne_bytes());
    into.extend((REQUEST | flags).to_ne_bytes());
    into.extend([0; 8]);
    into.extend(extra);
    into.extend(body);
    into.resize(aligned(into.len()), 0);
}

fn write_attribute(kind: u16, content: &[u8], into: &mut Vec<u8>) {
    into.extend((4 + content.len() as u16).to_ne_bytes());
    into.extend(kind.to_ne_bytes());
    into.extend(content);
    into.resize(aligned(into.len()), 0);
}

const UDP: u8 = 17;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ZONE: u16 = 18;
const NESTED: u16 = 0x8000;

/// One direction of a flow.
struct Tuple {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
}

impl Tuple {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (addresses, ports) = (attribute(bytes, 1)?, attribute(bytes, 2)?);
        let address = |v4: u16, v6: u16| -> Option<IpAddr> {
            if let Some(bytes) = attribute(addresses, v4) {
                return Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into());
            }
            Some(Ipv6Addr::from(*attribute(addresses, v6)?.first_chunk::<16>()?).into())
        };
        let port = |kind: u16| attribute(ports, kind)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
        Some(Tuple {
            source: address(1, 3)?,
            destination: address(2, 4)?,
            protocol: *attribute(ports, 1)?.first()?,
            source_port: port(2).unwrap_or(0),
            destination_port: port(3).unwrap_or(0),
        })
    }
}

/// UDP frontends, and to what endpoints their flows may lead.
pub(crate) type Flows = BTreeMap<(IpAddr, u16), BTreeSet<std::net::SocketAddr>>;

/// What deletes the flow of a message, if it leads where it must not.
fn deletion(message: &Message<'_>, allowed: &Flows) -> Option<Vec<u8>> {
    let original = attribute(message.body, TUPLE_ORIGINAL)?;
    let tuple = Tuple::parse(original)?;
    let reply = Tuple::parse(attribute(message.body, TUPLE_REPLY)?)?;
    let endpoints = allowed.get(&(tuple.destination, tuple.destination_port))?;
    if tuple.protocol != UDP || endpoints.contains(&(reply.source, reply.source_port).into()) {
        return None;
    }
    let mut body = Vec::new();
    write_attribute(TUPLE_ORIGINAL | NESTED, original, &mut body);
    if let Some(zone) = attribute(message.body, ZONE) {
        write_attribute(ZONE, zone, &mut body);
    }
    Some(request(CT_DELETE, ACK, message.family, &body))
}

/// Sends a request and hands every message of the answer to `take`, to the end.
fn ask(socket: &Socket, request: &[u8], mut take: impl FnMut(&Message<'_>)) -> io::Result<()> {
    socket.send(request, 0)?;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        for message in messages(&bytes) {
            match message.kind {
                DONE => return Ok(()),
                ERROR => {
                    let code = number32(message.body).unwrap_or(0) as i32;
                    return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
                _ => take(&message),
            }
        }
        if bytes.is_empty() {
            return Ok(());
        }
    }
}

/// Forgets the UDP flows of these frontends that lead to none of their endpoints, and says how many there
/// were: their packets would go there for as long as the client keeps sending. Blocks for as long as the
/// kernel takes to tell of all flows.
pub(crate) fn forget_stale_flows(family: u8, allowed: &Flows) -> io::Result<usize> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut deletions = Vec::new();
    ask(&socket, &request(CT_GET, DUMP, family, &[]), |message| {
        deletions.extend(deletion(message, allowed));
    })?;
    let mut count = 0;
    for request in &deletions {
        match ask(&socket, request, |_| {}) {
            Ok(()) => count += 1,
            // It has run out meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Changes of tables that the kernel makes together or not at all.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    messages: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        let mut batch = Batch { bytes: Vec::new(), messages: 0 };
        batch.bracket(BATCH_BEGIN);
        batch
    }

    /// Says whose messages come between: those of tables.
    fn bracket(&mut self, kind: u16) {
        let [high, low] = (TABLES >> 8).to_be_bytes();
        write_message(kind, 0, [0, 0, high, low], &[], &mut self.bytes);
    }

    /// Adds a change of a table of a family.
    pub(crate) fn add(&mut self, kind: u16, family: u8, body: &[u8]) {
        let flags = if kind == NEW_ELEMENTS { ACK | CREATE } else { ACK };
        write_message(kind, flags, [family, 0, 0, 0], body, &mut self.bytes);
        self.messages += 1;
    }

    /// Carries the changes out. The kernel does so, and answers, before the call that sends them returns.
    fn send(mut self, socket: &Socket) -> io::Result<()> {
        self.bracket(BATCH_END);
        socket.send(&self.bytes, 0)?;
        let mut answered = 0;
        while answered < self.messages {
            let (bytes, _) = match socket.recv_from_full() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::other("the kernel has not answered to each change"));
                }
                answer => answer?,
            };
            for message in messages(&bytes).filter(|message| message.kind == ERROR) {
                let code = number32(message.body).unwrap_or(0) as i32;
                if code != 0 {
                    return Err(io::Error::from_raw_os_error(-code));
                }
                answered += 1;
            }
        }
        Ok(())
    }
}

/// Where batches go. The socket stays open: the kernel lets whoever closes one wait until everything that was
/// deleted is no longer looked at, which takes ten to twenty milliseconds.
#[derive(Default)]
pub(crate) struct Tables {
    socket: Mutex<Option<Socket>>,
}

impl Tables {
    /// Carries a batch out, one at a time.
    pub(crate) fn change(&self, batch: Batch) -> io::Result<()> {
        let mut kept = self.socket.lock();
        let socket = match kept.take() {
            Some(socket) => socket,
            None => Self::open()?,
        };
        // After a failure answers may be left in it: the next batch gets another.
        batch.send(&socket)?;
        *kept = Some(socket);
        Ok(())
    }

    fn open() -> io::Result<Socket> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        // An answer of failure repeats no more than the header of what failed.
        socket.set_cap_ack(true)?;
        Ok(socket)
    }
}

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Group of netlink that is told of every change of tables.
const TABLE_NEWS: u32 = 1 << (7 - 1);

/// Listens for tables being emptied or removed.
pub(crate) struct TableNews {
    socket: TokioSocket,
}

/// What has happened to a table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The table of this family (as netlink numbers it) is gone, or one of the chains that are always there
    /// was emptied.
    Of(u8),
    /// News were lost: anything may have happened.
    Unknown,
}

impl TableNews {
    pub(crate) fn listen() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind(&SocketAddr::new(0, TABLE_NEWS))?;
        Ok(TableNews { socket })
    }

    /// Waits until a table of this name was emptied or removed, and not made again in the same transaction.
    pub(crate) async fn next_loss(&mut self, table: &str, kept_chains: &[&str]) -> io::Result<Loss> {
        let mut transaction = Transaction::default();
        loop {
            let bytes = match self.socket.recv_from_full().await {
                Ok((bytes, _)) => bytes,
                Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32) => {
                    return Ok(Loss::Unknown);
                }
                Err(error) => return Err(error),
            };
            for message in messages(&bytes) {
                if let Some(family) = transaction.take(&message, table, kept_chains) {
                    return Ok(Loss::Of(family));
                }
            }
        }
    }
}

/// Tells for ever when a table was removed or emptied, and when that may have happened unnoticed.
pub(crate) async fn follow_table(table: String, kept_chains: &[&str], tell: impl Fn(&Loss)) {
    let mut delay = FIRST_RETRY;
    loop {
        let error = match TableNews::listen() {
            Ok(mut news) => loop {
                match news.next_loss(&table, kept_chains).await {
                    Ok(loss) => {
                        delay = FIRST_RETRY;
                        tell(&loss);
                    }
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        tracing::warn!(%error, retry = ?delay, "the kernel does not tell of changed rules");
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LONGEST_RETRY);
        tell(&Loss::Unknown);
    }
}

/// What a transaction has done so far.
#[derive(Default)]
struct Transaction {
    lost: Option<u8>,
}

impl Transaction {
    /// The family whose table is lost, once the transaction is over.
    fn take(&mut self, message: &Message<'_>, table: &str, kept_chains: &[&str]) -> Option<u8> {
        let text = |kind: u16| {
            let bytes = attribute(message.body, kind)?;
            std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
        };
        let is_ours = text(1) == Some(table);
        match message.kind {
            NEW_TABLE if is_ours => self.lost = None,
            DELETED_TABLE if is_ours => self.lost = Some(message.family),
            DELETED_RULE if is_ours && text(2).is_some_and(|chain| kept_chains.contains(&chain)) => {
                self.lost = Some(message.family);
            }
            DELETED_CHAIN if is_ours && text(3).is_some_and(|chain| kept_chains.contains(&chain)) => {
                self.lost = Some(message.family);
            }
            NEW_GENERATION => return self.lost.take(),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests;
