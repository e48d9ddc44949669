//! The codec against itself and against bytes of Go's, and a connection against a double of the other end.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, DuplexStream};

use super::dictionary::DICTIONARY;
use super::headers::{LARGEST_BLOCK, Packer, Unpacker};
use super::*;

fn decode(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Frame> {
    decoder.buffer().extend_from_slice(bytes);
    std::iter::from_fn(|| decoder.decode().unwrap()).collect()
}

#[test]
fn the_dictionary_is_the_drafts() {
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in DICTIONARY {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    assert_eq!(b << 16 | a, 0xe3c6_a7c2);
}

#[test]
fn headers_go_on_from_block_to_block() {
    let (mut packer, mut unpacker) = (Packer::new(), Unpacker::new());
    for port in ["80", "443", "80"] {
        let block = packer.pack(&[("streamtype", "data"), ("port", port), ("requestid", "0")]).unwrap();
        let expected = [("streamtype", "data"), ("port", port), ("requestid", "0")];
        let expected: Vec<_> = expected.map(|(name, value)| (name.to_string(), value.to_string())).into();
        assert_eq!(unpacker.unpack(&block).unwrap(), expected);
    }
}

#[test]
fn a_bomb_is_refused() {
    let mut packer = Packer::new();
    let long = "x".repeat(LARGEST_BLOCK + 1);
    assert!(matches!(packer.pack(&[("a", &long)]), Err(SpdyError::TooLarge)));
    let mut compress = flate2::Compress::new(flate2::Compression::best(), true);
    let mut block = Vec::with_capacity(100_000);
    compress.compress_vec(&vec![0; 10 << 20], &mut block, flate2::FlushCompress::Sync).unwrap();
    assert!(block.len() < LARGEST_BLOCK);
    assert!(matches!(Unpacker::new().unpack(&block), Err(SpdyError::TooLarge)));
    assert!(matches!(Unpacker::new().unpack(b"no zlib at all"), Err(SpdyError::Malformed(_))));
}

#[test]
fn broken_frames_are_named() {
    let too_large = [0x80, 3, 0, 1, 0, 1, 0, 1];
    let other_version = [0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1];
    let too_short = [0x80, 3, 0, 6, 0, 0, 0, 2, 0, 0];
    for (bytes, expected) in [
        (&too_large[..], "a frame of control or its headers exceed 64 KiB"),
        (&other_version, "the other end does not speak SPDY/3"),
        (&too_short, "a frame of control is too short"),
    ] {
        let mut decoder = Decoder::default();
        decoder.buffer().extend_from_slice(bytes);
        assert_eq!(decoder.decode().unwrap_err().to_string(), expected);
    }
}

#[test]
fn what_does_not_matter_is_passed_over() {
    let settings = [0x80, 3, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0];
    let window = [0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1];
    let mut decoder = Decoder::default();
    assert_eq!(decode(&mut decoder, &settings), [Frame::Other]);
    assert_eq!(decode(&mut decoder, &window), [Frame::Other]);
}

#[test]
fn large_data_is_several_frames_and_comes_in_pieces() {
    let sent: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    let mut out = BytesMut::new();
    put_data(&mut out, 5, true, &sent);
    let mut decoder = Decoder::default();
    let mut received = Vec::new();
    let mut ended = false;
    for piece in out.chunks(7_000) {
        for frame in decode(&mut decoder, piece) {
            let Frame::Data { stream: 5, fin, bytes } = frame else { panic!("{frame:?}") };
            assert!(!ended && bytes.len() <= 7_000);
            received.extend_from_slice(&bytes);
            ended = fin;
        }
    }
    assert!(ended && received == sent);
}

#[derive(Clone, Debug)]
enum Step {
    Open(Vec<(String, String)>),
    Data(u32, bool, Vec<u8>),
    Reset(u32, u32),
    Ping(u32),
    GoAway,
}

fn step() -> impl Strategy<Value = Step> {
    let pair = ("[a-z]{1,12}", "[ -~]{0,40}");
    prop_oneof![
        proptest::collection::vec(pair, 0..6).prop_map(Step::Open),
        (1..9_u32, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(stream, fin, bytes)| Step::Data(stream, fin, bytes)),
        (1..9_u32, any::<u32>()).prop_map(|(stream, status)| Step::Reset(stream, status)),
        any::<u32>().prop_map(Step::Ping),
        Just(Step::GoAway),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(steps in proptest::collection::vec(step(), 1..20), size in 1..300_usize) {
        let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
        let mut expected = Vec::new();
        for step in steps {
            match step {
                Step::Open(headers) => {
                    let pairs: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
                    encoder.put_syn_stream(&mut out, 1, &pairs).unwrap();
                    expected.push(Frame::SynStream { stream: 1, fin: false, headers });
                }
                Step::Data(stream, fin, bytes) => {
                    put_data(&mut out, stream, fin, &bytes);
                    expected.push(Frame::Data { stream, fin, bytes: bytes.into() });
                }
                Step::Reset(stream, status) => {
                    put_reset(&mut out, stream, status);
                    expected.push(Frame::Reset { stream, status });
                }
                Step::Ping(number) => {
                    put_ping(&mut out, number);
                    expected.push(Frame::Ping(number));
                }
                Step::GoAway => {
                    put_go_away(&mut out);
                    expected.push(Frame::GoAway);
                }
            }
        }
        let mut decoder = Decoder::default();
        let mut read: Vec<Frame> = Vec::new();
        for piece in out.chunks(size) {
            for frame in decode(&mut decoder, piece) {
                let whole = read.len().checked_sub(1).and_then(|last| expected.get(last));
                match (read.last_mut(), frame) {
                    // Pieces of one frame: all but the last are without its end and fill no frame of their
                    // own.
                    (Some(Frame::Data { stream, fin, bytes }), Frame::Data { stream: other, fin: ends, bytes: more })
                        if *stream == other
                            && !*fin
                            && matches!(whole, Some(Frame::Data { bytes: all, .. }) if all.len() > bytes.len()) =>
                    {
                        *bytes = [&bytes[..], &more[..]].concat().into();
                        *fin = ends;
                    }
                    (_, frame) => read.push(frame),
                }
            }
        }
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        crate::streams::fuzzing::spdy(&bytes);
    }
}

#[test]
fn seeds_of_the_fuzz_target_pass() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/seeds/spdy");
    let mut count = 0;
    for seed in std::fs::read_dir(seeds).unwrap() {
        crate::streams::fuzzing::spdy(&std::fs::read(seed.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0);
}

/// The other end: answers what the test tells it to.
struct Server {
    reader: FrameReader<tokio::io::ReadHalf<DuplexStream>>,
    writer: tokio::io::WriteHalf<DuplexStream>,
    encoder: Encoder,
}

impl Server {
    fn new(io: DuplexStream) -> Self {
        let (reader, writer) = tokio::io::split(io);
        Server { reader: FrameReader::new(reader), writer, encoder: Encoder::default() }
    }

    async fn write(&mut self, put: impl FnOnce(&mut BytesMut, &mut Encoder)) {
        let mut out = BytesMut::new();
        put(&mut out, &mut self.encoder);
        self.writer.write_all(&out).await.unwrap();
    }

    async fn expect(&mut self) -> Frame {
        self.reader.next().await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn streams_carry_data_ends_and_resets() {
    let (near, far) = tokio::io::duplex(4096);
    let (connection, driver) = Connection::new(near);
    let mut server = Server::new(far);
    let client = async {
        let (mut reader, writer) = connection.open(vec![("streamtype", "data".into())]).await.unwrap();
        let (mut other, _) = connection.open(vec![("streamtype", "error".into())]).await.unwrap();
        writer.write(Bytes::from_static(b"question")).await.unwrap();
        writer.close().await.unwrap();
        assert_eq!(reader.read_to_end(100).await.unwrap(), b"answer");
        assert_eq!(other.next().await, Err(StreamError::Reset));
        assert_eq!(connection.open_streams(), 0);
        let (mut lost, _) = connection.open(Vec::new()).await.unwrap();
        assert_eq!(lost.next().await, Err(StreamError::Lost));
        connection.closed().await;
    };
    let server = async move {
        let headers = vec![("streamtype".to_string(), "data".to_string())];
        assert_eq!(server.expect().await, Frame::SynStream { stream: 1, fin: false, headers });
        let headers = vec![("streamtype".to_string(), "error".to_string())];
        assert_eq!(server.expect().await, Frame::SynStream { stream: 3, fin: false, headers });
        server
            .write(|out, encoder| {
                encoder.put_syn_reply(out, 1).unwrap();
                encoder.put_syn_reply(out, 3).unwrap();
                put_ping(out, 2);
            })
            .await;
        let mut data = Vec::new();
        let mut pinged = false;
        loop {
            match server.expect().await {
                Frame::Data { stream: 1, fin, bytes } => {
                    data.extend_from_slice(&bytes);
                    if fin {
                        break;
                    }
                }
                Frame::Ping(2) => pinged = true,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(data, b"question");
        server
            .write(|out, _| {
                put_data(out, 1, false, b"ans");
                put_data(out, 7, false, b"of no stream");
                put_data(out, 1, true, b"wer");
                put_reset(out, 3, 1);
            })
            .await;
        loop {
            match server.expect().await {
                Frame::Ping(2) => pinged = true,
                Frame::SynStream { stream: 5, .. } => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(pinged, "a ping is answered");
        server.write(|out, _| put_go_away(out)).await;
    };
    let (done, (), ()) = tokio::join!(driver.run(), client, server);
    done.unwrap();
}

#[tokio::test]
async fn a_stream_that_is_given_up_holds_nothing() {
    let (near, far) = tokio::io::duplex(4096);
    let (connection, driver) = Connection::new(near);
    let mut server = Server::new(far);
    let client = async {
        for _ in 0..2000 {
            let (_reader, writer) = connection.open(vec![("port", "80".into())]).await.unwrap();
            writer.reset().await.unwrap();
        }
        let open = connection.open_streams();
        drop(connection);
        open
    };
    let server = async {
        let mut opened = 0;
        loop {
            match server.expect().await {
                Frame::SynStream { .. } => opened += 1,
                Frame::Reset { .. } => {}
                Frame::GoAway => return opened,
                other => panic!("{other:?}"),
            }
        }
    };
    let (done, open, opened) = tokio::join!(driver.run(), client, server);
    done.unwrap();
    assert_eq!((open, opened), (0, 2000));
}
