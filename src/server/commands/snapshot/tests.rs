//! Sizes as they are printed.

use super::*;

#[test]
fn sizes_are_printed_as_etcdctl_does() {
    let sizes = [(0, "0 B"), (999, "999 B"), (9_960, "10 kB"), (20_480, "20 kB"), (192_512, "192 kB")];
    for (bytes, text) in sizes.into_iter().chain([(2_100_000, "2.1 MB"), (193_500, "194 kB")]) {
        assert_eq!(human_size(bytes), text);
    }
}
