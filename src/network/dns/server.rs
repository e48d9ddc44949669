//! The ports: questions over UDP and TCP. What memory knows is answered at once, one after the other; what
//! must be asked elsewhere is a task of its own. Both are bounded; who is too many gets `SERVFAIL` (UDP) or
//! waits (TCP).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{Name, Record};
use parking_lot::RwLock;
use supervisor::{OnExit, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::message::{self, Content, Received, ValidQuery};
use super::metrics::{Metrics, Protocol};
use super::plan::Plan;
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
    pub(crate) plan: RwLock<Arc<Plan>>,
    pub(crate) metrics: Metrics,
    pub(crate) completeness: Completeness,
}

/// Questions that come before the zone is complete wait so long after the start, for whoever asks through a
/// restart. Shorter than clients wait.
const FIRST_WAIT: Duration = Duration::from_secs(4);

/// Whether everything that the API server knows is in the zone.
pub(crate) struct Completeness {
    is_complete: watch::Sender<bool>,
    waits_until: Instant,
}

impl Completeness {
    pub(crate) fn from_now() -> Self {
        Completeness { is_complete: watch::Sender::new(false), waits_until: Instant::now() + FIRST_WAIT }
    }

    pub(crate) fn is_complete(&self) -> bool {
        *self.is_complete.borrow()
    }

    pub(crate) fn complete(&self) {
        self.is_complete.send_replace(true);
    }

    /// Returns once it is, or too much time has passed.
    async fn wait(&self) {
        let mut is_complete = self.is_complete.subscribe();
        let _ = tokio::time::timeout_at(self.waits_until, is_complete.wait_for(|is| *is)).await;
    }
}

/// How far a question was answered at once.
enum LookedUp {
    Done(Content),
    /// The rest is to be asked elsewhere; these records come first.
    Ask(Vec<Record>, Name, Arc<Upstreams>),
    /// The zone is not complete yet.
    TooEarly,
}

impl Server {
    /// What memory knows.
    fn look_up(&self, asked: &ValidQuery) -> LookedUp {
        let (plan, zone) = (self.plan.read().clone(), self.zone.read());
        let (mut before, mut name) = (Vec::new(), asked.query.name().clone());
        let failed = || LookedUp::Done(Content::of_code(ResponseCode::ServFail));
        for _ in 0..LONGEST_CHAIN {
            let Some((block, upstreams)) = plan.block(&name) else {
                return LookedUp::Done(Content::of_code(ResponseCode::Refused));
            };
            let mut answer = block.listed(&name, asked.query.query_type());
            let is_listed = answer.is_some();
            if answer.is_none() && block.has_cluster {
                answer = Some(zone.answer(&name, asked.query.query_type()));
            }
            let answer = answer.unwrap_or(Answer::Elsewhere);
            if answer == Answer::Elsewhere {
                let asks = block.forward(&name).and_then(|at| upstreams.get(at));
                return asks.map_or_else(failed, |asks| LookedUp::Ask(before, name, asks.clone()));
            }
            if !is_listed && !self.completeness.is_complete() {
                return LookedUp::TooEarly;
            }
            let authority = || zone.authority().filter(|_| !is_listed);
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
                Answer::NoData => content.authorities.extend(authority()),
                Answer::NoName => {
                    content.code = ResponseCode::NXDomain;
                    content.authorities.extend(authority());
                }
                Answer::Elsewhere => {}
            }
            content.answers = before;
            return LookedUp::Done(content);
        }
        failed()
    }

    /// Asks elsewhere.
    async fn ask(
        &self,
        asked: &ValidQuery,
        before: Vec<Record>,
        name: Name,
        upstreams: &Upstreams,
    ) -> Content {
        if self.plan.read().upstreams().any(|upstreams| upstreams.is_own(asked)) {
            tracing::warn!(name = %asked.query.name(), "a question of ours came back: a name server of the host leads to us");
            return Content::of_code(ResponseCode::ServFail);
        }
        let mut query = Query::query(name, asked.query.query_type());
        query.set_query_class(asked.query.query_class());
        let mut content = upstreams.ask(&asked.about(query)).await;
        content.answers.splice(0..0, before);
        content
    }

    /// The whole answer.
    pub(crate) async fn answer(&self, asked: &ValidQuery) -> Content {
        self.complete_answer(asked, self.look_up(asked)).await
    }

    /// The whole answer, of which so much is known.
    async fn complete_answer(&self, asked: &ValidQuery, looked_up: LookedUp) -> Content {
        let looked_up = match looked_up {
            LookedUp::TooEarly => {
                self.completeness.wait().await;
                self.look_up(asked)
            }
            looked_up => looked_up,
        };
        match looked_up {
            LookedUp::Done(content) => content,
            LookedUp::Ask(before, name, upstreams) => self.ask(asked, before, name, &upstreams).await,
            LookedUp::TooEarly => Content::of_code(ResponseCode::ServFail),
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
                Received::ValidQuery(asked) => asked,
                Received::Refused(answer) => {
                    let _ = socket.send_to(&answer, client).await;
                    continue;
                }
                Received::Nothing => continue,
            };
            let began = self.metrics.asked(&asked, Protocol::Udp, client.ip());
            let content = match self.look_up(&asked) {
                LookedUp::Done(content) => content,
                looked_up => {
                    if let Ok(place) = places.clone().try_acquire_owned() {
                        let (server, socket) = (self.clone(), socket.clone());
                        stage.spawn_cancellable("question of DNS", OnExit::Done, async move {
                            let content = server.complete_answer(&asked, looked_up).await;
                            server.metrics.answered(began, content.code);
                            send(&socket, &asked, content, client).await;
                            drop(place);
                        });
                        continue;
                    }
                    Content::of_code(ResponseCode::ServFail)
                }
            };
            self.metrics.answered(began, content.code);
            send(&socket, &asked, content, client).await;
        }
    }

    /// Answers over TCP for ever.
    pub(crate) async fn serve_tcp(self: Arc<Self>, listener: TcpListener, stage: Stage) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let Ok((stream, client)) = listener.accept().await else {
                // Out of file descriptors: those who have some must get a chance to give them back.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let server = self.clone();
            stage.spawn_cancellable("connection of DNS", OnExit::Done, async move {
                let _ = server.converse(stream, client).await;
                drop(place);
            });
        }
    }

    async fn converse(&self, mut stream: TcpStream, client: SocketAddr) -> std::io::Result<()> {
        loop {
            let reading = async {
                let length = stream.read_u16().await?;
                let mut bytes = vec![0; usize::from(length)];
                stream.read_exact(&mut bytes).await?;
                Ok::<_, std::io::Error>(bytes)
            };
            let Ok(bytes) = tokio::time::timeout(SILENCE, reading).await else { return Ok(()) };
            let answer = match message::read(&bytes?) {
                Received::ValidQuery(asked) => {
                    let began = self.metrics.asked(&asked, Protocol::Tcp, client.ip());
                    let content = self.answer(&asked).await;
                    self.metrics.answered(began, content.code);
                    asked.answer(content, true)
                }
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

async fn send(socket: &UdpSocket, asked: &ValidQuery, content: Content, client: SocketAddr) {
    if let Some(bytes) = asked.answer(content, false) {
        let _ = socket.send_to(&bytes, client).await;
    }
}
