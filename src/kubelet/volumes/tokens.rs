//! Service account tokens of projected volumes: asked for once, bound to the pod, renewed when 80 % of their
//! life or a day has passed.

use std::collections::HashMap;
use std::sync::Arc;

use client::{Api, ObjectApi};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use parking_lot::Mutex;
use serde_json::json;

use super::plugin::VolumeError;
use crate::spec::PodExt;

#[derive(Clone)]
pub(crate) struct Tokens {
    api: Arc<dyn ObjectApi>,
    /// By pod uid, service account, audience and life.
    cache: Arc<Mutex<HashMap<Key, Token>>>,
}

type Key = (String, String, String, i64);

#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) refresh: Timestamp,
    issued: Timestamp,
    expires: Timestamp,
}

impl Token {
    /// Whether the API server accepts it: not after its end, and not before its beginning if the clock was
    /// set back.
    fn is_good(&self, now: Timestamp) -> bool {
        self.issued <= now && now < self.expires
    }
}

impl Tokens {
    pub(crate) fn new(api: Arc<dyn ObjectApi>) -> Self {
        Tokens { api, cache: Arc::default() }
    }

    pub(crate) async fn get(
        &self,
        pod: &Pod,
        source: &ServiceAccountTokenProjection,
        now: Timestamp,
    ) -> Result<Token, VolumeError> {
        let account = pod.spec_ref().service_account_name.clone().unwrap_or_else(|| "default".to_string());
        let seconds = source.expiration_seconds.unwrap_or(3600);
        let audience = source.audience.clone().unwrap_or_default();
        let key: Key = (pod.uid().to_string(), account.clone(), audience.clone(), seconds);
        let known = self.cache.lock().get(&key).cloned();
        if let Some(token) = known.as_ref().filter(|token| token.is_good(now) && now < token.refresh) {
            return Ok(token.clone());
        }
        match self.request(pod, &account, &audience, seconds, now).await {
            Ok(token) => {
                self.cache.lock().insert(key, token.clone());
                Ok(token)
            }
            // The old one is still good for a while: use it and try again later.
            Err(error) => match known.filter(|token| token.is_good(now)) {
                Some(token) => Ok(Token { refresh: now + SignedDuration::from_secs(10), ..token }),
                None => Err(VolumeError::Token(error)),
            },
        }
    }

    async fn request(
        &self,
        pod: &Pod,
        account: &str,
        audience: &str,
        seconds: i64,
        now: Timestamp,
    ) -> Result<Token, api::ApiError> {
        let audiences: Vec<&str> = if audience.is_empty() { Vec::new() } else { vec![audience] };
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": pod.name(), "uid": pod.uid()});
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {},
            "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": bound},
        });
        let accounts: Api<ServiceAccount> = Api::namespaced(self.api.clone(), pod.namespace());
        let answer = accounts.create_sub(account, "token", body).await?;
        let status = &answer["status"];
        let text = status["token"].as_str().unwrap_or_default().to_string();
        let expires: Option<Timestamp> =
            status["expirationTimestamp"].as_str().and_then(|text| text.parse().ok());
        let expires = expires.unwrap_or(now + SignedDuration::from_secs(seconds));
        if text.is_empty() {
            return Err(api::ApiError::internal("the token request was answered without a token"));
        }
        Ok(Token { text, refresh: refresh_at(now, expires, seconds), issued: now, expires })
    }

    pub(crate) fn forget(&self, uid: &str) {
        self.cache.lock().retain(|key, _| key.0 != uid);
    }
}

/// After 80 % of the life that was asked for (the server may give a longer one), or 24 hours, whatever comes
/// first.
pub(crate) fn refresh_at(now: Timestamp, expires: Timestamp, seconds: i64) -> Timestamp {
    let life = expires.duration_since(now).min(SignedDuration::from_secs(seconds.max(1)));
    let early = now + life * 8 / 10;
    early.min(now + SignedDuration::from_hours(24))
}
