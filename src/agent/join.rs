//! How a machine becomes a node of a cluster: trust the server by the token's hash, prove itself by the
//! token's secret once, and from then on by certificates of its own, which it renews while it runs. A token
//! lets no machine become a node that is there: one whose certificate has ended shows the old one with a
//! signature by its key.
//!
//! What was learned is kept, so a node starts without its server being there. Once it has joined, any of the
//! cluster's servers will do ([`crate::servers`]).

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::ObjectApi;
use client::https::{ClientCertificate, HttpsApi, HttpsConfig, Servers, Token as Bearer, user_agent};
use http_body_util::BodyExt;
use supervisor::{Clock, OnExit, Stage};

use crate::keys::{self, Ask, Pair, PairFiles, RequestError};
use crate::node::until_due;
use crate::problem::chain;
use crate::servers::KnownServers;
use crate::token::{Token, hash_of};
use crate::{Instance, Problem, files};

mod settings;

use settings::settings;
pub use settings::{ClusterSettings, SETTINGS_NAME, SETTINGS_NAMESPACE};

/// User whom the pod network reads all nodes as: upstream's, so that bootstrap RBAC applies.
pub const NETWORK_USER: &str = "system:kube-proxy";

/// What joining waits for, for whoever asks meanwhile. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Waiting(Arc<Mutex<Option<Obstacle>>>);

/// Why an attempt did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub why: String,
    /// Somebody must do something; time alone will not mend it.
    pub stays: bool,
}

impl Waiting {
    /// The last one; none while nothing has gone wrong.
    pub fn obstacle(&self) -> Option<Obstacle> {
        self.0.lock().map_or(None, |obstacle| obstacle.clone())
    }

    fn note(&self, obstacle: Option<Obstacle>) {
        if let Ok(mut noted) = self.0.lock() {
            *noted = obstacle;
        }
    }
}

/// A machine that belongs to a cluster.
pub struct Membership {
    /// The API as the node.
    pub node_api: Arc<dyn ObjectApi>,
    /// The API as one who may read all nodes.
    pub network_api: Arc<dyn ObjectApi>,
    pub settings: ClusterSettings,
    /// What servers' certificates lead to.
    pub server_ca_pem: String,
}

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
const SIGNING_TIMEOUT: Duration = Duration::from_secs(60);

/// Joins, or finds what an earlier start left. Waits for a server that is not there yet; gives up only on
/// what waiting cannot mend.
pub(crate) async fn join(
    instance: &Instance,
    server: &str,
    servers: &Arc<KnownServers>,
    token: Option<&str>,
    node_name: &str,
    waiting: &Waiting,
    stage: &Stage,
) -> Result<Membership, Problem> {
    let folder = instance.agent_dir();
    files::private_directory(&folder)?;
    let token = token.map(Token::parse).transpose()?;
    let ca_pem = trusted_ca(&folder, server, token.as_ref(), waiting).await?;
    let site = JoinTarget {
        server: server.to_string(),
        servers: servers.list(),
        ca_pem: ca_pem.clone(),
        token,
        node_name: node_name.to_string(),
        waiting: waiting.clone(),
    };

    let node_files = PairFiles::in_directory(&folder, "kubelet-client");
    let node_pair = site.pair(&node_files, NodeUser::Node, None).await?;
    let node_api = site.api(NodeUser::Node, Some(&node_pair), None)?;
    let settings = settings(&folder, &node_api, waiting).await?;
    let network_files = PairFiles::in_directory(&folder, "network-client");
    let network_pair = site.pair(&network_files, NodeUser::Network, Some(&node_api)).await?;
    let network_api = site.api(NodeUser::Network, Some(&network_pair), None)?;

    let (site, server_ca_pem) = (Arc::new(site), ca_pem);
    for (who, place, pair, api) in [
        (NodeUser::Node, node_files, node_pair, node_api.clone()),
        (NodeUser::Network, network_files, network_pair, network_api.clone()),
    ] {
        let renewal = renew(site.clone(), who, place, pair, node_api.clone(), api, stage.clock());
        stage.spawn_cancellable("renewal of a client certificate", OnExit::Stop, renewal);
    }
    let (node_api, network_api) = (Arc::new(node_api), Arc::new(network_api));
    Ok(Membership { node_api, network_api, settings, server_ca_pem })
}

/// Repeats a call until it succeeds or fails for a reason that time will not change.
async fn patiently<T>(
    what: &str,
    waiting: &Waiting,
    mut attempt: impl AsyncFnMut() -> Result<T, Attempt>,
) -> Result<T, Problem> {
    let mut delay = FIRST_RETRY;
    loop {
        match attempt().await {
            Ok(value) => {
                waiting.note(None);
                return Ok(value);
            }
            Err(Attempt::Final(problem)) => return Err(problem),
            Err(attempt) => {
                let stays = matches!(attempt, Attempt::Blocked(_));
                let (Attempt::Again(why) | Attempt::Blocked(why)) = attempt else { continue };
                tracing::warn!(why, retry = ?delay, "cannot {what} yet");
                waiting.note(Some(Obstacle { why: format!("it cannot {what}: {why}"), stays }));
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(LONGEST_RETRY);
            }
        }
    }
}

enum Attempt {
    /// Waiting may mend it.
    Again(String),
    /// Only somebody else may mend it.
    Blocked(String),
    Final(Problem),
}

/// The CA that the server's certificate must lead to: the one kept, or the one that `/cacerts` offers if the
/// token vouches for it.
async fn trusted_ca(
    folder: &Path,
    server: &str,
    token: Option<&Token>,
    waiting: &Waiting,
) -> Result<String, Problem> {
    let path = folder.join("server-ca.crt");
    let pinned = token.and_then(|token| token.ca_hash.as_deref());
    if let Some(kept) = files::read(&path)?
        && keys::first_certificate(&kept).is_ok()
    {
        if pinned.is_none_or(|hash| hash == hash_of(&kept)) {
            return Ok(kept);
        }
        // One that an attempt has left which did not get as far as a certificate binds nobody.
        if folder.join("kubelet-client.crt").exists() {
            let why = "the token belongs to another cluster than the one this node has joined";
            let advice = "use the right token, or another --data-dir";
            return Err(Problem::new(format!("join {server}"), why, advice));
        }
    }
    if token.is_none() {
        return Err(Problem::new(format!("join {server}"), "no token is given", "give --token"));
    }
    let config = HttpsConfig {
        insecure_skip_tls_verify: true,
        user_agent: user_agent(NodeUser::Node.program()),
        ..HttpsConfig::new(server)
    };
    let api = HttpsApi::new(config).map_err(|error| {
        Problem::new(format!("use the server {server}"), chain(&error), "give --server https://HOST:PORT")
    })?;
    let offered = patiently("reach the server", waiting, async || fetch_ca(&api).await).await?;
    match pinned {
        Some(hash) if hash != hash_of(&offered) => {
            let why = "the server's CA does not have the hash that the token demands";
            return Err(Problem::new(
                format!("join {server}"),
                why,
                "check address and token: this may be another server",
            ));
        }
        Some(_) => {}
        None => tracing::warn!(%server, "the token pins no CA: the server is trusted on first use"),
    }
    files::write(&path, offered.as_bytes(), 0o600)?;
    Ok(offered)
}

async fn fetch_ca(api: &HttpsApi) -> Result<String, Attempt> {
    let request = http::Request::get("/cacerts").body(Default::default());
    let request = request.map_err(|error| Attempt::Again(error.to_string()))?;
    let response = api.request(request).await.map_err(|error| Attempt::Again(chain(&error)))?;
    let status = response.status();
    let body =
        response.into_body().collect().await.map_err(|error| Attempt::Again(error.to_string()))?.to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    if !status.is_success() || keys::first_certificate(&text).is_err() {
        return Err(Attempt::Again(format!("{} answers {status} to /cacerts", api.authority())));
    }
    Ok(text)
}

/// The user that a certificate is for.
#[derive(Clone, Copy, Debug)]
enum NodeUser {
    Node,
    Network,
}

impl NodeUser {
    /// Upstream's program that does its work.
    fn program(self) -> &'static str {
        match self {
            NodeUser::Node => "kubelet",
            NodeUser::Network => "kube-proxy",
        }
    }
}

struct JoinTarget {
    server: String,
    servers: Arc<Servers>,
    ca_pem: String,
    token: Option<Token>,
    node_name: String,
    waiting: Waiting,
}

impl JoinTarget {
    fn config(&self, who: NodeUser, pair: Option<&Pair>, bearer: Option<&str>) -> HttpsConfig {
        HttpsConfig {
            servers: Some(self.servers.clone()),
            ca_pem: Some(self.ca_pem.clone().into_bytes()),
            certificate: pair.map(client_certificate),
            token: bearer.map_or(Bearer::None, |secret| Bearer::Static(secret.to_string())),
            user_agent: user_agent(who.program()),
            ..HttpsConfig::new(&self.server)
        }
    }

    fn api(&self, who: NodeUser, pair: Option<&Pair>, bearer: Option<&str>) -> Result<HttpsApi, Problem> {
        HttpsApi::new(self.config(who, pair, bearer)).map_err(|error| {
            Problem::new(format!("use the server {}", self.server), chain(&error), "check --server")
        })
    }

    /// The pair that is kept and still good, or a new one.
    async fn pair(
        &self,
        place: &PairFiles,
        who: NodeUser,
        node_api: Option<&HttpsApi>,
    ) -> Result<Pair, Problem> {
        let kept = place.load()?;
        if let Some(pair) = kept.as_ref().filter(|pair| self.is_good(pair, who)) {
            return Ok(pair.clone());
        }
        let api = match node_api {
            Some(api) => api.clone(),
            None => {
                let token = self.token.as_ref().ok_or_else(|| {
                    let why = "this node has no certificate any more and no token is given";
                    Problem::new(format!("join {}", self.server), why, "give --token")
                })?;
                self.api(NodeUser::Node, None, Some(&token.secret))?
            }
        };
        let asking = async || self.ask(&api, who, kept.as_ref()).await;
        let pair = patiently("obtain a certificate", &self.waiting, asking).await?;
        place.store(&pair)?;
        Ok(pair)
    }

    /// The API as the node; as the bearer of the token if the node's own certificate is no longer good for
    /// anything.
    fn asking_api(&self, node_api: &HttpsApi, pair: &Pair, who: NodeUser) -> HttpsApi {
        let bearer = match &self.token {
            Some(token) if matches!(who, NodeUser::Node) && !self.is_good(pair, who) => {
                self.api(NodeUser::Node, None, Some(&token.secret)).ok()
            }
            _ => None,
        };
        bearer.unwrap_or_else(|| node_api.clone())
    }

    fn is_good(&self, pair: &Pair, who: NodeUser) -> bool {
        let valid = keys::validity(&pair.certificate_pem).is_ok_and(|validity| validity.covers(keys::now()));
        let Ok(der) = keys::first_certificate(&pair.certificate_pem) else { return false };
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&der) else { return false };
        let name = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok()).next();
        valid && name == Some(self.user(who).as_str())
    }

    fn user(&self, who: NodeUser) -> String {
        match who {
            NodeUser::Node => format!("system:node:{}", self.node_name),
            NodeUser::Network => NETWORK_USER.to_string(),
        }
    }

    /// Asks for a certificate; `previous` is the one before, which proves an existing node.
    async fn ask(&self, api: &HttpsApi, who: NodeUser, previous: Option<&Pair>) -> Result<Pair, Attempt> {
        let again = |error: &dyn std::error::Error| Attempt::Again(chain(error));
        let key_pem = keys::new_key().map_err(|error| again(&error))?;
        let (prefix, signer, group) = match who {
            NodeUser::Node => {
                ("node-csr-", "kubernetes.io/kube-apiserver-client-kubelet", Some("system:nodes"))
            }
            NodeUser::Network => ("network-csr-", "kubernetes.io/kube-apiserver-client", None),
        };
        let request_pem =
            keys::request_for(&key_pem, &self.user(who), group, &[]).map_err(|error| again(&error))?;
        let previous = previous.filter(|_| matches!(who, NodeUser::Node));
        let usages = &["digital signature", "client auth"];
        let ask = Ask { prefix, signer, usages, request_pem, previous };
        match keys::obtain(Arc::new(api.clone()), &ask, SIGNING_TIMEOUT).await {
            Ok(certificate_pem) => Ok(Pair { certificate_pem, key_pem }),
            Err(RequestError::Api(error)) if error.code() == 401 => {
                let why = "the server does not accept the token";
                let advice = "copy it from the server's DATA/server/agent-token, or have one made there ('minik8s token create')";
                Err(Attempt::Final(Problem::new(format!("join {}", self.server), why, advice)))
            }
            Err(RequestError::Refused(why)) if is_taken(&why, &self.node_name) => Err(Attempt::Blocked(why)),
            Err(error) => Err(again(&error)),
        }
    }
}

/// Whether a request was denied because there is a node of this name, which the asker is not.
fn is_taken(why: &str, node: &str) -> bool {
    why.starts_with(&format!("node {node} exists"))
}

fn client_certificate(pair: &Pair) -> ClientCertificate {
    ClientCertificate {
        certificate_pem: pair.certificate_pem.clone().into_bytes(),
        key_pem: pair.key_pem.clone().into_bytes(),
    }
}

/// Renews one certificate for ever.
async fn renew(
    site: Arc<JoinTarget>,
    who: NodeUser,
    place: PairFiles,
    mut pair: Pair,
    node_api: HttpsApi,
    api: HttpsApi,
    mut clock: Clock,
) {
    loop {
        until_due(&mut clock, &pair).await;
        let fresh = match site.ask(&site.asking_api(&node_api, &pair, who), who, Some(&pair)).await {
            Ok(fresh) => fresh,
            Err(Attempt::Again(why) | Attempt::Blocked(why)) => {
                tracing::warn!(why, ?who, "client certificate is not renewed yet");
                tokio::time::sleep(LONGEST_RETRY).await;
                continue;
            }
            Err(Attempt::Final(problem)) => {
                tracing::warn!(%problem, ?who, "client certificate is not renewed yet");
                tokio::time::sleep(LONGEST_RETRY).await;
                continue;
            }
        };
        if let Err(error) = api.replace_certificate(&client_certificate(&fresh)) {
            tracing::warn!(error = chain(&error), "a renewed certificate cannot be used");
        }
        if let Err(problem) = place.store(&fresh) {
            tracing::warn!(%problem, "a renewed certificate is not kept");
        }
        tracing::info!(?who, "client certificate is renewed");
        pair = fresh;
        // The next is never due so soon, unless the clocks of server and node are far apart.
        clock.sleep(LONGEST_RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_joining_waits_for_can_be_asked() {
        let waiting = Waiting::default();
        let (mut tries, seen) = (0, waiting.clone());
        let outcome = patiently("reach the server", &waiting, async || {
            tries += 1;
            match tries {
                1 => Err(Attempt::Again("connection refused".to_string())),
                _ => Ok(seen.obstacle()),
            }
        });
        let why = "it cannot reach the server: connection refused".to_string();
        assert_eq!(outcome.await.unwrap(), Some(Obstacle { why, stays: false }));
        assert_eq!(waiting.obstacle(), None);
    }

    #[tokio::test]
    async fn an_authority_that_a_failed_attempt_has_left_binds_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let left =
            rcgen::CertificateParams::new(vec!["left".into()]).unwrap().self_signed(&key).unwrap().pem();
        std::fs::write(folder.path().join("server-ca.crt"), left).unwrap();
        let token = Token { ca_hash: Some("0".repeat(64)), secret: "s".into() };
        // Nobody is there to ask, and nobody says that this machine belongs elsewhere.
        let (waiting, server) = (Waiting::default(), "https://127.0.0.1:1");
        let asking = trusted_ca(folder.path(), server, Some(&token), &waiting);
        assert!(tokio::time::timeout(Duration::from_millis(500), asking).await.is_err());
        assert!(waiting.obstacle().unwrap().why.contains("cannot reach the server"), "{waiting:?}");
    }

    #[test]
    fn only_a_node_in_the_way_stays_in_the_way() {
        let denied = "node two exists, and the request is not proved by its key; if this machine";
        assert!(is_taken(denied, "two") && !is_taken(denied, "tw"));
        assert!(!is_taken("the administrator does not want it", "two"));
    }

    #[test]
    fn each_part_of_a_node_has_the_name_of_upstreams_program() {
        let site = JoinTarget {
            server: "https://127.0.0.1:1".into(),
            servers: Servers::new([]),
            ca_pem: String::new(),
            token: None,
            node_name: "n".into(),
            waiting: Waiting::default(),
        };
        for (who, manager) in [(NodeUser::Node, "kubelet"), (NodeUser::Network, "kube-proxy")] {
            let agent = site.config(who, None, None).user_agent;
            assert_eq!(api::managed::manager_of_agent(&agent), manager);
            assert!(
                agent.starts_with(&format!("{manager}/v1.36.2")) && agent.contains(" (linux/"),
                "{agent}"
            );
        }
    }
}
