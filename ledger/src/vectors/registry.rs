//! Vectors of volumes, leases, grants and notarisations.

use borsh::BorshSerialize;
use cairn_core::{Bounded, Digest, FencingNumber, HeadNumber, Right, UnixMillis, VolumeId};
use data_encoding::HEXLOWER;

use super::{hex, response, signed};
use crate::effect::{BlockEffects, Effect};
use crate::genesis::Parameters;
use crate::port::LedgerError;
use crate::query::Question;
use crate::registry::{RegistryError, RegistryTx, Writer, volume_id};
use crate::sample::shown::evidence;
use crate::sample::{OWNER, World, account};
use crate::tx::{Tx, TxBody, tx_id};
use crate::tx_error::TxError;
use crate::wire::Answer;

fn registration() -> RegistryTx {
    RegistryTx::VolumeRegister {
        descriptor: Bounded::new(b"sealed".to_vec()).expect("few bytes"),
    }
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn asked(volume: VolumeId) -> Vec<(&'static str, RegistryTx)> {
    let (one, number) = (FencingNumber::new(1), HeadNumber::new(7));
    let (machine, digest) = (account(50).key(), Digest::of(b"a head"));
    let (holder, expires_at) = (account(9).key(), UnixMillis::new(9_000));
    let to = Writer {
        account: account(OWNER),
        key: account(51).key(),
    };
    let descriptor = Bounded::new(b"sealed again".to_vec()).expect("few bytes");
    vec![
        ("volume register", registration()),
        (
            "volume describe",
            RegistryTx::VolumeDescribe { volume, descriptor },
        ),
        (
            "lease take",
            RegistryTx::LeaseTake {
                volume,
                key: machine,
                millis: 30_000,
            },
        ),
        (
            "volume anchor",
            RegistryTx::VolumeAnchor {
                volume,
                fencing: one,
                number,
                digest,
            },
        ),
        (
            "lease renew",
            RegistryTx::LeaseRenew {
                volume,
                fencing: one,
                millis: 40_000,
            },
        ),
        (
            "lease ask",
            RegistryTx::LeaseAsk {
                volume,
                key: to.key,
            },
        ),
        (
            "lease hand over",
            RegistryTx::LeaseHandOver {
                volume,
                fencing: one,
                to,
                millis: 30_000,
            },
        ),
        (
            "grant make",
            RegistryTx::GrantMake {
                volume,
                holder,
                right: Right::Write,
                expires_at,
            },
        ),
        (
            "grant revoke",
            RegistryTx::GrantRevoke {
                volume,
                holder: account(8).key(),
                expires_at,
            },
        ),
        (
            "notarise",
            RegistryTx::Notarise {
                digest: Digest::of(b"a file"),
            },
        ),
        (
            "lease release",
            RegistryTx::LeaseRelease {
                volume,
                fencing: FencingNumber::new(2),
            },
        ),
        ("volume close", RegistryTx::VolumeClose { volume }),
    ]
}

/// A ledger on which all was asked but the last two.
fn chain() -> (World, VolumeId) {
    let mut world = World::new(Parameters::default());
    let tx = world.signed(OWNER, TxBody::Registry(registration()));
    let id = volume_id(tx_id(&tx));
    let rest = asked(id).into_iter().skip(1).take(9);
    let rest = rest.zip(1..).map(|((_, asked), index)| {
        let next: Tx = world
            .signed(OWNER, TxBody::Registry(asked))
            .into_unverified();
        let nonce = next.nonce + index;
        world.sign(Tx { nonce, ..next }, OWNER)
    });
    let txs = std::iter::once(tx).chain(rest).collect();
    let effects = world.apply(world.next_block(&[], txs));
    let is_done = |effect: &&Effect| matches!(effect, Effect::TxDone { result: Ok(()), .. });
    assert_eq!(effects.iter().filter(is_done).count(), 10);
    // Something asks for the lease again, so that every field of it is set.
    let ask = RegistryTx::LeaseAsk {
        volume: id,
        key: account(50).key(),
    };
    world.accept(OWNER, TxBody::Registry(ask));
    (world, id)
}

fn effects(world: &World, volume: VolumeId) -> Vec<Effect> {
    let fencing = FencingNumber::new(2);
    vec![
        Effect::VolumeChanged(volume),
        Effect::VolumeClosed(volume),
        Effect::Anchored {
            volume,
            fencing,
            number: HeadNumber::new(7),
        },
        Effect::LeaseChanged { volume, fencing },
        Effect::LeaseAsked {
            volume,
            asked_by: world
                .state
                .volume(volume)
                .expect("it")
                .lease
                .expect("one")
                .writer,
        },
        Effect::GrantChanged {
            volume,
            holder: account(9).key(),
        },
        Effect::Notarised(Digest::of(b"a file")),
    ]
}

fn encoded<T: BorshSerialize>(value: &T) -> String {
    HEXLOWER.encode(&borsh::to_vec(value).expect("memory takes it"))
}

pub(super) fn vectors() -> Vec<(String, String)> {
    let (world, id) = chain();
    let txs = asked(id).into_iter().map(|(name, asked)| {
        let tx = signed(OWNER, TxBody::Registry(asked));
        (format!("tx {name}"), hex(&tx))
    });
    let mut all: Vec<(String, String)> = txs.collect();
    let state = &world.state;
    let kept = state.notarisation(Digest::of(b"a file"));
    let kept = kept.expect("it was notarised");
    let effects = BlockEffects {
        height: state.height(),
        time: state.time(),
        effects: effects(&world, id),
    };
    let fenced = TxError::Registry(RegistryError::Fenced {
        volume: id,
        expected: FencingNumber::new(2),
        found: FencingNumber::new(1),
    });
    let refused = Answer::Error(LedgerError::Refused(fenced));
    all.extend([
        ("notarisation".to_owned(), hex(kept)),
        ("state with a volume".to_owned(), hex(state)),
        (
            "evidence of grants".to_owned(),
            hex(&evidence(state, Question::Grants(id))),
        ),
        ("effects of a volume".to_owned(), encoded(&effects)),
        ("response error fenced".to_owned(), response(refused)),
    ]);
    all
}
