//! The auth provider `oidc`: an ID token, renewed with a refresh token and written back to the kubeconfig.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use super::{KubeconfigError, Loaded, NamedUser};
use crate::BoxFuture;
use crate::https::{Credential, CredentialError, CredentialSource, HttpsApi, HttpsConfig, encode_component};

type Settings = std::collections::BTreeMap<String, String>;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct AuthProvider {
    name: String,
    config: Option<Settings>,
}

/// A token that expires this soon is not used any more.
const LEEWAY_SECONDS: i64 = 10;
/// The most that is read of an answer.
const MAX_ANSWER: usize = 1 << 20;

pub(super) struct Oidc {
    user: String,
    settings: Mutex<Settings>,
    /// Where new tokens are written.
    files: Option<Loaded>,
}

impl std::fmt::Debug for Oidc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Oidc({})", self.user)
    }
}

fn failed(text: impl Into<String>) -> CredentialError {
    CredentialError(text.into())
}

impl Oidc {
    pub(super) fn new(
        user: &str,
        provider: &serde_yaml::Value,
        files: Option<Loaded>,
    ) -> Result<Self, KubeconfigError> {
        let provider: AuthProvider = serde_yaml::from_value(provider.clone())
            .map_err(|source| KubeconfigError::Entry { kind: "user", name: user.to_string(), source })?;
        let name = provider.name;
        match name.as_str() {
            "oidc" => {}
            "azure" | "gcp" => {
                return Err(KubeconfigError::Half(format!(
                    "The {name} auth plugin has been removed.\nPlease use the {:?} kubectl/client-go credential plugin instead.",
                    if name == "azure" { "kubelogin" } else { "gke-gcloud-auth-plugin" }
                )));
            }
            _ => return Err(KubeconfigError::Half(format!("no Auth Provider found for name {name:?}"))),
        }
        let settings = provider.config.unwrap_or_default();
        for key in ["idp-issuer-url", "client-id"] {
            if settings.get(key).is_none_or(String::is_empty) {
                return Err(KubeconfigError::Half(format!("Must provide {key}")));
            }
        }
        Ok(Oidc { user: user.to_string(), settings: Mutex::new(settings), files })
    }

    async fn token(&self) -> Result<String, CredentialError> {
        let mut settings = self.settings.lock().await;
        let get = |key: &str| settings.get(key).filter(|value| !value.is_empty()).cloned();
        if let Some(token) = get("id-token")
            && is_valid(&token)?
        {
            return Ok(token);
        }
        let Some(refresh) = get("refresh-token") else {
            return Err(failed("No valid id-token, and cannot refresh without refresh-token"));
        };
        let answer = renew(&settings, &refresh).await?;
        let Some(token) = answer["id_token"].as_str() else {
            return Err(failed(
                "token response did not contain an id_token, either the scope \"openid\" wasn't requested upon login, or the provider doesn't support id_tokens as part of the refresh response",
            ));
        };
        let mut renewed = settings.clone();
        renewed.insert("id-token".to_string(), token.to_string());
        if let Some(next) = answer["refresh_token"].as_str().filter(|next| !next.is_empty()) {
            renewed.insert("refresh-token".to_string(), next.to_string());
        }
        self.persist(&renewed)?;
        *settings = renewed;
        Ok(token.to_string())
    }

    fn persist(&self, settings: &Settings) -> Result<(), CredentialError> {
        let Some(mut files) = self.files.clone() else { return Ok(()) };
        let write = files.set::<NamedUser>(&self.user, |user| {
            let config = serde_yaml::to_value(settings).unwrap_or_default();
            if let Some(provider) = user.auth_provider.as_mut().and_then(serde_yaml::Value::as_mapping_mut) {
                provider.insert("config".into(), config);
            }
        });
        write.map(drop).map_err(|error| failed(format!("could not persist new tokens: {error}")))
    }
}

/// Whether a token (a JWT) is good for some time to come. It is the server that checks it.
fn is_valid(token: &str) -> Result<bool, CredentialError> {
    let parts: Vec<&str> = token.split('.').collect();
    let [_, payload, _] = parts[..] else { return Err(failed("ID Token is not a valid JWT")) };
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|error| failed(error.to_string()))?;
    let claims: Value =
        serde_json::from_slice(&payload).map_err(|error| failed(format!("parsing claims: {error}")))?;
    #[allow(clippy::cast_possible_truncation)]
    let seconds = |value: &Value| value.as_i64().or_else(|| value.as_f64().map(|float| float as i64));
    let expiry = seconds(&claims["exp"]).unwrap_or_default();
    Ok(k8s_openapi::jiff::Timestamp::now().as_second() + LEEWAY_SECONDS < expiry)
}

/// What the provider gives for a refresh token.
async fn renew(settings: &Settings, refresh: &str) -> Result<Value, CredentialError> {
    let get = |key: &str| settings.get(key).map(String::as_str).unwrap_or_default();
    let issuer = get("idp-issuer-url").trim_end_matches('/').to_string();
    let authority = authority(settings)?;
    let (code, body) =
        exchange(&format!("{issuer}/.well-known/openid-configuration"), authority.clone(), None).await?;
    if code != 200 {
        let mut text = String::from_utf8_lossy(&body).into_owned();
        if text.len() > 80 {
            text = text.chars().take(80).collect::<String>() + "...";
        }
        return Err(failed(format!("oidc: failed to query metadata endpoint {code}: {text:?}")));
    }
    let metadata: Value = serde_json::from_slice(&body)
        .map_err(|error| failed(format!("oidc: failed to decode provider discovery object: {error}")))?;
    let Some(endpoint) = metadata["token_endpoint"].as_str().filter(|url| !url.is_empty()) else {
        return Err(failed("oidc: discovery object doesn't contain a token_endpoint"));
    };
    let form = format!("grant_type=refresh_token&refresh_token={}", encode_component(refresh));
    let (id, secret) = (get("client-id"), get("client-secret"));
    let login = STANDARD.encode(format!("{}:{}", encode_component(id), encode_component(secret)));
    let (mut code, mut body) =
        exchange(endpoint, authority.clone(), Some((Some(login), form.clone()))).await?;
    if code != 200 {
        // Some providers take the client's name and secret only in the form.
        let mut form = format!("{form}&client_id={}", encode_component(id));
        if !secret.is_empty() {
            form.push_str(&format!("&client_secret={}", encode_component(secret)));
        }
        (code, body) = exchange(endpoint, authority, Some((None, form))).await?;
    }
    if code != 200 {
        let text = String::from_utf8_lossy(&body);
        return Err(failed(format!(
            "failed to refresh token: oauth2: cannot fetch token: {code}\nResponse: {text}"
        )));
    }
    serde_json::from_slice(&body)
        .map_err(|error| failed(format!("failed to refresh token: oauth2: cannot parse json: {error}")))
}

/// The authority of the provider's certificate, if it is not one of the system's.
fn authority(settings: &Settings) -> Result<Option<Vec<u8>>, CredentialError> {
    let get = |key: &str| settings.get(key).filter(|value| !value.is_empty());
    if let Some(data) = get("idp-certificate-authority-data") {
        return STANDARD.decode(data).map(Some).map_err(|error| failed(error.to_string()));
    }
    let Some(path) = get("idp-certificate-authority").map(PathBuf::from) else { return Ok(None) };
    std::fs::read(&path).map(Some).map_err(|error| failed(format!("open {}: {error}", path.display())))
}

/// One request to the provider: a GET, or a POST of a form, perhaps with a login.
async fn exchange(
    url: &str,
    ca_pem: Option<Vec<u8>>,
    form: Option<(Option<String>, String)>,
) -> Result<(u16, Bytes), CredentialError> {
    let told = |error: &dyn std::fmt::Display| failed(format!("{url}: {error}"));
    let uri: http::Uri = url.parse().map_err(|error| told(&error))?;
    let place = (uri.scheme_str(), uri.authority());
    let (Some(scheme), Some(authority)) = place else { return Err(told(&"it is not a URL")) };
    let mut config = HttpsConfig::new(format!("{scheme}://{authority}"));
    config.proxy = crate::https::Proxy::from_environment(url).map_err(|error| told(&error))?;
    config.ca_pem = ca_pem;
    let api = HttpsApi::new(config).map_err(|error| told(&error))?;
    let mut request = Request::builder()
        .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(ACCEPT, "application/json");
    let mut body = Bytes::new();
    if let Some((login, form)) = form {
        request = request.method(Method::POST).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(login) = login {
            request = request.header(AUTHORIZATION, format!("Basic {login}"));
        }
        body = form.into();
    }
    let request = request.body(body).map_err(|error| told(&error))?;
    let response = api.request(request).await.map_err(|error| told(&error))?;
    let code = response.status().as_u16();
    let body =
        Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| told(&error))?;
    Ok((code, body.to_bytes()))
}

impl CredentialSource for Oidc {
    fn current(&self) -> BoxFuture<'_, Result<Arc<Credential>, CredentialError>> {
        Box::pin(async {
            let token = self.token().await?;
            Ok(Arc::new(Credential { token: Some(token), certificate: None }))
        })
    }

    fn refused(&self, _credential: &Arc<Credential>) {}
}

#[cfg(test)]
mod tests;
