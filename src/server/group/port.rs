//! What servers and machines that become servers are answered on the port of the API.

use std::sync::Arc;
use std::time::Duration;

use agent::Problem;
use apiserver::{OtherProtocols, OtherStream};
use embedded_store::group::LONGEST_MESSAGE;
use futures::FutureExt;
use futures::future::BoxFuture;
use supervisor::{Admission, ConnectionLimiter, ConnectionLimits, OnExit, Stage, Standing, WriteTimeout};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::LazyConfigAcceptor;

use super::frames::{self, ENGINE, Frame, HELLO, REQUEST};
use super::join::{self, Asked, Given};
use super::members::Servers;
use super::peers::{Hello, Welcome};
use super::{Answer, GROUP_PROTOCOL, JOIN_PROTOCOL, identity_text, parse_identity};

/// How long a silent connection may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A socket that takes nothing for so long has failed.
const STALLED: Duration = Duration::from_secs(30);
/// A wrong token is answered no sooner.
const WRONG_TOKEN_DELAY: Duration = Duration::from_millis(500);
/// Whose the connections of other servers are, for the limits of the port.
const SERVERS: &str = "servers";
/// After a failed accept.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

impl Servers {
    /// Serves the other servers on the API's port while the API is not there yet; clients of that are told
    /// to come again by the end of their connections. A server that is alone leaves them in the queue.
    pub(crate) async fn serve_while<T>(
        self: &Arc<Self>,
        listener: &TcpListener,
        limits: ConnectionLimits,
        starting: impl Future<Output = T>,
    ) -> T {
        if self.group().is_none() {
            return starting.await;
        }
        let begin = |stream, admission| Port(self.clone()).begin(stream, admission);
        tokio::select! {
            done = starting => done,
            never = accept(listener, limits, &self.stage, begin) => match never {},
        }
    }

    async fn serve_group(self: Arc<Self>, mut stream: OtherStream) -> std::io::Result<()> {
        let hello = tokio::time::timeout(HELLO_TIMEOUT, frames::read(&mut stream, LONGEST_MESSAGE)).await??;
        let Some(hello) = hello.filter(|frame| frame.kind == HELLO) else { return Ok(()) };
        let hello: Hello = serde_json::from_slice(&hello.content)?;
        let (welcome, from) = self.welcome(&hello);
        let content = serde_json::to_vec(&welcome)?.into();
        frames::write(&mut stream, &Frame { number: 0, kind: HELLO, content }).await?;
        let Some(from) = from else { return stream.shutdown().await };
        let (mut reading, mut writing) = tokio::io::split(stream);
        let (answers, mut outgoing) = mpsc::unbounded_channel();
        let mut working = JoinSet::new();
        working.spawn(async move {
            let _ = frames::write_all(&mut writing, &mut outgoing).await;
        });
        while let Some(frame) = frames::read(&mut reading, LONGEST_MESSAGE).await? {
            let (servers, answers) = (self.clone(), answers.clone());
            working.spawn(async move {
                let content = match (frame.kind, servers.group()) {
                    (ENGINE, Some(group)) => group.handle(from, &frame.content).await,
                    (REQUEST, _) => match serde_json::from_slice(&frame.content) {
                        Ok(request) => {
                            serde_json::to_vec(&servers.carry_out(&request).await).unwrap_or_default()
                        }
                        Err(error) => {
                            serde_json::to_vec(&Answer::Refused(error.to_string())).unwrap_or_default()
                        }
                    }
                    .into(),
                    // Without an answer the caller tries again.
                    _ => return,
                };
                let _ = answers.send(Frame { content, ..frame });
            });
            while working.try_join_next().is_some() {}
        }
        Ok(())
    }

    /// Whether the caller is of this cluster, and means this server.
    fn welcome(&self, hello: &Hello) -> (Welcome, Option<u64>) {
        let refused = |why: String| (Welcome::Refused(why), None);
        let (own, cluster) = match (self.group(), self.store()) {
            (Some(group), _) => (group.identity().member, group.identity().cluster),
            (None, Some(store)) => (store.status().store, store.status().store),
            (None, None) => return refused("the server is starting".to_string()),
        };
        if hello.cluster != identity_text(cluster) {
            return refused(format!("it is a server of the cluster {}", identity_text(cluster)));
        }
        if hello.to.as_ref().is_some_and(|to| *to != identity_text(own)) {
            return refused(format!("it is the server {}", identity_text(own)));
        }
        match parse_identity(&hello.from) {
            Ok(from) => (Welcome::Member(identity_text(own)), Some(from)),
            Err(problem) => refused(problem.to_string()),
        }
    }

    async fn serve_join(self: Arc<Self>, mut stream: OtherStream) -> std::io::Result<()> {
        let asked = frames::read(&mut stream, join::LONGEST_ASKED);
        let asked = tokio::time::timeout(HELLO_TIMEOUT, asked).await??;
        let Some(asked) = asked.filter(|frame| frame.kind == REQUEST) else { return Ok(()) };
        let asked: Asked = serde_json::from_slice(&asked.content)?;
        let exported = join::exported(stream.get_ref().1)?;
        let given = match self.give(&asked, &exported).await {
            Ok(given) => given,
            Err(problem) => Given::Refused(problem.to_string()),
        };
        let content = serde_json::to_vec(&given)?.into();
        frames::write(&mut stream, &Frame { number: 0, kind: REQUEST, content }).await?;
        stream.shutdown().await
    }

    async fn give(&self, asked: &Asked, exported: &[u8]) -> Result<Given, Problem> {
        let secret = join::own_secret(&self.instance)?;
        if !join::is_proof(&secret, exported, &asked.proof) {
            tokio::time::sleep(WRONG_TOKEN_DELAY).await;
            return Ok(Given::Refused(join::WRONG_TOKEN.to_string()));
        }
        if let Some((flag, own)) = self.flags.iter().find(|(flag, own)| asked.flags.get(*flag) != Some(own)) {
            let other = asked.flags.get(flag).map_or("nothing", String::as_str);
            let why = format!("--{flag} is {own} there and {other} here");
            return Ok(Given::Refused(why));
        }
        if let Some((cluster, member)) = &asked.before
            && self.has_member(cluster, member)
        {
            return Ok(Given::Member);
        }
        if asked.again {
            self.make_room(&asked.name).await?;
        } else if self.is_known(&asked.name) {
            return Ok(Given::Refused(format!(
                "a server called {:?} is there already: give --node-name, or --rejoin if that one is lost",
                asked.name
            )));
        }
        let cluster = match (self.group(), self.store()) {
            (Some(group), _) => group.identity().cluster,
            (None, Some(store)) => store.status().store,
            (None, None) => return Ok(Given::Refused("the server is starting: try again".to_string())),
        };
        let instance = self.instance.clone();
        let sealing = tokio::task::spawn_blocking(move || join::sealed(&instance, &secret));
        let sealed = sealing.await.map_err(|error| Problem::new("seal the keys", error, "try again"))??;
        Ok(Given::Keys { sealed, cluster: identity_text(cluster) })
    }
}

/// As the port of the API sees it.
pub(crate) struct Port(pub(crate) Arc<Servers>);

impl OtherProtocols for Port {
    fn tls(&self, hello: &rustls::server::ClientHello<'_>) -> Option<Arc<rustls::ServerConfig>> {
        let first = hello.alpn()?.next()?;
        match first {
            GROUP_PROTOCOL => Some(self.0.group_tls.clone()),
            JOIN_PROTOCOL => Some(self.0.join_tls.clone()),
            _ => None,
        }
    }

    fn serve(&self, stream: OtherStream) -> BoxFuture<'static, ()> {
        let servers = self.0.clone();
        let join = stream.get_ref().1.alpn_protocol() == Some(JOIN_PROTOCOL);
        async move {
            let served =
                if join { servers.serve_join(stream).await } else { servers.serve_group(stream).await };
            if let Err(error) = served {
                tracing::debug!(%error, "a connection between servers ended");
            }
        }
        .boxed()
    }
}

impl Port {
    async fn begin(self, stream: TcpStream, admission: Arc<Admission>) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let stream = WriteTimeout::new(stream, STALLED, Arc::default());
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
        let start = tokio::time::timeout(HELLO_TIMEOUT, start).await??;
        let Some(tls) = self.tls(&start.client_hello()) else { return Ok(()) };
        let stream = tokio::time::timeout(HELLO_TIMEOUT, start.into_stream(tls)).await??;
        if !stream.get_ref().1.peer_certificates().is_none_or(<[_]>::is_empty) {
            admission.identify(SERVERS, Standing::Reserved);
        }
        self.serve(stream).await;
        Ok(())
    }
}

/// Takes connections within the limits of the port: the server may wait for its majority for long, and who
/// floods it meanwhile must not use up the descriptors that the other members and the store need.
pub(super) async fn accept<F>(
    listener: &TcpListener,
    limits: ConnectionLimits,
    stage: &Stage,
    begin: impl Fn(TcpStream, Arc<Admission>) -> F,
) -> std::convert::Infallible
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let limiter = ConnectionLimiter::new(limits);
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                let Some(admission) = limiter.admit(address.ip()).map(Arc::new) else { continue };
                let served = begin(stream, admission.clone());
                stage.spawn_cancellable("connection between servers", OnExit::Done, async move {
                    tokio::select! {
                        () = admission.cut() => {}
                        outcome = served => if let Err(error) = outcome {
                            tracing::debug!(%error, "a connection came before the API is there");
                        },
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}
