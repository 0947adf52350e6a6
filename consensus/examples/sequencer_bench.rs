//! Measures the sequencer end to end in one process on the real disk, and prints Markdown:
//! `cargo run -p cairn-consensus --example sequencer_bench -- FOLDER`.

#![expect(clippy::print_stdout, reason = "it prints figures")]
#![expect(clippy::unwrap_used, reason = "a failed measurement")]

use std::path::Path;
use std::time::Duration;

use cairn_consensus::{Config, Sequencer};
use cairn_core::{AccountId, Amount, Bounded, LedgerId, SecretKey, Signed, UnixMillis};
use cairn_ledger::{Genesis, Ledger, Parameters, Tx, TxBody};
use cairn_runtime::Runtime;
use cairn_runtime::real::RealRuntime;

/// Accounts that submit at a time, each its next transaction when the last is final.
const ACCOUNTS: u8 = 200;
/// Transactions of each.
const TXS_PER_ACCOUNT: u64 = 50;

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn transfer(ledger: LedgerId, key: &SecretKey, nonce: u64) -> Signed<Tx> {
    let tx = Tx {
        account: AccountId::new(key.public()),
        nonce,
        fee: Amount::ZERO,
        body: TxBody::Transfer {
            to: AccountId::new(key.public()),
            amount: Amount::from_micro(1),
        },
    };
    Signed::sign_for(tx, ledger, key)
}

async fn one_account(
    sequencer: Sequencer<RealRuntime>,
    runtime: RealRuntime,
    number: u8,
) -> Vec<Duration> {
    let key = key(number);
    let mut times = Vec::new();
    for nonce in 0..TXS_PER_ACCOUNT {
        let tx = transfer(sequencer.id(), &key, nonce);
        let start = runtime.monotonic();
        sequencer.submit(tx).await.unwrap();
        times.push(runtime.monotonic() - start);
    }
    times
}

fn main() {
    let folder = std::env::args()
        .nth(1)
        .expect("a folder that does not exist yet");
    RealRuntime::run(async move |runtime| {
        let mut endowed: Vec<_> = (1..=ACCOUNTS)
            .map(|number| {
                (
                    AccountId::new(key(number).public()),
                    Amount::from_micro(1000),
                )
            })
            .collect();
        endowed.sort_unstable();
        let genesis = Genesis {
            time: UnixMillis::new(0),
            parameters: Parameters::default(),
            endowed: Bounded::new(endowed).unwrap(),
            validators: None,
        };
        let folder = Path::new(&folder);
        Sequencer::create(&runtime, folder, &genesis).await.unwrap();
        let sequencer = Sequencer::open(runtime.clone(), Config::new(folder))
            .await
            .unwrap();
        let start = runtime.monotonic();
        let tasks: Vec<_> = (1..=ACCOUNTS)
            .map(|number| {
                let task = one_account(sequencer.clone(), runtime.clone(), number);
                runtime.spawn("account", task)
            })
            .collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.join().await.unwrap());
        }
        let wall = runtime.monotonic() - start;
        times.sort_unstable();
        let count = u128::try_from(times.len()).unwrap();
        let height = sequencer.status().await.unwrap().height;
        println!("| what | figure |\n|---|---|");
        println!(
            "| transactions, from {ACCOUNTS} accounts at a time | {count} in {height} blocks |"
        );
        println!("| a second | {} |", count * 1000 / wall.as_millis());
        println!(
            "| submit to final, p50 | {} ms |",
            times[times.len() / 2].as_millis()
        );
        println!(
            "| submit to final, p99 | {} ms |",
            times[times.len() * 99 / 100].as_millis()
        );
        sequencer.close().await;
        let start = runtime.monotonic();
        let again = Sequencer::open(runtime.clone(), Config::new(folder))
            .await
            .unwrap();
        let time = runtime.monotonic() - start;
        println!(
            "| opening again, {height} blocks applied | {} ms |",
            time.as_millis()
        );
        again.close().await;
    })
    .unwrap();
}
