//! The repair of authorities, on the bytes that clients send.

use tokio::io::AsyncReadExt;

use super::*;

/// A frame of headers around a block.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, 4, 0, 0, 0, 1], payload].concat()
}

/// Feeds bytes in pieces of every size and returns what comes out.
async fn pass(bytes: &[u8]) -> Vec<u8> {
    let input = [PREFIX, &[b'*'; PREFACE - 4], bytes].concat();
    let mut results = Vec::new();
    for piece in 1..input.len() {
        let mut builder = tokio_stream::iter(
            input.chunks(piece).map(|c| Ok::<_, io::Error>(c.to_vec())).collect::<Vec<_>>(),
        );
        let (client, server) = tokio::io::duplex(1 << 16);
        let (mut write, mut repaired) = (client, Repaired::new(server));
        let feed = async {
            use tokio::io::AsyncWriteExt;
            while let Some(piece) = builder.next().await {
                write.write_all(&piece.unwrap()).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(write);
        };
        let mut out = Vec::new();
        let (_, read) = tokio::join!(feed, repaired.read_to_end(&mut out));
        read.unwrap();
        results.push(out.split_off(PREFACE));
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "it does not matter how the bytes arrive");
    results.pop().unwrap()
}

#[tokio::test]
async fn urls_become_authorities() {
    // "http://" and "https://" followed by "a" (00011), Huffman coded and padded, and the same in the clear.
    let plain = [0x41, 11, b'h', b't', b't', b'p', b':', b'/', b'/', b'a', b':', b'8', b'0'];
    let secure = [0x41, 0x80 | 7, 0x9d, 0x29, 0xad, 0x17, 0x18, 0x60, 0xff];
    let huffman = [0x41, 0x80 | 6, 0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x1f, 0xff];
    let out = pass(&frame(1, &plain)).await;
    assert_eq!(out, frame(1, b"\x41\x0bhttpB--a:80"));
    let out = pass(&frame(1, &secure)).await;
    assert_eq!(out, frame(1, &[0x41, 0x87, 0x9d, 0x29, 0xad, 0x17, 0x56, 0x58, 0xff]));
    let out = pass(&frame(1, &huffman)).await;
    assert_eq!(out, frame(1, &[0x41, 0x86, 0x9d, 0x29, 0xae, 0xea, 0xcb, 0x1f, 0xff]));
}

#[tokio::test]
async fn http_1_passes_as_it_is() {
    let request = b"GET /metrics HTTP/1.1\r\nhost: http://a\r\n\r\n".repeat(40);
    let (client, server) = tokio::io::duplex(1 << 16);
    let (mut write, mut repaired) = (client, Repaired::new(server));
    let feed = async {
        use tokio::io::AsyncWriteExt;
        write.write_all(&request).await.unwrap();
        drop(write);
    };
    let mut out = Vec::new();
    let (_, read) = tokio::join!(feed, repaired.read_to_end(&mut out));
    read.unwrap();
    assert!(out == request);
}

#[tokio::test]
async fn nothing_else_is_touched() {
    let data = [frame(0, b"\x41\x0bhttp://a:80"), frame(4, &[]), frame(1, b"\x41\x0blocalhost:1")].concat();
    assert_eq!(pass(&data).await, data);
    let half = &data[..data.len() - 3];
    assert_eq!(pass(half).await, half);
}
