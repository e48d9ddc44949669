//! Values of other implementations, and what must not open.

use super::*;

const PLACE: &[u8] = b"/registry/secrets/default/s";

#[test]
fn a_value_of_another_implementation_is_read() {
    let sealed = "c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e76465666768696a6b6c6d6e6f58d2a087\
                  ea7a0b714eca1496fd9c3ce2e501af82a3889bff36aa4c7b4cc1ccba894eaf733a8c8262292dda4ac13792c940aa57cc\
                  0eece79402";
    let digit = |at: usize| u8::from_str_radix(&sealed[at..at + 2], 16).unwrap();
    let sealed: Vec<u8> = (0..sealed.len()).step_by(2).map(digit).collect();
    let seed = Seed::new(SourceType::Seed as i32, (0..32).collect()).unwrap();
    assert_eq!(seed.open(PLACE, &sealed).unwrap(), br#"{"kind":"Secret","data":{"a":"cGxhaW4="}}"#);
    assert_eq!(seed.open(b"/registry/secrets/default/t", &sealed), Err(KmsError::Wrong));
    assert_eq!(seed.open(PLACE, &sealed[..31]), Err(KmsError::Wrong));
}

#[test]
fn a_seed_and_a_key_open_what_they_have_sealed() {
    for kind in [SourceType::Seed, SourceType::Key] {
        let seed = Seed::new(kind as i32, vec![7; 32]).unwrap();
        let sealed = seed.seal(PLACE, b"plain");
        assert_ne!(sealed, seed.seal(PLACE, b"plain"));
        assert_eq!(seed.open(PLACE, &sealed).unwrap(), b"plain");
        assert_eq!(Seed::new(kind as i32, vec![8; 32]).unwrap().open(PLACE, &sealed), Err(KmsError::Wrong));
    }
    assert!(Seed::new(SourceType::Seed as i32, vec![0; 31]).is_err());
}

#[test]
fn what_tells_seeds_apart_has_all_that_decrypts_them() {
    let one = EncryptedObject::of_seed(b"ab".to_vec(), "c".into(), HashMap::new());
    let other = EncryptedObject::of_seed(b"a".to_vec(), "bc".into(), HashMap::new());
    let annotated = EncryptedObject { annotations: [("a.b".to_string(), vec![1])].into(), ..one.clone() };
    assert_ne!(one.source_key(), other.source_key());
    assert_ne!(one.source_key(), annotated.source_key());
}
