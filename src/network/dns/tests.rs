//! The address of the cluster's DNS on the machine.

use parking_lot::Mutex;

use super::*;
use crate::testing::RecordingHost;

const ADDRESS: &str = "10.43.0.10";

#[tokio::test(start_paused = true)]
async fn an_address_that_is_gone_is_put_back_and_told_of() {
    let host = RecordingHost::default();
    let address: IpAddr = ADDRESS.parse().unwrap();
    let (sender, changes) = watch::channel(0);
    let told = Mutex::new(Vec::new());
    let keeping = keep_address(&host, address, changes, |message| told.lock().push(message));
    let acting = async {
        // Past the first look, long before the next one.
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(host.journal(), ["addresses", "address 10.43.0.10"]);
        assert!(told.lock().drain(..).next().is_some_and(|message| message.contains(ADDRESS)));

        sender.send_modify(|count| *count += 1);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(host.journal(), ["addresses"], "a change of something else");
        host.forget_address(address);
        sender.send_modify(|count| *count += 1);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(host.journal(), ["addresses", "address 10.43.0.10"]);
        assert_eq!(told.lock().len(), 1);

        // Without a word from the kernel it is found too.
        host.forget_address(address);
        tokio::time::sleep(LOOK_AGAIN + Duration::from_secs(1)).await;
        assert!(host.journal().contains(&"address 10.43.0.10".to_string()));
    };
    tokio::select! {
        () = keeping => unreachable!("it keeps the address for ever"),
        () = acting => {}
    }
}

#[tokio::test]
async fn an_address_that_nobody_answers_on_is_not_kept_for_others() {
    let folder = tempfile::tempdir().unwrap();
    assert!(served_by_others(folder.path()).await.is_empty());
    // Not on this machine: nobody can be answering.
    note(folder.path(), "192.0.2.1".parse().unwrap()).unwrap();
    assert!(served_by_others(folder.path()).await.is_empty());
}
