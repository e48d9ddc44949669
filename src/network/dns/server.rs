//! The ports: questions over UDP and TCP. What memory knows is answered at once, one after the other; what
//! must be asked elsewhere is a task of its own. Both are bounded; who is too many gets `SERVFAIL` (UDP) or
//! waits (TCP).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{Name, Record};
use parking_lot::RwLock;
use supervisor::{OnExit, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::message::{self, Asked, Content, Received};
use super::upstream::Upstreams;
use super::zone::{Answer, Zone};

/// Questions over UDP that wait for others' answers.
const WAITING: usize = 1024;
const CONNECTIONS: usize = 128;
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// Names that are others' names are followed this far.
const LONGEST_CHAIN: usize = 8;

pub(crate) struct Server {
    pub(crate) zone: RwLock<Zone>,
    pub(crate) upstreams: Upstreams,
    /// Everything that the API server knows is in the zone.
    pub(crate) is_ready: AtomicBool,
}

/// How far a question was answered at once.
enum LookedUp {
    Done(Content),
    /// The rest is to be asked elsewhere; these records come first.
    Ask(Vec<Record>, Name),
}

impl Server {
    /// What memory knows.
    fn look_up(&self, asked: &Asked) -> LookedUp {
        let zone = self.zone.read();
        let (mut before, mut name) = (Vec::new(), asked.query.name().clone());
        for _ in 0..LONGEST_CHAIN {
            let answer = zone.answer(&name, asked.query.query_type());
            if answer == Answer::Elsewhere {
                return LookedUp::Ask(before, name);
            }
            if !self.is_ready.load(Relaxed) {
                return LookedUp::Done(Content::of_code(ResponseCode::ServFail));
            }
            let mut content = Content { authoritative: true, ..Content::default() };
            match answer {
                Answer::Alias(record, target) => {
                    before.push(*record);
                    if asked.query.query_type() != hickory_proto::rr::RecordType::CNAME {
                        name = target;
                        continue;
                    }
                }
                Answer::Records(answers, additionals) => {
                    before.extend(answers);
                    content.additionals = additionals;
                }
                Answer::NoData => content.authorities.extend(zone.authority()),
                Answer::NoName => {
                    content.code = ResponseCode::NXDomain;
                    content.authorities.extend(zone.authority());
                }
                Answer::Elsewhere => {}
            }
            content.answers = before;
            return LookedUp::Done(content);
        }
        LookedUp::Done(Content::of_code(ResponseCode::ServFail))
    }

    /// Asks elsewhere.
    async fn ask(&self, asked: &Asked, before: Vec<Record>, name: Name) -> Content {
        if self.upstreams.is_own(asked) {
            tracing::warn!(name = %asked.query.name(), "a question of ours came back: a name server of the host leads to us");
            return Content::of_code(ResponseCode::ServFail);
        }
        let mut query = Query::query(name, asked.query.query_type());
        query.set_query_class(asked.query.query_class());
        let mut content = self.upstreams.ask(&asked.about(query)).await;
        content.answers.splice(0..0, before);
        content
    }

    /// The whole answer.
    pub(crate) async fn answer(&self, asked: &Asked) -> Content {
        match self.look_up(asked) {
            LookedUp::Done(content) => content,
            LookedUp::Ask(before, name) => self.ask(asked, before, name).await,
        }
    }

    /// Answers over UDP for ever.
    pub(crate) async fn serve_udp(self: Arc<Self>, socket: UdpSocket, stage: Stage) {
        let (socket, places) = (Arc::new(socket), Arc::new(Semaphore::new(WAITING)));
        let mut buffer = vec![0; 4096];
        loop {
            // An error is about an earlier answer whose client is gone.
            let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
            let asked = match message::read(&buffer[..length]) {
                Received::Asked(asked) => asked,
                Received::Refused(answer) => {
                    let _ = socket.send_to(&answer, client).await;
                    continue;
                }
                Received::Nothing => continue,
            };
            let content = match self.look_up(&asked) {
                LookedUp::Done(content) => content,
                LookedUp::Ask(before, name) => {
                    if let Ok(place) = places.clone().try_acquire_owned() {
                        let (server, socket) = (self.clone(), socket.clone());
                        stage.spawn_cancellable("question of DNS", OnExit::Done, async move {
                            let content = server.ask(&asked, before, name).await;
                            send(&socket, &asked, content, client).await;
                            drop(place);
                        });
                        continue;
                    }
                    Content::of_code(ResponseCode::ServFail)
                }
            };
            send(&socket, &asked, content, client).await;
        }
    }

    /// Answers over TCP for ever.
    pub(crate) async fn serve_tcp(self: Arc<Self>, listener: TcpListener, stage: Stage) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of file descriptors: those who have some must get a chance to give them back.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let server = self.clone();
            stage.spawn_cancellable("connection of DNS", OnExit::Done, async move {
                let _ = server.converse(stream).await;
                drop(place);
            });
        }
    }

    async fn converse(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let reading = async {
                let length = stream.read_u16().await?;
                let mut bytes = vec![0; usize::from(length)];
                stream.read_exact(&mut bytes).await?;
                Ok::<_, std::io::Error>(bytes)
            };
            let Ok(bytes) = tokio::time::timeout(SILENCE, reading).await else { return Ok(()) };
            let answer = match message::read(&bytes?) {
                Received::Asked(asked) => asked.answer(self.answer(&asked).await, true),
                Received::Refused(answer) => Some(answer),
                Received::Nothing => return Ok(()),
            };
            let Some(answer) = answer else { return Ok(()) };
            let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
            let whole = [&length.to_be_bytes(), answer.as_slice()].concat();
            match tokio::time::timeout(SILENCE, stream.write_all(&whole)).await {
                Ok(written) => written?,
                Err(_) => return Ok(()),
            }
        }
    }
}

async fn send(socket: &UdpSocket, asked: &Asked, content: Content, client: SocketAddr) {
    if let Some(bytes) = asked.answer(content, false) {
        let _ = socket.send_to(&bytes, client).await;
    }
}
