//! Sockets that take nothing.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn a_write_that_nobody_reads_fails_in_time_and_progress_starts_it_anew() {
    let (ours, mut theirs) = tokio::io::duplex(8);
    let mut patient = WriteTimeout::new(ours, LIMIT, Arc::default());
    let begun = Instant::now();
    let writing = tokio::time::timeout(LIMIT * 10, patient.write_all(&[0; 32]));
    let reading = async {
        tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
        let mut some = [0; 8];
        theirs.read_exact(&mut some).await.unwrap();
    };
    let (written, ()) = tokio::join!(writing, reading);
    assert_eq!(written.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(begun.elapsed().as_secs(), 2 * LIMIT.as_secs() - 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_leave_may_take_longer() {
    let (ours, _theirs) = tokio::io::duplex(8);
    let leave = Arc::new(AtomicUsize::new(1));
    let mut patient = WriteTimeout::new(ours, LIMIT, leave.clone());
    let begun = Instant::now();
    let taking_leave = async {
        tokio::time::sleep(LIMIT * 5).await;
        leave.store(0, Ordering::Relaxed);
    };
    let (written, ()) = tokio::join!(patient.write_all(&[0; 32]), taking_leave);
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(begun.elapsed() >= LIMIT * 5);
}
