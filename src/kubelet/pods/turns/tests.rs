//! Order, giving up, and what hangs.

use futures::FutureExt;
use futures::future::join_all;

use super::*;

async fn work(turns: &Turns, millis: u64) {
    let turn = turns.take().await;
    turn.spend(tokio::time::sleep(Duration::from_millis(millis))).await;
}

#[tokio::test(start_paused = true)]
async fn turns_come_in_order_and_a_few_at_a_time() {
    let turns = Turns::new(2);
    let begun = tokio::time::Instant::now();
    let ended = (0..6).map(|_| work(&turns, 100).map(|()| begun.elapsed().as_millis()));
    assert_eq!(join_all(ended).await, [100, 100, 200, 200, 300, 300]);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_or_takes_too_long_holds_nobody_up() {
    let turns = Turns::new(1);
    let begun = tokio::time::Instant::now();
    let pulls = async {
        let turn = turns.take().await;
        turn.give_up();
        turn.spend(tokio::time::sleep(Duration::from_secs(30))).await;
    };
    let all = [work(&turns, 60_000).boxed_local(), pulls.boxed_local(), work(&turns, 0).boxed_local()];
    let ended = all.map(|one| one.map(|()| begun.elapsed().as_secs()));
    assert_eq!(join_all(ended).await, [60, 32, 2]);
}

#[tokio::test]
async fn a_turn_ends_when_its_worker_is_stopped() {
    let turns = Turns::new(1);
    let stopped = async {
        let turn = turns.take().await;
        turn.spend(std::future::pending::<()>()).await;
    };
    assert!(stopped.now_or_never().is_none());
    assert!(turns.take().now_or_never().is_some());
}
