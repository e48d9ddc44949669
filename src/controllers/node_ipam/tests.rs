//! Tests of the choice of a free part.

use std::collections::HashSet;

use super::choose;

#[test]
fn parts_are_given_in_a_circle() {
    let taken = |list: &[u32]| list.iter().copied().collect::<HashSet<u32>>();
    assert_eq!(choose(4, 0, &taken(&[])), Some(0));
    assert_eq!(choose(4, 1, &taken(&[0])), Some(1));
    assert_eq!(choose(4, 4, &taken(&[1, 2])), Some(0));
    assert_eq!(choose(4, 2, &taken(&[2, 3, 0])), Some(1));
    assert_eq!(choose(4, 2, &taken(&[0, 1, 2, 3])), None);
    assert_eq!(choose(0, 2, &taken(&[])), None);
}
