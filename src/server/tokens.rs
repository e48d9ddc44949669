//! Bootstrap tokens of the running server: made, listed and deleted as Secrets of `kube-system` (kubeadm's
//! contract), so that `kubectl` and other programs find them where they expect them; and the agents' token,
//! which can be rotated.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use agent::Problem;
use agent::status::collect::second;
use agent::token::Token;
use api::{DeleteOptions, FieldSelector, ListOptions};
use client::{Api, ObjectApi};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rand::RngCore;
use serde::{Deserialize, Serialize};

use crate::shared_token::SharedToken;

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const PREFIX: &str = "bootstrap-token-";
const DEFAULT_GROUP: &str = "system:bootstrappers:minik8s";

/// What is asked for on the admin socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum TokenRequest {
    Create {
        /// A token of one's own.
        token: Option<String>,
        /// None for one without an end.
        seconds: Option<i64>,
        description: String,
        groups: Vec<String>,
    },
    List,
    Delete(Vec<String>),
    Rotate,
}

/// A bootstrap token without its secret half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) expires: Option<String>,
    pub(crate) description: String,
    pub(crate) groups: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Done {
    /// As it is handed out, and the server to show it to.
    Created {
        token: String,
        url: String,
    },
    Token(String),
    List(Vec<Entry>),
    Deleted(Vec<String>),
}

#[derive(Clone)]
pub(crate) struct Tokens {
    pub(crate) api: Arc<dyn ObjectApi>,
    pub(crate) agents: SharedToken,
    pub(crate) ca_pem: String,
    /// Where machines that join find the API.
    pub(crate) advertised: tokio::sync::watch::Receiver<std::net::IpAddr>,
    pub(crate) port: u16,
}

impl Tokens {
    pub(crate) async fn carry_out(&self, request: TokenRequest) -> Result<Done, Problem> {
        match request {
            TokenRequest::Create { token, seconds, description, groups } => {
                let token = token.unwrap_or_else(random);
                let secret = secret(&token, seconds, &description, &groups, Timestamp::now())?;
                self.secrets().create(&secret).await.map_err(|error| {
                    Problem::new("create the token", error, "give another token, or none to have one made")
                })?;
                let url = SocketAddr::new(*self.advertised.borrow(), self.port);
                Ok(Done::Created {
                    token: Token::full_bootstrap(&self.ca_pem, &token),
                    url: format!("https://{url}"),
                })
            }
            TokenRequest::List => self.list().await.map(Done::List),
            TokenRequest::Delete(ids) => {
                for id in &ids {
                    // A whole token names itself too.
                    let id = id.rsplit("::").next().unwrap_or(id).split('.').next().unwrap_or(id);
                    let name = format!("{PREFIX}{id}");
                    self.secrets().delete(&name, &DeleteOptions::default()).await.map_err(|error| {
                        let advice = "see 'minik8s token list' for what there is";
                        Problem::new(format!("delete the token {id:?}"), error, advice)
                    })?;
                }
                Ok(Done::Deleted(ids))
            }
            TokenRequest::Rotate => self.agents.rotate().await.map(Done::Token),
        }
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.api.clone(), NAMESPACE)
    }

    async fn list(&self) -> Result<Vec<Entry>, Problem> {
        let fields = FieldSelector::equals("type", TYPE);
        let found = self.secrets().list(&ListOptions { fields, ..ListOptions::default() }).await;
        let found = found.map_err(|error| Problem::new("list the tokens", error, "try again"))?;
        Ok(found.iter().map(|secret| entry(secret)).collect())
    }
}

fn entry(secret: &Secret) -> Entry {
    let field = |name: &str| {
        let value = secret.data.as_ref().and_then(|data| data.get(name));
        value.map(|value| String::from_utf8_lossy(&value.0).into_owned())
    };
    Entry {
        id: field("token-id").unwrap_or_default(),
        expires: field("expiration"),
        description: field("description").unwrap_or_default(),
        groups: field("auth-extra-groups").unwrap_or_default(),
    }
}

/// `abcdef.0123456789abcdef`, from 36 letters and digits.
fn random() -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut token = String::new();
    while token.len() < 23 {
        let mut byte = [0u8];
        rand::rng().fill_bytes(&mut byte);
        // The largest multiple of 36 in a byte: no letter comes more often than others.
        if byte[0] < 252 {
            token.push(char::from(LETTERS[usize::from(byte[0] % 36)]));
        }
        if token.len() == 6 {
            token.push('.');
        }
    }
    token
}

fn is_part(part: &str, length: usize) -> bool {
    part.len() == length && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn secret(
    token: &str,
    seconds: Option<i64>,
    description: &str,
    groups: &[String],
    now: Timestamp,
) -> Result<Secret, Problem> {
    let parts = token.split_once('.').filter(|(id, secret)| is_part(id, 6) && is_part(secret, 16));
    let (id, secret) = parts.ok_or_else(|| {
        let why = "it is not of the form abcdef.0123456789abcdef (lower-case letters and digits)";
        Problem::new("create the token", why, "give another, or none to have one made")
    })?;
    if let Some(group) = groups.iter().find(|group| !group.starts_with("system:bootstrappers:")) {
        let why = format!("the group {group:?} does not begin with system:bootstrappers:");
        return Err(Problem::new("create the token", why, "correct --groups"));
    }
    let mut data = BTreeMap::from([
        ("token-id", id.to_string()),
        ("token-secret", secret.to_string()),
        ("usage-bootstrap-authentication", "true".to_string()),
        ("auth-extra-groups", if groups.is_empty() { DEFAULT_GROUP.to_string() } else { groups.join(",") }),
    ]);
    if !description.is_empty() {
        data.insert("description", description.to_string());
    }
    if let Some(seconds) = seconds {
        let end = now.checked_add(SignedDuration::from_secs(seconds)).map_err(|error| {
            Problem::new("create the token", error, "give a shorter --ttl, or 0 for one without an end")
        })?;
        data.insert("expiration", second(end));
    }
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(format!("{PREFIX}{id}")),
            namespace: Some(NAMESPACE.to_string()),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_string()),
        string_data: Some(data.into_iter().map(|(name, value)| (name.to_string(), value)).collect()),
        ..Secret::default()
    })
}

#[cfg(test)]
mod tests;
