//! A way in for the fuzz target: what a client or a name server could send. Kept here so that what the target
//! has found is tried by ordinary tests, too.

use hickory_proto::op::Message;

use super::message::{Content, LARGEST_DATAGRAM, Received, read, read_answer};
use super::zone::Zone;

/// Any bytes are a question that can be answered, or are refused, or are nothing: nothing panics, an answer
/// over UDP is as small as it must be and can be read, and what is asked elsewhere is the same question.
///
/// Input: what arrives.
///
/// # Panics
///
/// If that does not hold.
pub fn dns(input: &[u8]) {
    match read(input) {
        Received::Nothing => {}
        Received::Refused(answer) => {
            Message::from_vec(&answer).expect("a refusal that can be read");
        }
        Received::ValidQuery(asked) => {
            let content = || Content {
                answers: (0..100).filter_map(|_| Zone::new("cluster.local")?.authority()).collect(),
                ..Content::default()
            };
            let answer = asked.answer(content(), false).expect("an answer");
            assert!(answer.len() <= usize::from(LARGEST_DATAGRAM), "larger than every network takes");
            Message::from_vec(&answer).expect("an answer that can be read");
            asked.answer(content(), true).expect("an answer");
            let _ = Zone::new("cluster.local").map(|zone| {
                zone.answer(asked.query.name(), asked.query.query_type());
            });
            if let Some(forwarded) = asked.forwarded(1) {
                let Received::ValidQuery(again) = read(&forwarded) else { panic!("it is a question") };
                assert_eq!(again.query.name(), asked.query.name());
                let _ = read_answer(input, 1, &asked.query);
            }
        }
    }
    // Name servers send anything, too.
    if let Ok(message) = Message::from_vec(input)
        && let [query] = message.queries.as_slice()
    {
        let _ = read_answer(input, message.metadata.id, query);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_fuzz_target_has_found_breaks_nothing() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/seeds/dns");
        let mut count = 0;
        for entry in std::fs::read_dir(seeds).unwrap().flatten() {
            super::dns(&std::fs::read(entry.path()).unwrap());
            count += 1;
        }
        assert!(count > 0);
    }
}
