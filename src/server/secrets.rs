//! Secrets that lie in files below `DATA/server`, each for one purpose: the server's token, the agents'
//! token, the keys that seal snapshots, and the one that seals the keys of encryption at rest. Each can be
//! replaced without the others.
//!
//! The agents' token lets machines become nodes and is handed out; the server's is kept for servers that
//! join, and opens snapshots of earlier versions, which it used to seal. Seal keys are one a line: the first
//! seals, all of them open.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use agent::token::Token;
use agent::{Instance, Problem, files};
use rand::RngCore;
use tokio::sync::watch;

/// A fresh secret, as hexadecimal text.
fn fresh() -> String {
    let mut bytes = [0u8; 16];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The token in this file: given, kept, or new. Kept in the form that pins the CA.
fn token(path: &Path, given: Option<&str>, ca_pem: &str, kind: &str) -> Result<Token, Problem> {
    let kept = files::read(path)?.map(|text| Token::parse(&text)).transpose().map_err(|problem| {
        let advice = "restore it from a backup, or remove it to have a new one made";
        Problem::new(format!("read {}", path.display()), problem, advice)
    })?;
    let given = given.map(Token::parse).transpose()?;
    let token = given.or(kept).unwrap_or_else(|| Token { ca_hash: None, secret: fresh() });
    keep(path, &token, ca_pem, kind)?;
    Ok(token)
}

fn keep(path: &Path, token: &Token, ca_pem: &str, kind: &str) -> Result<(), Problem> {
    let text = format!("{}\n", token.full(ca_pem, kind));
    if files::read(path)?.as_deref() == Some(&text) {
        return Ok(());
    }
    files::write(path, text.as_bytes(), 0o600)
}

/// The server's own token, kept in `DATA/server/token`.
pub(crate) fn server_token(instance: &Instance, given: Option<&str>, ca_pem: &str) -> Result<(), Problem> {
    token(&instance.server_dir().join("token"), given, ca_pem, "server").map(|_| ())
}

/// The token that lets machines join, kept in `DATA/server/agent-token`.
pub(crate) struct AgentToken {
    path: PathBuf,
    ca_pem: String,
    is_given: bool,
    secret: watch::Sender<String>,
}

impl AgentToken {
    pub(crate) fn open(instance: &Instance, given: Option<&str>, ca_pem: &str) -> Result<Self, Problem> {
        let path = instance.server_dir().join("agent-token");
        let Token { secret, .. } = token(&path, given, ca_pem, "node")?;
        let secret = watch::Sender::new(secret);
        Ok(AgentToken { path, ca_pem: ca_pem.to_string(), is_given: given.is_some(), secret })
    }

    /// The secret that counts, now and after every rotation.
    pub(crate) fn subscribe(&self) -> watch::Receiver<String> {
        self.secret.subscribe()
    }

    /// A flag or the configuration says what it is.
    pub(crate) fn is_given(&self) -> bool {
        self.is_given
    }

    /// A new one, which is nobody's yet.
    pub(crate) fn another(&self) -> Result<String, Problem> {
        if self.is_given {
            let why = "a flag or the configuration says what it is";
            let advice = "give another --agent-token and restart the server";
            return Err(Problem::new("rotate the agents' token", why, advice));
        }
        Ok(fresh())
    }

    /// Puts another one in its place, and answers with it as it is handed out. From then on the old one is
    /// refused.
    pub(crate) fn replace(&self, secret: String) -> Result<String, Problem> {
        let token = Token { ca_hash: None, secret };
        keep(&self.path, &token, &self.ca_pem, "node")?;
        let full = token.full(&self.ca_pem, "node");
        self.secret.send_replace(token.secret);
        Ok(full)
    }
}

pub(crate) fn seal_key_file(instance: &Instance) -> PathBuf {
    instance.server_dir().join("seal-key")
}

/// The keys that snapshots were sealed with, the present one first. None in a data directory from before
/// there were any.
pub(crate) fn seal_keys(instance: &Instance) -> Result<Vec<String>, Problem> {
    let text = files::read(&seal_key_file(instance))?.unwrap_or_default();
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect())
}

/// Makes the key at the first start, and shows it once: on the terminal, for logs are read by more people.
pub(crate) fn ensure_seal_key(instance: &Instance) -> Result<(), Problem> {
    if !seal_keys(instance)?.is_empty() {
        return Ok(());
    }
    let key = rotate_seal_key(instance)?;
    let file = seal_key_file(instance);
    tracing::info!(file = %file.display(), "keep a copy of this file elsewhere: restoring a snapshot needs the key in it");
    if std::io::stderr().is_terminal() {
        eprintln!("Keep this key for restoring snapshots; it is shown once, and lies in {}:", file.display());
        eprintln!("  {key}");
    }
    Ok(())
}

/// The key that the cluster's encryption configuration is sealed with in the store, made at the first start.
/// All servers of a cluster have the same.
pub(crate) fn encryption_key(instance: &Instance) -> Result<[u8; 32], Problem> {
    let path = instance.server_dir().join("encryption-key");
    if let Some(text) = files::read(&path)? {
        return parse_key(text.trim()).ok_or_else(|| {
            let why = "it is not 64 hexadecimal digits";
            Problem::new(format!("read {}", path.display()), why, "restore it from a backup")
        });
    }
    let mut key = [0; 32];
    rand::rng().fill_bytes(&mut key);
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    files::write(&path, format!("{text}\n").as_bytes(), 0o600)?;
    Ok(key)
}

fn parse_key(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if text.len() != 2 * key.len() || !text.is_ascii() {
        return None;
    }
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(key)
}

/// Puts a new key before the others, and answers with it.
pub(crate) fn rotate_seal_key(instance: &Instance) -> Result<String, Problem> {
    let mut keys = seal_keys(instance)?;
    keys.insert(0, fresh());
    files::write(&seal_key_file(instance), format!("{}\n", keys.join("\n")).as_bytes(), 0o600)?;
    Ok(keys.swap_remove(0))
}

#[cfg(test)]
mod tests;
