//! What many services cost.

use super::*;

/// Not a check of speed, which no build without optimisation tells, but of that it does not grow with the
/// square.
#[test]
fn ten_thousand_services_are_planned_at_once() {
    let all: Vec<_> = (0..10_000_u32)
        .map(|at| {
            let [_, _, high, low] = at.to_be_bytes();
            let it =
                service("x", json!({"clusterIP": format!("10.43.{high}.{low}"), "ports": [{"port": 80}]}));
            let (a, b) = (format!("10.42.{high}.{low}"), format!("10.44.{high}.{low}"));
            let endpoints = [(a.as_str(), "one", json!({})), (b.as_str(), "two", json!({}))];
            let name = ("ns".to_string(), format!("s{at}"));
            (name, known(&it, &[slice("x", ("", "TCP", 8080), &endpoints)]))
        })
        .collect();
    let mut planner = Planner::new(Family::V4, node());
    let began = Instant::now();
    let round = planner.update(all);
    assert_eq!(round.add.len(), 50_000);
    let table = Table { family: Family::V4, name: "t".into(), pods: None };
    let script = table.anew(planner.elements().iter());
    let took = began.elapsed();
    println!("planned and written in {took:?}: {} bytes", script.len());
    assert!(took < Duration::from_secs(20), "{took:?}");
    if let Some(path) = std::env::var_os("WRITE_SCRIPT") {
        std::fs::write(path, script).unwrap();
    }
}
