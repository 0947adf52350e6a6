//! Vectors of volumes, leases, grants and notarisations.

use cairn_core::{Bounded, Digest, FencingNumber, HeadNumber, Right, Signed, UnixMillis, VolumeId};

use super::{hex, signed};
use crate::effect::{BlockEffects, Effect};
use crate::genesis::Parameters;
use crate::port::LedgerError;
use crate::registry::{RegistryError, RegistryTx, Writer, volume_id};
use crate::sample::{OWNER, World, account, key, ledger};
use crate::tx::{Tx, TxBody, tx_id};
use crate::tx_error::TxError;
use crate::view::{View, ViewRequest};
use crate::wire::{Answer, LedgerRequest, LedgerResponse};

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

#[expect(clippy::too_many_lines, reason = "a table of cases")]
pub(super) fn vectors() -> Vec<(String, String)> {
    let (world, id) = chain();
    let txs = asked(id).into_iter().map(|(name, asked)| {
        let tx = signed(OWNER, TxBody::Registry(asked));
        (format!("tx {name}"), hex(&tx))
    });
    let mut all: Vec<(String, String)> = txs.collect();
    let state = &world.state;
    let height = state.height();
    let response = |answer| {
        hex(&LedgerResponse {
            ledger: ledger(),
            height,
            answer,
        })
    };
    let (digest, holder) = (Digest::of(b"a file"), account(9).key());
    let kept = *state.notarisation(digest).expect("it was notarised");
    let receipt = Signed::sign_for(kept, ledger(), &key(9));
    let requests = [
        ("volumes", ViewRequest::Volumes(account(OWNER))),
        ("volume", ViewRequest::Volume(id)),
        ("grants", ViewRequest::Grants(id)),
        ("grant", ViewRequest::Grant { volume: id, holder }),
        ("notarisation", ViewRequest::Notarisation(digest)),
        (
            "notarisation receipt",
            ViewRequest::NotarisationReceipt(digest),
        ),
    ];
    let answers = [
        ("volumes", View::Volumes(state.volumes_of(account(OWNER)))),
        ("volume", View::Volume(state.volume_view(id).map(Box::new))),
        ("grants", View::Grants(state.grants_of(id))),
        (
            "grant",
            View::Grant(state.grant_view(id, holder).map(Box::new)),
        ),
        ("notarisation", View::Notarisation(Some(kept))),
        (
            "notarisation receipt",
            View::NotarisationReceipt(Some(Box::new(receipt.clone()))),
        ),
    ];
    all.extend(requests.into_iter().map(|(name, asked)| {
        let request = LedgerRequest::View(asked);
        (format!("request view {name}"), hex(&request))
    }));
    all.extend(answers.into_iter().map(|(name, view)| {
        (
            format!("response view {name}"),
            response(Answer::View(view)),
        )
    }));
    let block = BlockEffects {
        height,
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
        ("notarisation".to_owned(), hex(&kept)),
        ("notarisation receipt".to_owned(), hex(&receipt)),
        ("state with a volume".to_owned(), hex(state)),
        (
            "response effects of a volume".to_owned(),
            response(Answer::Effects(vec![block])),
        ),
        ("response error fenced".to_owned(), response(refused)),
    ]);
    all
}
