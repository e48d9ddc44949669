//! Names that are not the cluster's: asked of other name servers, all at once, and kept for as long as they
//! say.
//!
//! The servers are those that the Corefile names: as a rule those of `/etc/resolv.conf`, or of
//! systemd-resolved where that names only its stub. The file is looked at whenever something must be asked
//! and it has changed. A server that is this one is passed over, and a question that comes back to us while
//! we wait for its answer is a loop and is refused. What waits and what is kept is bounded.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::corefile::Target;
use super::message::{Content, ValidQuery, read_answer};

const MOST_SERVERS: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;
/// Questions that wait for name servers at a time.
const IN_FLIGHT: usize = 1024;
/// Answers that are kept: twice as many.
const KEPT: usize = 5_000;

/// What is known of the machine.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// What systemd-resolved forwards to.
    pub(crate) resolved_conf: PathBuf,
    /// The port of all servers.
    pub(crate) port: u16,
}

pub(crate) struct Upstreams {
    targets: Vec<Target>,
    files: Files,
    own: Vec<IpAddr>,
    servers: Mutex<Known>,
    cache: Mutex<Cache>,
    /// For how many seconds an answer is kept at most; 0 keeps none.
    longest_kept: u32,
    hits: Mutex<Hits>,
    places: Semaphore,
    /// Numbers and names of questions that wait.
    sent: Mutex<HashSet<(u16, Name)>>,
}

/// When the files that name servers were last changed, and the servers.
type Known = (Vec<Option<SystemTime>>, Vec<SocketAddr>);

/// What was answered from memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hits {
    pub(crate) success: u64,
    pub(crate) denial: u64,
    pub(crate) misses: u64,
}

/// The name servers of a `resolv.conf`, without our own addresses.
pub(crate) fn servers(text: &str, own: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    let named =
        text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.split_whitespace().next());
    // `fe80::1%eth0` has a zone, which only the C library knows to follow.
    let parsed = named.filter_map(|address| address.parse::<IpAddr>().ok());
    let others = parsed.filter(|address| !own.contains(address));
    others.take(MOST_SERVERS).map(|address| SocketAddr::new(address, port)).collect()
}

/// systemd-resolved's own addresses, behind which are the real servers.
fn is_stub(server: &SocketAddr) -> bool {
    [[127, 0, 0, 53], [127, 0, 0, 54]].iter().any(|stub| server.ip() == IpAddr::from(*stub))
}

impl Upstreams {
    /// Those that `targets` name. No server is asked at an address of ours.
    pub(crate) fn new(targets: Vec<Target>, files: Files, own: Vec<IpAddr>, longest_kept: u32) -> Self {
        Upstreams {
            targets,
            files,
            own,
            servers: Mutex::default(),
            cache: Mutex::default(),
            longest_kept,
            hits: Mutex::default(),
            places: Semaphore::new(IN_FLIGHT),
            sent: Mutex::default(),
        }
    }

    /// Whether a question is one of ours that has come back.
    pub(crate) fn is_own(&self, asked: &ValidQuery) -> bool {
        self.sent.lock().contains(&(asked.id(), asked.query.name().clone()))
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let modified = |target: &Target| match target {
            Target::File(path) => std::fs::metadata(path).and_then(|it| it.modified()).ok(),
            Target::Server(_) => Some(SystemTime::UNIX_EPOCH),
        };
        let changed: Vec<Option<SystemTime>> = self.targets.iter().map(modified).collect();
        let mut known = self.servers.lock();
        if known.0 != changed || changed.contains(&None) {
            let read = |path: &PathBuf| {
                servers(&std::fs::read_to_string(path).unwrap_or_default(), &self.own, self.files.port)
            };
            let mut found = Vec::new();
            for target in &self.targets {
                match target {
                    Target::Server(server) => {
                        found.extend(Some(*server).filter(|server| !self.own.contains(&server.ip())));
                    }
                    Target::File(path) => {
                        let named = read(path);
                        let is_stubs = !named.is_empty() && named.iter().all(is_stub);
                        let real = if is_stubs { read(&self.files.resolved_conf) } else { Vec::new() };
                        found.extend(if real.is_empty() { named } else { real });
                    }
                }
            }
            if known.1 != found {
                tracing::info!(servers = ?found, "names outside the cluster are asked of these");
            }
            *known = (changed, found);
        }
        known.1.clone()
    }

    pub(crate) fn hits(&self) -> Hits {
        *self.hits.lock()
    }

    /// Answers that are kept now.
    pub(crate) fn kept_count(&self) -> usize {
        self.cache.lock().len()
    }

    /// The answer from memory, if there is one.
    pub(crate) fn kept(&self, asked: &ValidQuery) -> Option<Content> {
        self.cache.lock().get(&key(asked), Instant::now())
    }

    /// Asks the name servers. The first answer that says something counts.
    pub(crate) async fn ask(&self, asked: &ValidQuery) -> Content {
        if let Some(content) = self.kept(asked) {
            let mut hits = self.hits.lock();
            if content.answers.is_empty() {
                hits.denial += 1
            } else {
                hits.success += 1
            }
            return content;
        }
        self.hits.lock().misses += 1;
        let failed = || Content::of_code(ResponseCode::ServFail);
        let Ok(_place) = self.places.try_acquire() else { return failed() };
        let servers = self.servers();
        for _ in 0..ROUNDS {
            let mut answers: FuturesUnordered<_> =
                servers.iter().map(|server| self.ask_one(*server, asked)).collect();
            while let Some(answer) = answers.next().await {
                let Ok(content) = answer else { continue };
                if matches!(content.code, ResponseCode::NoError | ResponseCode::NXDomain) {
                    self.cache.lock().keep(key(asked), &content, Instant::now(), self.longest_kept);
                    return content;
                }
            }
        }
        failed()
    }

    async fn ask_one(&self, server: SocketAddr, asked: &ValidQuery) -> io::Result<Content> {
        let id: u16 = rand::random();
        let mark = (id, asked.query.name().clone());
        let bytes = asked.forwarded(id).ok_or(io::ErrorKind::InvalidInput)?;
        self.sent.lock().insert(mark.clone());
        // Also when nobody waits any more, because another server was quicker.
        let _sent = Sent { all: &self.sent, mark };
        let asking = exchange(server, &bytes, id, &asked.query);
        tokio::time::timeout(TIMEOUT, asking).await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}

struct Sent<'a> {
    all: &'a Mutex<HashSet<(u16, Name)>>,
    mark: (u16, Name),
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.all.lock().remove(&self.mark);
    }
}

/// One question to one server: over UDP from a port of its own, and over TCP if the answer was cut.
async fn exchange(server: SocketAddr, bytes: &[u8], id: u16, query: &Query) -> io::Result<Content> {
    let from: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((from, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Anything else on this port was not meant for us.
        let Some((content, cut)) = read_answer(&buffer[..length], id, query) else { continue };
        return if cut { over_tcp(server, bytes, id, query).await } else { Ok(content) };
    }
}

async fn over_tcp(server: SocketAddr, bytes: &[u8], id: u16, query: &Query) -> io::Result<Content> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    let (content, _) = read_answer(&answer, id, query).ok_or(io::ErrorKind::InvalidData)?;
    Ok(content)
}

/// What an answer is kept under: name, type, and whether DNSSEC records were wanted.
type Key = (Name, RecordType, bool);

fn key(asked: &ValidQuery) -> Key {
    (asked.query.name().to_lowercase(), asked.query.query_type(), asked.wants_dnssec())
}

/// Answers with the time from which they are old. Two halves: when the younger one is full it becomes the
/// older, and what nobody has asked for again meanwhile is forgotten.
#[derive(Default)]
pub(crate) struct Cache {
    young: HashMap<Key, (Instant, u32, Content)>,
    old: HashMap<Key, (Instant, u32, Content)>,
}

impl Cache {
    pub(crate) fn get(&mut self, key: &Key, now: Instant) -> Option<Content> {
        if let Some(entry) = self.old.remove(key) {
            self.insert(key.clone(), entry);
        }
        let (since, ttl, content) = self.young.get(key)?;
        let age = now.saturating_duration_since(*since).as_secs() as u32;
        if age >= *ttl {
            self.young.remove(key);
            return None;
        }
        let mut content = content.clone();
        let all = content.answers.iter_mut().chain(&mut content.authorities).chain(&mut content.additionals);
        all.for_each(|record| record.ttl = record.ttl.saturating_sub(age));
        Some(content)
    }

    pub(crate) fn keep(&mut self, key: Key, content: &Content, now: Instant, longest: u32) {
        if let Some(ttl) = lifetime(content).map(|ttl| ttl.min(longest)).filter(|ttl| *ttl > 0) {
            self.insert(key, (now, ttl, content.clone()));
        }
    }

    fn insert(&mut self, key: Key, entry: (Instant, u32, Content)) {
        if self.young.len() >= KEPT {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, entry);
    }

    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// For how many seconds an answer is good: an absence as long as the zone says (RFC 2308).
fn lifetime(content: &Content) -> Option<u32> {
    let shortest = content.answers.iter().map(|record| record.ttl).min();
    let absence = || {
        content.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        })
    };
    let is_absence = content.answers.is_empty() || content.code == ResponseCode::NXDomain;
    if is_absence { absence() } else { shortest }
}

#[cfg(test)]
mod tests;
