//! Asks the cluster's DNS as a pod would: for the name that is always there.
//!
//! One question, read only as far as to know whether it was answered; everything else about DNS is the
//! network's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

const PORT: u16 = 53;
/// One that has just started has a moment for learning its names.
const PATIENCE: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_millis(600);
const PAUSE: Duration = Duration::from_millis(100);

/// Why DNS is of no use to pods.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoName {
    #[error("nothing answers at {0}")]
    Silent(SocketAddr),
    #[error("{0} cannot be asked: {1}")]
    Unreachable(SocketAddr, io::Error),
    #[error("{0} answers about {1} with code {2} and no address: something else may have the address")]
    Unknown(SocketAddr, String, u8),
}

/// Asks for the API's name in the cluster's domain, several times within a short while.
pub(super) async fn ask(address: IpAddr, domain: &str) -> Result<(), NoName> {
    ask_at(SocketAddr::new(address, PORT), domain).await
}

async fn ask_at(server: SocketAddr, domain: &str) -> Result<(), NoName> {
    let name = format!("kubernetes.default.svc.{domain}");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let outcome = once(server, &name).await;
        if outcome.is_ok() || tokio::time::Instant::now() + PAUSE >= deadline {
            return outcome;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn once(server: SocketAddr, name: &str) -> Result<(), NoName> {
    let exchange = async {
        let own = match server {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = UdpSocket::bind((own, 0)).await?;
        socket.connect(server).await?;
        socket.send(&question(name)).await?;
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).await?;
        Ok::<_, io::Error>(buffer[..length].to_vec())
    };
    match tokio::time::timeout(ANSWER_TIMEOUT, exchange).await {
        Err(_) => Err(NoName::Silent(server)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(NoName::Silent(server)),
        Ok(Err(error)) => Err(NoName::Unreachable(server, error)),
        Ok(Ok(answer)) => match verdict(&answer) {
            Some((0, 1..)) => Ok(()),
            Some((code, _)) => Err(NoName::Unknown(server, name.to_string(), code)),
            None => Err(NoName::Silent(server)),
        },
    }
}

const ID: [u8; 2] = [0x6d, 0x38];

/// A question for IPv4 addresses, with recursion wished for as resolvers do.
fn question(name: &str) -> Vec<u8> {
    let mut message = [&ID[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend(label);
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Response code and number of answers; none if it is no answer to our question.
fn verdict(message: &[u8]) -> Option<(u8, u16)> {
    let head = message.get(..12)?;
    let is_answer = head[..2] == ID && head[2] & 0x80 != 0;
    is_answer.then(|| (head[3] & 0x0f, u16::from_be_bytes([head[6], head[7]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_what_resolvers_send() {
        let message = question("a.bc");
        assert_eq!(message, b"\x6d\x38\x01\0\0\x01\0\0\0\0\0\0\x01a\x02bc\0\0\x01\0\x01");
    }

    #[tokio::test]
    async fn a_name_server_is_judged_by_its_answer() {
        for (code, answers, wanted) in
            [(0, 1, "Ok(())"), (3, 0, "with code 3 and no address"), (0, 0, "with code 0 and no address")]
        {
            let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let place = server.local_addr().unwrap();
            let serving = async move {
                let mut buffer = [0; 512];
                loop {
                    let (length, from) = server.recv_from(&mut buffer).await.unwrap();
                    let mut answer = buffer[..length].to_vec();
                    (answer[2], answer[3], answer[7]) = (0x81, 0x80 | code, answers);
                    server.send_to(&answer, from).await.unwrap();
                }
            };
            let said = tokio::select! {
                asked = ask_at(place, "cluster.local") => match asked {
                    Ok(()) => "Ok(())".to_string(),
                    Err(error) => error.to_string(),
                },
                () = serving => unreachable!("it serves for ever"),
            };
            assert!(said.contains(wanted), "{said}");
        }
        // A port that nobody has.
        let free = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(matches!(ask_at(free, "cluster.local").await, Err(NoName::Silent(_))));
    }
}
