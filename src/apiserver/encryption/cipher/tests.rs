//! The expected values are those of other implementations (libsodium, OpenSSL), so that what is read here is
//! what upstream's API server has written.

use super::*;

const PLAIN: &[u8] = br#"{"kind":"Secret","data":{"a":"cGxhaW4="}}"#;
const PLACE: &[u8] = b"/registry/secrets/default/s";

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hexadecimal[at..at + 2], 16).unwrap();
    (0..hexadecimal.len()).step_by(2).map(digit).collect()
}

/// 0, 1, 2, …
fn key(length: u8) -> Vec<u8> {
    (0..length).collect()
}

#[test]
fn values_of_other_implementations_are_read() {
    let secretbox = "6465666768696a6b6c6d6e6f707172737475767778797a7b12e7431f686e5baebbd92e9b8cd66177799bf2a0\
                     54d2ecd392ae46f745e1d73a12885cc690c76921dd2e23b630a9aacfd007954f7b0ab99988";
    assert_eq!(Cipher::secretbox(&key(32)).unwrap().open(PLACE, &bytes(secretbox)).unwrap(), PLAIN);
    for (length, sealed) in [
        (
            16,
            "6465666768696a6b6c6d6e6f614025ccb5669ac0b96d3273f4af5fce1caa1c9ee6c8ff608f4dd0b586d094b4c2943373\
              bf2505ecf7dbfd992e0b97cbdf2ed40ccc5f1104c8",
        ),
        (
            24,
            "6465666768696a6b6c6d6e6f924ad0153ccb2c02f18287628897ef9cf17b3aab8ee853d5fa6129e88c4cfb07223c66c8\
              6c2866cd039c1c733dc8e6b2d475e449d285f8abcb",
        ),
        (
            32,
            "6465666768696a6b6c6d6e6f3339b50f178d74a41c313a8ba8001edf6ee0626bff0dd148dcf3cd6ac181c60fec812197\
              782fb9798008d1674cff02bd91191a9c27d7920802",
        ),
    ] {
        assert_eq!(
            Cipher::gcm(&key(length)).unwrap().open(PLACE, &bytes(sealed)).unwrap(),
            PLAIN,
            "{length}"
        );
    }
    for (length, sealed) in [
        (
            16,
            "6465666768696a6b6c6d6e6f7071727384dae64f6f36421d0828c8a3d20c4f276b34f933452f77ae59476c526adfb689\
              f03a160843960d02e3a5d83eb2ffaf09",
        ),
        (
            24,
            "6465666768696a6b6c6d6e6f7071727352efc26e767f4d8852369f65ebadc68c771a3c3fa7317febb9bd1faf3d6dc9a0\
              94e2c63bc2cec1d47f1ab43150ca3ddb",
        ),
        (
            32,
            "6465666768696a6b6c6d6e6f7071727344283a8a80a45cba29966b60a5c5bdab72b50e769ab99cbcc1487fbdca126f6d\
              d8c89e739b83a8005d3c94242220d9da",
        ),
    ] {
        assert_eq!(
            Cipher::cbc(&key(length)).unwrap().open(PLACE, &bytes(sealed)).unwrap(),
            PLAIN,
            "{length}"
        );
    }
}

#[test]
fn a_box_is_written_as_others_write_it() {
    let nonce: Vec<u8> = (100..124).collect();
    let sealed = seal_box_with(&key(32).try_into().unwrap(), &nonce.try_into().unwrap(), PLAIN);
    assert!(sealed.starts_with(&bytes("6465666768696a6b6c6d6e6f707172737475767778797a7b12e7431f686e5bae")));
}

fn ciphers(first: u8) -> Vec<(&'static str, Cipher)> {
    let key = |length: u8| -> Vec<u8> { (0..length).map(|at| at.wrapping_add(first)).collect() };
    vec![
        ("secretbox", Cipher::secretbox(&key(32)).unwrap()),
        ("gcm 16", Cipher::gcm(&key(16)).unwrap()),
        ("gcm 24", Cipher::gcm(&key(24)).unwrap()),
        ("gcm 32", Cipher::gcm(&key(32)).unwrap()),
        ("cbc 16", Cipher::cbc(&key(16)).unwrap()),
        ("cbc 24", Cipher::cbc(&key(24)).unwrap()),
        ("cbc 32", Cipher::cbc(&key(32)).unwrap()),
    ]
}

#[test]
fn what_is_sealed_opens_again_and_never_looks_the_same_twice() {
    for (name, cipher) in ciphers(7) {
        for length in [0, 1, 15, 16, 17, 31, 32, 1000] {
            let plain = vec![b'p'; length];
            let (one, other) = (cipher.seal(PLACE, &plain), cipher.seal(PLACE, &plain));
            assert_ne!(one, other, "{name}");
            assert_eq!(cipher.open(PLACE, &one).unwrap(), plain, "{name} {length}");
        }
    }
}

#[test]
fn another_key_and_damage_are_noticed() {
    for ((name, cipher), (_, other)) in ciphers(7).into_iter().zip(ciphers(8)) {
        let sealed = cipher.seal(PLACE, PLAIN);
        // CBC authenticates nothing: what comes of another key has the right padding once in 256 times.
        if !name.starts_with("cbc") {
            assert_eq!(other.open(PLACE, &sealed), Err(CipherError::Wrong), "{name}");
            for at in 0..sealed.len() {
                let mut damaged = sealed.clone();
                damaged[at] ^= 1;
                assert_eq!(cipher.open(PLACE, &damaged), Err(CipherError::Wrong), "{name} {at}");
            }
        } else {
            assert_ne!(other.open(PLACE, &sealed).ok().as_deref(), Some(PLAIN), "{name}");
        }
        for length in 0..sealed.len() {
            assert!(cipher.open(PLACE, &sealed[..length]).ok().as_deref() != Some(PLAIN), "{name} {length}");
        }
    }
    let gcm = Cipher::gcm(&key(32)).unwrap();
    let sealed = gcm.seal(PLACE, PLAIN);
    assert_eq!(gcm.open(b"/registry/secrets/other/s", &sealed), Err(CipherError::Wrong));
}
