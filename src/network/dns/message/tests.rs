//! Questions as clients send them, and bytes that are none.

use std::str::FromStr;

use hickory_proto::rr::{Name, RData, RecordType};
use proptest::prelude::*;

use super::*;

fn query(edns: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str("a.b.").unwrap(), RecordType::A));
    if let Some(size) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

fn asked(bytes: &[u8]) -> ValidQuery {
    let Received::ValidQuery(asked) = read(bytes) else { panic!("it is a question") };
    *asked
}

fn addresses(count: u8) -> Content {
    let name = Name::from_str("a.b.").unwrap();
    let record =
        |last| Record::from_rdata(name.clone(), 5, RData::from(std::net::IpAddr::from([10, 0, 0, last])));
    Content { answers: (0..count).map(record).collect(), ..Content::default() }
}

#[test]
fn an_answer_that_is_too_large_is_cut_and_says_so() {
    for (edns, limit) in [(None, 512), (Some(100), 512), (Some(4096), 1232)] {
        let asked = asked(&query(edns));
        let small = Message::from_vec(&asked.answer(addresses(3), false).unwrap()).unwrap();
        assert_eq!((small.metadata.truncation, small.answers.len(), small.metadata.id), (false, 3, 7));
        assert_eq!(small.edns.is_some(), edns.is_some(), "who does not speak EDNS gets none");
        assert!(small.metadata.recursion_available && small.metadata.recursion_desired);
        let bytes = asked.answer(addresses(200), false).unwrap();
        let cut = Message::from_vec(&bytes).unwrap();
        assert!(cut.metadata.truncation && bytes.len() <= limit, "{} bytes", bytes.len());
        let whole = Message::from_vec(&asked.answer(addresses(200), true).unwrap()).unwrap();
        assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 200));
    }
}

#[test]
fn what_is_no_question_is_refused_or_not_answered() {
    let code = |bytes: &[u8]| match read(bytes) {
        Received::Refused(answer) => Some(Message::from_vec(&answer).unwrap().metadata.response_code),
        _ => None,
    };
    let mut answer = query(None);
    answer[2] |= 0x80;
    assert!(matches!(read(&answer), Received::Nothing), "an answer is never answered");
    assert!(matches!(read(&[1, 2, 3]), Received::Nothing));
    let mut update = query(None);
    update[2] |= 5 << 3;
    assert_eq!(code(&update), Some(ResponseCode::NotImp));
    let mut two = query(None);
    two[5] = 2;
    assert_eq!(code(&two), Some(ResponseCode::FormErr));
    let mut chaos = query(None);
    let end = chaos.len() - 1;
    chaos[end] = 3;
    assert_eq!(code(&chaos), Some(ResponseCode::Refused));
}

#[test]
fn only_the_answer_to_the_question_counts() {
    let asked = asked(&query(None));
    let answer = asked.answer(addresses(1), true).unwrap();
    assert_eq!(read_answer(&answer, 7, &asked.query).unwrap().0.answers.len(), 1);
    assert!(read_answer(&answer, 8, &asked.query).is_none(), "another number");
    let other = Query::query(Name::from_str("a.c.").unwrap(), RecordType::A);
    assert!(read_answer(&answer, 7, &other).is_none(), "another question");
    assert!(read_answer(&asked.forwarded(7).unwrap(), 7, &asked.query).is_none(), "a question");
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..600), at in 0_usize..30, byte in any::<u8>()) {
        let _ = read(&bytes);
        let mut bent = query(Some(1232));
        let at = at % bent.len();
        bent[at] = byte;
        if let Received::ValidQuery(asked) = read(&bent) {
            prop_assert!(asked.answer(addresses(100), false).is_none_or(|answer| answer.len() <= 1232));
            let _ = asked.forwarded(1);
        }
        let _ = read_answer(&bytes, 1, &Query::query(Name::root(), RecordType::A));
    }
}
