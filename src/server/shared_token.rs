//! The agents' token is the same on all servers of a cluster. A Secret of `kube-system` carries it from the
//! server where it was rotated to the others, sealed by the servers' own token: who may read Secrets cannot
//! join machines by it. Each server keeps it in its file, which counts while the API is not there.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent::{Instance, Problem};
use api::{FieldSelector, LabelSelector};
use client::{Change, Informers, ObjectApi};
use embedded_store::snapshot::{seal, unseal};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ring::hmac;
use supervisor::{OnExit, Stage};
use tokio::sync::watch;

use crate::group;
use crate::publish::ensure;
use crate::secrets::AgentToken;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "minik8s-agent-token";
/// What the token is sealed as.
const SEALED_AS: &str = "token of agents";
/// Its fields: the token, and what tells without opening it whether it is the one that is known.
const SEALED: &str = "sealed";
const MARK: &str = "mark";

#[derive(Clone)]
pub(crate) struct SharedToken {
    pub(crate) api: Arc<dyn ObjectApi>,
    pub(crate) agents: Arc<AgentToken>,
    pub(crate) instance: Instance,
}

impl SharedToken {
    /// Replaces the token on all servers: on this one now, on the others when they learn of it.
    pub(crate) async fn rotate(&self) -> Result<String, Problem> {
        let secret = self.agents.another()?;
        self.publish(secret.clone()).await?;
        self.agents.replace(secret)
    }

    /// Takes over what another server has published, as long as the stage runs.
    pub(crate) fn follow(&self, stage: &Stage) {
        let informers = Informers::new(self.api.clone(), stage.clone());
        let fields = FieldSelector::equals("metadata.name", NAME);
        let secrets = informers.selected::<Secret>(Some(NAMESPACE), LabelSelector::everything(), fields);
        let (noted, mut now) = watch::channel(None);
        secrets.on_change(move |change: &Change<Secret>| drop(noted.send_replace(change.new.clone())));
        let shared = self.clone();
        stage.spawn_cancellable("the agents' token of all servers", OnExit::Done, async move {
            secrets.synced().await;
            if shared.agents.is_given() {
                shared.give_out(secrets.get(Some(NAMESPACE), NAME)).await;
            }
            while now.changed().await.is_ok() {
                let secret = now.borrow_and_update().clone();
                if let Some(secret) = secret
                    && let Err(problem) = shared.take_over(&secret).await
                {
                    tracing::warn!(%problem, "the agents' token of the other servers is not known here");
                }
            }
        });
    }

    /// A flag of this server's start says what the token is from now on.
    async fn give_out(&self, known: Option<Arc<Secret>>) {
        let own = self.agents.subscribe().borrow().clone();
        let is_known = known.is_some_and(|known| self.mark(&own).is_ok_and(|mark| is_marked(&known, &mark)));
        if !is_known && let Err(problem) = self.publish(own).await {
            tracing::warn!(%problem, "the other servers do not learn of --agent-token");
        }
    }

    async fn take_over(&self, secret: &Secret) -> Result<(), Problem> {
        let own = self.agents.subscribe().borrow().clone();
        if is_marked(secret, &self.mark(&own)?) {
            return Ok(());
        }
        let unusable = |why: &str| {
            let what = format!("use the Secret {NAMESPACE}/{NAME}");
            Problem::new(what, why, "start all servers with the same --token; see 'minik8s token rotate'")
        };
        if self.agents.is_given() {
            return Err(unusable("--agent-token says another one"));
        }
        let sealed = secret.data.as_ref().and_then(|data| data.get(SEALED)).map(|value| value.0.clone());
        let sealed = sealed.ok_or_else(|| unusable("it has no token"))?;
        let key = group::own_secret(&self.instance)?;
        let opening = tokio::task::spawn_blocking(move || unseal(key.as_bytes(), SEALED_AS, &sealed));
        let opened = opening.await.map_err(|error| unusable(&error.to_string()))?;
        let opened = opened.map_err(|error| unusable(&error.to_string()))?;
        let token = String::from_utf8(opened).map_err(|_| unusable("it is no token"))?;
        self.agents.replace(token)?;
        tracing::info!("the agents' token was rotated by another server");
        Ok(())
    }

    async fn publish(&self, token: String) -> Result<(), Problem> {
        let failed = |why: &dyn std::fmt::Display| {
            Problem::new("tell all servers the agents' token", why, "try again: nothing has changed")
        };
        let mark = self.mark(&token)?;
        let key = group::own_secret(&self.instance)?;
        let sealing = tokio::task::spawn_blocking(move || seal(key.as_bytes(), SEALED_AS, token.as_bytes()));
        let sealed = sealing.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let data = [(SEALED, sealed), (MARK, mark.into_bytes())];
        let data: BTreeMap<_, _> =
            data.into_iter().map(|(name, value)| (name.to_string(), ByteString(value))).collect();
        let metadata = ObjectMeta {
            name: Some(NAME.to_string()),
            namespace: Some(NAMESPACE.to_string()),
            ..ObjectMeta::default()
        };
        let secret = Secret { metadata, data: Some(data), ..Secret::default() };
        ensure(&self.api, &secret, |old, new| old.data == new.data).await.map_err(|error| failed(&error))
    }

    /// A token as everybody may know it who knows the servers' token.
    fn mark(&self, token: &str) -> Result<String, Problem> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, group::own_secret(&self.instance)?.as_bytes());
        Ok(hmac::sign(&key, token.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

fn is_marked(secret: &Secret, mark: &str) -> bool {
    let found = secret.data.as_ref().and_then(|data| data.get(MARK));
    found.is_some_and(|found| found.0 == mark.as_bytes())
}
