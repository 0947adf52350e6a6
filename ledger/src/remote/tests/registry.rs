//! Answers about the registry that a remote end should not give.

use cairn_core::{Digest, NodeId, Right, Signed, UnixMillis, VolumeId};

use super::{answering, now};
use crate::port::LedgerError;
use crate::registry::{RegistryTx, volume_id};
use crate::sample::{OWNER, World, account, key, ledger, node};
use crate::tx::{TxBody, tx_id};
use crate::view::View;
use crate::wire::Answer;

/// A volume with a grant to party 9, and a digest that is notarised.
fn world() -> (World, VolumeId, Digest) {
    let mut world = World::new(Default::default());
    let descriptor = Default::default();
    let body = TxBody::Registry(RegistryTx::VolumeRegister { descriptor });
    let tx = world.signed(OWNER, body);
    let volume = volume_id(tx_id(&tx));
    world.submit(tx).1.unwrap();
    let grant = RegistryTx::GrantMake {
        volume,
        holder: account(9).key(),
        right: Right::Read,
        expires_at: UnixMillis::new(5_000),
    };
    world.accept(OWNER, TxBody::Registry(grant));
    let digest = Digest::of(b"a file");
    world.accept(OWNER, TxBody::Registry(RegistryTx::Notarise { digest }));
    (world, volume, digest)
}

#[test]
fn views_of_the_registry_are_of_what_was_asked() {
    let (world, id, digest) = world();
    let state = &world.state;
    let twice = |view: View| answering(vec![Answer::View(view.clone()), Answer::View(view)]);
    let broken = LedgerError::Answer;

    let volumes = state.volumes_of(account(OWNER));
    let ledger = twice(View::Volumes(volumes.clone()));
    assert_eq!(now(ledger.volumes(account(OWNER))), Ok(volumes));
    assert_eq!(now(ledger.volumes(account(2))), Err(broken.clone()));

    let view = state.volume_view(id);
    let ledger = twice(View::Volume(view.clone().map(Box::new)));
    assert_eq!(now(ledger.volume(id)), Ok(view));
    assert_eq!(now(ledger.volume(VolumeId::default())), Err(broken.clone()));

    let grants = state.grants_of(id);
    assert_eq!(grants.len(), 1);
    let ledger = twice(View::Grants(grants.clone()));
    assert_eq!(now(ledger.grants(id)), Ok(grants));
    assert_eq!(now(ledger.grants(VolumeId::default())), Err(broken.clone()));

    let holder = account(9).key();
    let view = state.grant_view(id, holder);
    assert!(view.is_some_and(|view| view.grant.is_some()));
    let ledger = twice(View::Grant(view.map(Box::new)));
    assert_eq!(now(ledger.grant(id, holder)), Ok(view));
    let other = account(8).key();
    assert_eq!(now(ledger.grant(id, other)), Err(broken.clone()));
    // Another key's grant as this one's.
    let mut lying = view.unwrap();
    lying.holder = other;
    let ledger = twice(View::Grant(Some(Box::new(lying))));
    assert_eq!(now(ledger.grant(id, other)), Err(broken.clone()));

    let kept = state.notarisation(digest).copied();
    let ledger = twice(View::Notarisation(kept));
    assert_eq!(now(ledger.notarisation(digest)), Ok(kept));
    let other = Digest::of(b"another");
    assert_eq!(now(ledger.notarisation(other)), Err(broken));
}

#[test]
fn a_notarisation_receipt_is_signed_for_this_ledger_by_whom_the_client_knows() {
    let (world, _, digest) = world();
    let kept = *world.state.notarisation(digest).unwrap();
    let receipt = Signed::sign_for(kept, ledger(), &key(7));
    let elsewhere = Signed::sign(kept, &key(7));
    let answer = |signed| Answer::View(View::NotarisationReceipt(Some(Box::new(signed))));
    let remote = answering(vec![
        answer(receipt.clone()),
        answer(receipt.clone()),
        answer(elsewhere),
        answer(receipt.clone()),
        Answer::View(View::NotarisationReceipt(None)),
    ]);
    let ask = |digest, signer: NodeId| now(remote.notarisation_receipt(digest, signer));
    assert_eq!(ask(digest, node(7)), Ok(Some(receipt)));
    assert_eq!(ask(digest, node(8)), Err(LedgerError::Answer));
    assert_eq!(ask(digest, node(7)), Err(LedgerError::Answer));
    assert_eq!(
        ask(Digest::of(b"another"), node(7)),
        Err(LedgerError::Answer)
    );
    assert_eq!(ask(digest, node(7)), Ok(None));
}
