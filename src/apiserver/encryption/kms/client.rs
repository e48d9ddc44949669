//! The plugin's API (`k8s.io/kms/apis/v2`), as gRPC over its socket. Its five messages are written down here:
//! they are small, and a compiler of protobuf files is not needed to build this crate.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StatusResponse {
    #[prost(string, tag = "1")]
    pub(super) version: String,
    /// `ok`, or what is wrong.
    #[prost(string, tag = "2")]
    pub(super) healthz: String,
    #[prost(string, tag = "3")]
    pub(super) key_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DecryptRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) uid: String,
    #[prost(string, tag = "3")]
    pub(super) key_id: String,
    #[prost(map = "string, bytes", tag = "4")]
    pub(super) annotations: HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DecryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) plaintext: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EncryptRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) plaintext: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) uid: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EncryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) key_id: String,
    #[prost(map = "string, bytes", tag = "3")]
    pub(super) annotations: HashMap<String, Vec<u8>>,
}

/// Connects when it is first asked, and anew when the plugin has gone away.
pub(super) struct Client {
    socket: PathBuf,
    timeout: Duration,
    channel: std::sync::OnceLock<Channel>,
}

impl Client {
    pub(super) fn new(socket: PathBuf, timeout: Duration) -> Client {
        Client { socket, timeout, channel: std::sync::OnceLock::new() }
    }

    /// Made on the runtime that uses it.
    fn channel(&self) -> Channel {
        let socket = self.socket.clone();
        // The address is never used: the connector goes to the socket.
        let made = || {
            Endpoint::from_static("http://kms.sock").connect_with_connector_lazy(tower::service_fn(
                move |_: Uri| {
                    let socket = socket.clone();
                    async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
                },
            ))
        };
        self.channel.get_or_init(made).clone()
    }

    async fn call<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel());
        let asked = async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let path = PathAndQuery::from_static(path);
            grpc.unary(Request::new(question), path, ProstCodec::<Q, A>::default()).await
        };
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => {
                let message = format!("the plugin did not answer within {:?}", self.timeout);
                Err(Status::new(Code::DeadlineExceeded, message))
            }
        }
    }

    pub(super) async fn status(&self) -> Result<StatusResponse, Status> {
        self.call("/v2.KeyManagementService/Status", StatusRequest {}).await
    }

    pub(super) async fn decrypt(&self, question: DecryptRequest) -> Result<Vec<u8>, Status> {
        let answer: DecryptResponse = self.call("/v2.KeyManagementService/Decrypt", question).await?;
        Ok(answer.plaintext)
    }

    pub(super) async fn encrypt(&self, plaintext: Vec<u8>, uid: String) -> Result<EncryptResponse, Status> {
        self.call("/v2.KeyManagementService/Encrypt", EncryptRequest { plaintext, uid }).await
    }
}
