//! How a machine becomes a server. It proves that it has the server's token without showing it: the proof
//! counts for this one connection only. It gets the cluster's keys sealed by the token, so what comes from
//! anybody else does not open. Nothing is written before all of that has succeeded.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use agent::token::{Token, hash_of};
use agent::{Instance, Problem, files};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use embedded_store::group::Identity;
use embedded_store::snapshot::{seal, unseal};
use ring::hmac;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::frames::{self, Frame, REQUEST};
use super::{Flags, identity_text, tls};
use crate::snapshot::keys;

/// What the keys are sealed as.
const SEALED: &str = "keys of a server";
const EXPORTER: &[u8] = b"EXPORTER-minik8s-join";
/// The longest question: a name and flags, from whoever connects.
pub(super) const LONGEST_ASKED: usize = 16 << 10;
/// The largest message of this protocol.
pub(super) const LONGEST: usize = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The members may have to be changed for the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// What a machine says that wants to become a server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Asked {
    /// HMAC-SHA256 under the token's secret of what both ends of the connection know of it.
    pub(super) proof: String,
    pub(super) name: String,
    pub(super) flags: Flags,
    /// It wants the place of the server of its name.
    #[serde(default)]
    pub(super) again: bool,
    /// The member that it has the store of: cluster and identity.
    #[serde(default)]
    pub(super) before: Option<(String, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Given {
    /// The keys, sealed, and the cluster's identity.
    Keys {
        sealed: String,
        cluster: String,
    },
    Refused(String),
    /// It is a member already.
    Member,
}

/// How a machine comes to others.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Coming {
    /// For the first time.
    New,
    /// To take the place of the server of its name. It may have the store of an earlier member.
    Again(Option<Identity>),
}

/// Why a machine has not joined.
pub(crate) enum NotJoined {
    /// Nobody was there to ask.
    Unreached(Problem),
    Refused(Problem),
}

impl From<Problem> for NotJoined {
    fn from(problem: Problem) -> Self {
        NotJoined::Refused(problem)
    }
}

impl From<NotJoined> for Problem {
    fn from((NotJoined::Unreached(problem) | NotJoined::Refused(problem)): NotJoined) -> Problem {
        problem
    }
}

/// What is said to who has another token.
pub(super) const WRONG_TOKEN: &str = "the server does not accept the token";

fn key_of(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}

/// Whether the proof is one by this secret, of this connection.
pub(super) fn is_proof(secret: &str, exported: &[u8], proof: &str) -> bool {
    STANDARD.decode(proof).is_ok_and(|proof| hmac::verify(&key_of(secret), exported, &proof).is_ok())
}

/// What only the two ends of a connection know.
pub(super) fn exported<T>(connection: &rustls::ConnectionCommon<T>) -> io::Result<[u8; 32]> {
    connection.export_keying_material([0; 32], EXPORTER, None).map_err(io::Error::other)
}

/// The keys as they are handed out. Takes as long as deriving a key from the token. Blocks.
pub(super) fn sealed(instance: &Instance, secret: &str) -> Result<String, Problem> {
    let keys = keys::collect(instance)?;
    let sealed = seal(secret.as_bytes(), SEALED, &keys);
    sealed
        .map(|sealed| STANDARD.encode(sealed))
        .map_err(|error| Problem::new("seal the keys", error, "try again"))
}

/// `HOST:PORT` of a URL as `--server` takes it.
pub(super) fn authority(server: &str) -> Result<String, Problem> {
    let wrong = |why: &str| {
        Problem::new(format!("use the server {server:?}"), why, "give --server https://HOST:PORT")
    };
    let rest = server.strip_prefix("https://").ok_or_else(|| wrong("it does not begin with https://"))?;
    let rest = rest.trim_end_matches('/');
    if rest.is_empty() || rest.contains('/') {
        return Err(wrong("it is not a host and a port"));
    }
    let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port { rest.to_string() } else { format!("{rest}:6443") })
}

/// Gets the cluster's keys and writes them. Returns the cluster's identity.
pub(crate) async fn join(
    instance: &Instance,
    server: &str,
    token: Option<&str>,
    name: &str,
    flags: &Flags,
    coming: Coming,
) -> Result<u64, NotJoined> {
    let address = authority(server)?;
    let failed =
        |why: &dyn std::fmt::Display, advice: &str| Problem::new(format!("join {server}"), why, advice);
    let token = token.ok_or_else(|| {
        failed(&"no token is given", "give --token, as in the first server's DATA/server/token")
    })?;
    let token = Token::parse(token)?;
    let asked = ask(&address, &token.secret, name, flags, coming).await;
    let given = asked.map_err(|error| {
        let advice = "check the address, and that a server of this version runs there";
        NotJoined::Unreached(failed(&error, advice))
    })?;
    let (sealed, cluster) = match (given, coming) {
        (Given::Keys { sealed, cluster }, _) => (sealed, cluster),
        (Given::Member, Coming::Again(Some(known))) => return Ok(known.cluster),
        (Given::Refused(why), _) if why == WRONG_TOKEN => {
            return Err(failed(&why, "copy it whole from the first server's DATA/server/token").into());
        }
        (Given::Refused(why), _) => {
            return Err(failed(&why, "correct that and start again: nothing was written").into());
        }
        (Given::Member, _) => return Err(failed(&"its answer makes no sense", "upgrade that server").into()),
    };
    let cluster = super::parse_identity(&cluster)?;
    let secret = token.secret.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let sealed = STANDARD.decode(sealed).unwrap_or_default();
        unseal(secret.as_bytes(), SEALED, &sealed)
    });
    let opened = opened.await.map_err(|error| failed(&error, "try again"))?;
    let opened = opened.map_err(|_| {
        failed(&"what it sends is not sealed with the token", "this is another cluster's server, or none")
    })?;
    let mut contents = keys::parse(&opened)?;
    check_authority(&contents, &token, server)?;
    match coming {
        Coming::New => keys::check_absent(instance, &contents)?,
        Coming::Again(before) => {
            keys::check_authorities(instance, &contents)?;
            keys::keep_seal_keys(instance, &mut contents)?;
            if let Some(before) = before {
                set_aside(instance, before)?;
            }
        }
    }
    keys::write(instance, &contents)?;
    Ok(cluster)
}

/// Moves the store of an earlier member out of the way. Nothing of it is deleted.
fn set_aside(instance: &Instance, before: Identity) -> Result<(), Problem> {
    let store = instance.server_dir().join("store");
    let aside = instance.server_dir().join(format!("store.before-{}", identity_text(before.member)));
    files::rename(&store, &aside)?;
    tracing::warn!(place = %aside.display(), "the store of an earlier member is set aside: remove it once nobody misses anything");
    Ok(())
}

/// The token names the authority of its cluster.
fn check_authority(contents: &BTreeMap<String, String>, token: &Token, server: &str) -> Result<(), Problem> {
    let authority = contents.get("tls/server-ca.crt").map(|pem| hash_of(pem));
    match (&token.ca_hash, authority) {
        (Some(pinned), Some(found)) if *pinned != found => {
            let why = "the server's CA does not have the hash that the token demands";
            Err(Problem::new(
                format!("join {server}"),
                why,
                "check address and token: this may be another server",
            ))
        }
        (_, None) => Err(Problem::new(format!("join {server}"), "it has no authority", "check the address")),
        _ => Ok(()),
    }
}

async fn ask(address: &str, secret: &str, name: &str, flags: &Flags, coming: Coming) -> io::Result<Given> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, connect(address)).await;
    let mut stream = connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    let exported = exported(stream.get_ref().1)?;
    let proof = STANDARD.encode(hmac::sign(&key_of(secret), &exported));
    let (again, before) = match coming {
        Coming::New => (false, None),
        Coming::Again(before) => (true, before),
    };
    let before = before.map(|before| (identity_text(before.cluster), identity_text(before.member)));
    let asked = Asked { proof, name: name.to_string(), flags: flags.clone(), again, before };
    let content = serde_json::to_vec(&asked).map_err(io::Error::other)?;
    let exchange = async {
        frames::write(&mut stream, &Frame { number: 0, kind: REQUEST, content: content.into() }).await?;
        let answer = frames::read(&mut stream, LONGEST).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        serde_json::from_slice(&answer.content).map_err(io::Error::other)
    };
    let answered = tokio::time::timeout(ANSWER_TIMEOUT, exchange).await;
    answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn connect(address: &str) -> io::Result<TlsStream<TcpStream>> {
    let tls = tls::join_client().map_err(io::Error::other)?;
    let stream = TcpStream::connect(address).await?;
    let server = ServerName::try_from(tls::SERVER_NAME).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(tls)).connect(server, stream).await
}

/// The secret of the server's own token, as it is kept.
pub(crate) fn own_secret(instance: &Instance) -> Result<String, Problem> {
    let path = instance.server_dir().join("token");
    let text = files::read(&path)?.unwrap_or_default();
    Token::parse(&text).map(|token| token.secret)
}
