//! The sequencer, on the real runtime and through every crash on the simulated one.

mod crash;
mod epochs;
mod serve;
mod spam;

use std::path::Path;

use cairn_core::{
    AccountId, Amount, Bounded, ByteCount, Code, NodeId, SecretKey, Signed, Text, UnixMillis,
};
use cairn_ledger::tx::operator_consent;
use cairn_ledger::{Genesis, NodeTerms, Parameters, Tx, TxBody};

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn account(number: u8) -> AccountId {
    AccountId::new(key(number).public())
}

fn genesis() -> Genesis {
    let mut endowed = vec![
        (account(1), Amount::from_micro(1_000_000)),
        (account(2), Amount::from_micro(5_000)),
    ];
    endowed.sort_by_key(|(id, _)| *id);
    Genesis {
        time: UnixMillis::new(1_700_000_000_000),
        parameters: Parameters::default(),
        endowed: Bounded::new(endowed).unwrap(),
        validators: None,
    }
}

fn register(number: u8) -> TxBody {
    let node = NodeId::new(key(number).public());
    TxBody::NodeRegister {
        operator: account(1),
        operator_consent: operator_consent(genesis().ledger_id(), &key(1), node),
        terms: NodeTerms {
            capacity: ByteCount::new(1 << 30),
            price: Amount::from_micro(1),
            network: Text::new("203.0.113.0/24").unwrap(),
            provider: Text::new("provider").unwrap(),
            region: Text::new("region").unwrap(),
        },
    }
}

fn open_group() -> TxBody {
    TxBody::GroupOpen {
        code: Code::new(2, 4).unwrap(),
        slot_capacity: ByteCount::new(1 << 20),
        price_max: Amount::from_micro(10),
        term_epochs: 24,
        escrow: Amount::from_micro(1000),
    }
}

fn transfer(micro: u64) -> TxBody {
    TxBody::Transfer {
        to: account(9),
        amount: Amount::from_micro(micro),
    }
}

fn signed(number: u8, nonce: u64, body: TxBody) -> Signed<Tx> {
    let tx = Tx {
        account: account(number),
        nonce,
        fee: Amount::ZERO,
        body,
    };
    Signed::sign_for(tx, genesis().ledger_id(), &key(number))
}

/// Where a test's ledger is on a simulated machine.
fn sim_folder() -> &'static Path {
    Path::new("/ledger")
}
