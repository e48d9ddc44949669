//! Messages that are cut.

use super::*;

#[test]
fn long_messages_are_cut_at_the_end_of_a_character() {
    assert_eq!(truncated("short"), "short");
    let long = truncated(&"ä".repeat(600));
    assert!(long.len() <= LONGEST_NOTE && long.ends_with("ä ..."), "{}", long.len());
}
