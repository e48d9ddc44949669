//! Connections that stop being HTTP: the two protocols in which `exec`, `attach` and `port-forward` travel.
//!
//! [`spdy`] is what container runtimes and old clients speak, [`websocket`] what newer clients do; both are
//! here because the kubelet and kubectl are their two ends. Names of sub-protocols and channels are those of
//! Kubernetes' remote command protocol. Absent: the end of SPDY that accepts streams; the runtime is that,
//! and what old clients send passes to it unread.

pub mod fuzzing;
pub mod spdy;
pub mod websocket;

/// The remote command protocol on SPDY: four or five streams, the exit code as a `Status` on that of errors.
pub const REMOTE_COMMAND_V4: &str = "v4.channel.k8s.io";
/// The same as messages of a WebSocket, whose first byte is a [`Channel`]; it can close standard input.
pub const REMOTE_COMMAND_V5: &str = "v5.channel.k8s.io";
/// Forwarded ports on SPDY: two streams for each connection.
pub const PORT_FORWARD: &str = "portforward.k8s.io";
/// Stands before the name of a protocol whose SPDY connection is carried in a WebSocket.
pub const TUNNELLED: &str = "SPDY/3.1+";
/// The value of `Upgrade` for SPDY.
pub const SPDY: &str = "SPDY/3.1";
/// The header that names the protocols a client of SPDY offers, and the one that was chosen.
pub const PROTOCOL_VERSION: &str = "x-stream-protocol-version";

/// The channels of a remote command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Channel {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    Error = 3,
    Resize = 4,
    /// Closes the channel that the second byte names.
    Close = 255,
}

impl Channel {
    pub fn from_byte(byte: u8) -> Option<Channel> {
        let all = [
            Channel::Stdin,
            Channel::Stdout,
            Channel::Stderr,
            Channel::Error,
            Channel::Resize,
            Channel::Close,
        ];
        all.into_iter().find(|channel| *channel as u8 == byte)
    }

    /// The stream's type on SPDY.
    pub fn stream_type(self) -> &'static str {
        match self {
            Channel::Stdin => "stdin",
            Channel::Stdout => "stdout",
            Channel::Stderr => "stderr",
            Channel::Error => "error",
            Channel::Resize => "resize",
            Channel::Close => "",
        }
    }
}
