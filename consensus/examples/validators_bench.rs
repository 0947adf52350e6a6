//! Measures validators end to end, all in one process, over TCP and on the real disk, and prints
//! Markdown: `cargo run --release -p cairn-consensus --example validators_bench -- FOLDER COUNT`.

#![expect(clippy::print_stdout, reason = "it prints figures")]
#![expect(clippy::unwrap_used, reason = "a failed measurement")]

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use cairn_consensus::validator::{BLOCK_INTERVAL, IDLE, TermPlace};
use cairn_consensus::{SEED_LAG, Validator, ValidatorConfig, deal};
use cairn_core::{AccountId, Amount, Bounded, Height, PublicKey, SecretKey, Signed, UnixMillis};
use cairn_ledger::{Genesis, Ledger, Parameters, Tx, TxBody};
use cairn_runtime::Runtime;
use cairn_runtime::real::RealRuntime;

/// Accounts that submit at a time, each its next transaction when the last is final.
const ACCOUNTS: u8 = 250;
/// Transactions of each.
const TXS_PER_ACCOUNT: u64 = 40;
/// Payments one after the other, when nothing else happens.
const LONE_PAYMENTS: u64 = 30;

type Running = Validator<RealRuntime>;

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn configs(runtime: &RealRuntime, folder: &Path, count: u8) -> Vec<ValidatorConfig> {
    let keys: Vec<SecretKey> = (1..=count)
        .map(|number| {
            let mut secret = [255; 32];
            secret[0] = number;
            SecretKey::from_bytes(&secret)
        })
        .collect();
    let identities: Vec<PublicKey> = keys.iter().map(SecretKey::public).collect();
    let (validators, parts) = deal(runtime, &identities).unwrap();
    let mut endowed: Vec<_> = (1..=ACCOUNTS)
        .map(|number| AccountId::new(key(number).public()))
        .map(|account| (account, Amount::from_micro(1000)))
        .collect();
    endowed.sort_unstable();
    let genesis = Genesis {
        time: UnixMillis::from_unix(runtime.now()),
        parameters: Parameters {
            seed_lag_views: SEED_LAG,
            ..Parameters::default()
        },
        endowed: Bounded::new(endowed).unwrap(),
        validators: Some(validators),
    };
    let ports: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let addresses: Vec<SocketAddr> = ports.iter().map(|it| it.local_addr().unwrap()).collect();
    let peers: Vec<_> = identities.into_iter().zip(addresses.clone()).collect();
    let config = |(key, listen): (SecretKey, SocketAddr)| {
        let (_, part) = parts.iter().find(|(of, _)| *of == key.public()).unwrap();
        ValidatorConfig {
            folder: folder.join(key.public().to_string()),
            genesis: genesis.clone(),
            terms: BTreeMap::from([(
                0,
                TermPlace {
                    part: part.clone(),
                    listen,
                    peers: peers.clone(),
                },
            )]),
            key,
            block_interval: BLOCK_INTERVAL,
            idle: IDLE,
        }
    };
    keys.into_iter().zip(addresses).map(config).collect()
}

/// Pays to oneself, one payment after the other, and says how long each took.
async fn pay(ledger: Running, runtime: RealRuntime, number: u8, count: u64) -> Vec<Duration> {
    let key = key(number);
    let account = AccountId::new(key.public());
    let first = ledger.account(account).await.unwrap().nonce;
    let mut times = Vec::new();
    for nonce in (first..).take(usize::try_from(count).unwrap()) {
        let body = TxBody::Transfer {
            to: account,
            amount: Amount::from_micro(1),
        };
        let fee = Amount::ZERO;
        let tx = Tx {
            account,
            nonce,
            fee,
            body,
        };
        let tx = Signed::sign_for(tx, ledger.id(), &key);
        let start = runtime.monotonic();
        ledger.submit(tx).await.unwrap();
        times.push(runtime.monotonic() - start);
    }
    times.sort_unstable();
    times
}

/// From the time in a block, which is when it is proposed, to when a validator has applied it.
async fn finality(ledger: Running, runtime: RealRuntime, to: Height) -> Vec<Duration> {
    let mut from = ledger.status().await.unwrap().height;
    let mut times = Vec::new();
    while from < to {
        from = from.next().unwrap();
        let found = ledger.effects(from).await.unwrap();
        let now = UnixMillis::from_unix(runtime.now());
        // Blocks before the last were applied earlier.
        if let [block] = found.as_slice() {
            times.push(Duration::from_millis(now.get() - block.time.get()));
        }
        from = found.last().map_or(from, |block| block.height);
    }
    times.sort_unstable();
    times
}

fn line(what: &str, times: &[Duration]) {
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!(
        "| {what}, p50 / p99 | {} / {} ms |",
        p50.as_millis(),
        p99.as_millis()
    );
}

async fn load(validators: &[Running], runtime: &RealRuntime) -> (Vec<Duration>, Duration) {
    let start = runtime.monotonic();
    let tasks: Vec<_> = (1..=ACCOUNTS)
        .zip(validators.iter().cycle())
        .map(|(number, ledger)| {
            let paying = pay(ledger.clone(), runtime.clone(), number, TXS_PER_ACCOUNT);
            runtime.spawn("account", paying)
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.join().await.unwrap());
    }
    times.sort_unstable();
    (times, runtime.monotonic() - start)
}

fn main() {
    let mut args = std::env::args().skip(1);
    let folder = args.next().expect("a folder that does not exist yet");
    let count: u8 = args.next().map_or(4, |count| count.parse().unwrap());
    RealRuntime::run(async move |runtime: RealRuntime| {
        let mut validators = Vec::new();
        let start = runtime.monotonic();
        for config in configs(&runtime, Path::new(&folder), count) {
            validators.push(Validator::open(runtime.clone(), config).await.unwrap());
        }
        let first = pay(validators[0].clone(), runtime.clone(), 1, 1).await;
        let up = runtime.monotonic() - start;
        println!("| {count} validators | figure |\n|---|---|");
        println!(
            "| start to the first final payment | {} ms |",
            up.as_millis()
        );
        drop(first);
        let lone = pay(validators[0].clone(), runtime.clone(), 1, LONE_PAYMENTS).await;
        line("one payment at a time, submit to final", &lone);
        let last = validators.last().unwrap().clone();
        let height = last.status().await.unwrap().height;
        let watching = finality(last, runtime.clone(), Height::new(height.get() + 20));
        let watching = runtime.spawn("watches", watching);
        let (times, wall) = load(&validators, &runtime).await;
        let blocks = validators[0].status().await.unwrap().height.get() - height.get();
        let txs = u128::try_from(times.len()).unwrap();
        println!("| {ACCOUNTS} accounts at a time | {txs} in {blocks} blocks |");
        println!("| a second | {} |", txs * 1000 / wall.as_millis());
        line("submit to final", &times);
        line("proposed to final", &watching.join().await.unwrap());
        for validator in &validators {
            validator.close().await;
        }
    })
    .unwrap();
}
