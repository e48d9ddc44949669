//! Who may use the kubelet's port: the API server by its certificate, everybody else by a token that the
//! API server knows and whose user may do to this node what is asked.
//!
//! Both questions are asked of the API (TokenReview, SubjectAccessReview), as upstream's kubelet delegates
//! them. Answers are kept for a while, so that a scraper costs nothing, and few tokens are asked about at
//! once, so that strangers do not keep the API busy through the node. Absent: anonymous access, and
//! certificates of users.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Api, ObjectApi};
use http::{HeaderMap, Method, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How long an answer holds.
const HOLDS: Duration = Duration::from_secs(60);
/// Answers that are kept.
const MOST: usize = 256;
/// Tokens that the API is asked about at the same time; further requests wait.
const REVIEWS_AT_ONCE: usize = 4;

/// Why somebody is turned away.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Denied(pub(super) StatusCode, pub(super) String);

fn unauthorized() -> Denied {
    Denied(StatusCode::UNAUTHORIZED, "Unauthorized".to_string())
}

fn unanswered(what: &str, error: &api::ApiError) -> Denied {
    tracing::debug!(%error, "the API does not answer a {what}");
    Denied(StatusCode::INTERNAL_SERVER_ERROR, format!("{what} failed"))
}

/// Asks the API, and remembers. Clones remember the same.
#[derive(Clone)]
pub(crate) struct Access {
    api: Arc<dyn ObjectApi>,
    node: String,
    users: Arc<Mutex<AnswerCache<String, Arc<UserInfo>>>>,
    /// Tokens that the API does not know. Apart from the others, which strangers must not push out.
    refused: Arc<Mutex<AnswerCache<String, ()>>>,
    reviews: Arc<Semaphore>,
    granted: Arc<Mutex<AnswerCache<AccessQuestion, bool>>>,
}

/// What somebody wants to do: the user, the verb, the part of the node.
type AccessQuestion = (String, String, String);

/// Answers with the time they were given.
struct AnswerCache<K, V>(HashMap<K, (Instant, V)>);

impl<K: std::hash::Hash + Eq, V: Clone> AnswerCache<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        self.0.get(key).filter(|(at, _)| at.elapsed() < HOLDS).map(|(_, value)| value.clone())
    }

    fn put(&mut self, key: K, value: V) {
        if self.0.len() >= MOST {
            self.0.retain(|_, (at, _)| at.elapsed() < HOLDS);
        }
        if self.0.len() < MOST {
            self.0.insert(key, (Instant::now(), value));
        }
    }
}

impl<K, V> Default for AnswerCache<K, V> {
    fn default() -> Self {
        AnswerCache(HashMap::new())
    }
}

impl Access {
    pub(crate) fn new(api: Arc<dyn ObjectApi>, node: &str) -> Self {
        Access {
            api,
            node: node.to_string(),
            users: Arc::default(),
            refused: Arc::default(),
            reviews: Arc::new(Semaphore::new(REVIEWS_AT_ONCE)),
            granted: Arc::default(),
        }
    }

    /// Lets a request with a token pass, or tells why not. Gives the user's name.
    pub(super) async fn check(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<String, Denied> {
        let token = token(headers).ok_or_else(unauthorized)?;
        let user = self.user(token).await?;
        let name = user.username.clone().unwrap_or_default();
        let (verb, subresources) = (verb(method, path), subresources(path));
        for subresource in subresources {
            if self.is_granted(&user, verb, subresource).await? {
                return Ok(name);
            }
        }
        let list = subresources.join(" ");
        let message =
            format!("Forbidden (user={name}, verb={verb}, resource=nodes, subresource(s)=[{list}])\n");
        Err(Denied(StatusCode::FORBIDDEN, message))
    }

    async fn user(&self, token: &str) -> Result<Arc<UserInfo>, Denied> {
        if let Some(known) = self.known(token) {
            return known;
        }
        let _place = self.reviews.acquire().await;
        // Somebody else may have asked meanwhile.
        if let Some(known) = self.known(token) {
            return known;
        }
        let spec = TokenReviewSpec { token: token.to_string(), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = Api::<TokenReview>::all(self.api.clone()).create(&review).await;
        let answer = answer.map_err(|error| unanswered("TokenReview", &error))?;
        let status = answer.status.clone().unwrap_or_default();
        let Some(user) = status.user.filter(|_| status.authenticated == Some(true)) else {
            self.refused.lock().put(token.to_string(), ());
            return Err(unauthorized());
        };
        let user = Arc::new(user);
        self.users.lock().put(token.to_string(), user.clone());
        Ok(user)
    }

    /// What the API has said about a token.
    fn known(&self, token: &str) -> Option<Result<Arc<UserInfo>, Denied>> {
        let token = token.to_string();
        if let Some(user) = self.users.lock().get(&token) {
            return Some(Ok(user));
        }
        self.refused.lock().get(&token).map(|()| Err(unauthorized()))
    }

    async fn is_granted(&self, user: &UserInfo, verb: &str, subresource: &str) -> Result<bool, Denied> {
        let name = user.username.clone().unwrap_or_default();
        let uid = user.uid.clone().unwrap_or_default();
        let key = (format!("{name} {uid}"), verb.to_string(), subresource.to_string());
        let known = self.granted.lock().get(&key);
        if let Some(granted) = known {
            return Ok(granted);
        }
        let attributes = ResourceAttributes {
            verb: Some(verb.to_string()),
            resource: Some("nodes".to_string()),
            subresource: Some(subresource.to_string()),
            name: Some(self.node.clone()),
            version: Some("v1".to_string()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            user: user.username.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let answer = Api::<SubjectAccessReview>::all(self.api.clone()).create(&review).await;
        let answer = answer.map_err(|error| unanswered("SubjectAccessReview", &error))?;
        let granted = answer.status.as_ref().is_some_and(|status| status.allowed);
        self.granted.lock().put(key, granted);
        Ok(granted)
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// What reaches into a pod is never a mere reading, whatever the method; the API server holds it so too.
fn verb(method: &Method, path: &str) -> &'static str {
    let word = path.trim_start_matches('/').split('/').next().unwrap_or("");
    if matches!(word, "attach" | "cri" | "exec" | "portForward" | "run") {
        return "create";
    }
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The parts of a node that a path is of; one that may be used is enough.
fn subresources(path: &str) -> &'static [&'static str] {
    match path.trim_start_matches('/').split('/').next().unwrap_or("") {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests;
