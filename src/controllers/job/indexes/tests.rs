//! Tests of index sets against plain sets.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn they_are_written_as_upstream_does() {
    for text in ["", "0", "0,1", "0-2", "1,3-5,7", "2,4,5,7-9"] {
        assert_eq!(Indexes::parse(text, 100).to_string(), text);
    }
    assert_eq!(Indexes::parse("0-2,3,x,9-4,5-90", 10).to_string(), "0-3,5-9");
    assert_eq!(Indexes::parse("3,4", 0).to_string(), "");
}

proptest! {
    #[test]
    fn they_behave_like_sets(
        one in prop::collection::btree_set(0_u32..40, 0..30),
        two in prop::collection::btree_set(0_u32..40, 0..30),
        count in 0_usize..10,
    ) {
        let (first, second) = (Indexes::default().with(one.clone()), Indexes::default().with(two.clone()));
        prop_assert_eq!(first.total(), one.len());
        prop_assert_eq!(first.is_empty(), one.is_empty());
        prop_assert!((0..45).all(|index| first.contains(index) == one.contains(&index)));
        let both: BTreeSet<u32> = one.union(&two).copied().collect();
        prop_assert_eq!(first.union(&second), Indexes::default().with(both));
        prop_assert_eq!(first.shared(&second), one.intersection(&two).count());
        prop_assert_eq!(Indexes::parse(&first.to_string(), 40), first.clone());
        let missing: Vec<u32> = (0..35).filter(|index| !one.contains(index)).take(count).collect();
        prop_assert_eq!(first.missing(count, 35), missing);
    }
}
