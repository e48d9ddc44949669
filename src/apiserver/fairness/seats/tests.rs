//! The queueing core without time: shares, borrowing, fairness between flows, bounds.

use super::*;

const EVEN: [Share; 2] =
    [Share { shares: 1, lendable_percent: 50 }, Share { shares: 1, lendable_percent: 50 }];

fn place(level: usize, flow: u64) -> Place {
    Place { level, flow }
}

/// So many requests come; how many of them run at once.
fn arrive(seats: &mut Seats<u64>, place: Place, count: usize) -> usize {
    let running = |_: &usize| seats.arrive(place, 1, Patience::Bounded, || place.flow) == Arrival::Running;
    (0..count).filter(running).count()
}

fn started(seats: &mut Seats<u64>) -> Vec<u64> {
    std::iter::from_fn(|| seats.start()).collect()
}

#[test]
fn a_level_borrows_what_others_do_not_keep_and_gets_its_own_first() {
    let mut seats = Seats::new(40, &EVEN);
    for flow in 0..10 {
        arrive(&mut seats, place(0, flow), 10);
    }
    assert_eq!(seats.in_use, 30, "twenty of its own and ten that the other lends");
    assert_eq!(arrive(&mut seats, place(1, 7), 20), 10, "what is kept is there at once");
    assert_eq!(arrive(&mut seats, place(1, 8), 10), 0);
    for _ in 0..5 {
        seats.finish(place(0, 0), 1);
        assert_eq!(started(&mut seats), [8], "who has less than its share is next");
    }
}

#[test]
fn many_requests_of_one_flow_do_not_delay_another_flow() {
    let mut seats = Seats::new(40, &EVEN);
    for flow in 0..3 {
        assert_eq!(arrive(&mut seats, place(0, flow), 100), 10, "a flow has a quarter at most");
    }
    assert_eq!(arrive(&mut seats, place(0, 9), 1), 0);
    seats.finish(place(0, 0), 1);
    assert_eq!(started(&mut seats), [9], "who has nothing is next");
    seats.finish(place(0, 1), 1);
    assert_eq!(started(&mut seats), [0], "then who has waited longest among the least");
}

#[test]
fn queues_are_bounded_and_can_be_left() {
    let mut seats = Seats::new(4, &EVEN[..1]);
    assert_eq!(arrive(&mut seats, place(0, 1), 1), 1);
    let Arrival::Waiting(first) = seats.arrive(place(0, 1), 1, Patience::Bounded, || 11) else {
        panic!("it waits")
    };
    for _ in 1..QUEUE {
        assert!(matches!(seats.arrive(place(0, 1), 1, Patience::Bounded, || 12), Arrival::Waiting(_)));
    }
    assert_eq!(seats.arrive(place(0, 1), 1, Patience::Bounded, || 13), Arrival::Refused);
    assert!(seats.leave(place(0, 1), first));
    assert!(!seats.leave(place(0, 1), first), "only once");
    seats.finish(place(0, 1), 1);
    assert_eq!(started(&mut seats), [12]);
}

#[test]
fn wide_requests_are_held_to_what_can_be_had_and_are_not_passed_over_for_ever() {
    let mut seats = Seats::new(40, &EVEN);
    let wide = seats.width(1000);
    assert_eq!(wide, 10);
    assert_eq!(arrive(&mut seats, place(0, 1), 10), 10);
    assert_eq!(arrive(&mut seats, place(0, 2), 10), 10);
    assert_eq!(arrive(&mut seats, place(0, 3), 9), 9);
    assert!(matches!(seats.arrive(place(0, 4), wide, Patience::Bounded, || 4), Arrival::Waiting(_)));
    assert_eq!(arrive(&mut seats, place(0, 3), 1), 0, "one seat is free, but it is the wide one's turn");
    for _ in 0..8 {
        seats.finish(place(0, 1), 1);
        assert!(started(&mut seats).is_empty());
    }
    seats.finish(place(0, 1), 1);
    assert_eq!(started(&mut seats), [4]);
}

#[test]
fn nothing_is_left_behind() {
    let mut seats = Seats::new(7, &EVEN);
    let mut running: Vec<Place> = Vec::new();
    let mut state: u64 = 1;
    for round in 0..5000_u64 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let at = place((state >> 33) as usize % 2, state >> 40 & 3);
        if round % 3 == 2 && !running.is_empty() {
            let index = (state >> 20) as usize % running.len();
            seats.finish(running.swap_remove(index), 1);
        } else if seats.arrive(at, 1, Patience::Bounded, || (at.level as u64) << 8 | at.flow)
            == Arrival::Running
        {
            running.push(at);
        }
        running.extend(started(&mut seats).iter().map(|key| place((key >> 8) as usize, key & 255)));
        assert_eq!(seats.in_use, running.len());
        assert!(seats.in_use <= 7);
    }
    while let Some(one) = running.pop() {
        seats.finish(one, 1);
        running.extend(started(&mut seats).iter().map(|key| place((key >> 8) as usize, key & 255)));
    }
    assert!(
        seats
            .levels
            .iter()
            .all(|level| level.waiting == 0 && level.flows.is_empty() && level.order.is_empty())
    );
}
