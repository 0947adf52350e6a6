//! Volumes, anchors, leases, grants and notarisations: what each rule allows and refuses.

use std::collections::BTreeSet;

use cairn_core::{
    Amount, Bounded, Digest, FencingNumber, HeadNumber, Height, PublicKey, Record, Right,
    UnixMillis, VolumeId,
};

use crate::block::Block;
use crate::effect::Effect;
use crate::genesis::Parameters;
use crate::registry::{
    Access, Descriptor, GRANT_BYTES_MAX, GRANT_MILLIS_MAX, GRANTS_PER_VOLUME_MAX, HEAD_STEP_MAX,
    HeadStanding, NOTARISATION_BYTES, RegistryError, RegistryTx, VOLUME_BYTES_MAX,
    VOLUMES_PER_ACCOUNT_MAX, Volume, Writer, volume_id,
};
use crate::sample::{OWNER, World, account, ask, genesis, key};
use crate::state::{State, Unsound};
use crate::tx::{TxBody, tx_id};
use crate::tx_error::{TableKind, TxError};
use crate::view::GrantView;

/// An account that is granted things.
const FRIEND: u8 = 2;
/// How long leases of these tests last; a block takes 1 ms.
const LEASE_MILLIS: u64 = 100;

pub(super) fn note(text: &[u8]) -> Descriptor {
    Bounded::new(text.to_vec()).unwrap()
}

pub(super) fn public(number: u8) -> PublicKey {
    account(number).key()
}

pub(super) fn writer(number: u8, machine: u8) -> Writer {
    Writer {
        account: account(number),
        key: public(machine),
    }
}

pub(super) fn head(number: u64) -> (HeadNumber, Digest) {
    (HeadNumber::new(number), Digest::of(&number.to_le_bytes()))
}

pub(super) fn anchor(volume: VolumeId, fencing: u64, number: u64) -> RegistryTx {
    let (number, digest) = head(number);
    RegistryTx::VolumeAnchor {
        volume,
        fencing: FencingNumber::new(fencing),
        number,
        digest,
    }
}

pub(super) fn take(volume: VolumeId, machine: u8, millis: u64) -> RegistryTx {
    RegistryTx::LeaseTake {
        volume,
        key: public(machine),
        millis,
    }
}

pub(super) fn ask(volume: VolumeId, machine: u8) -> RegistryTx {
    RegistryTx::LeaseAsk {
        volume,
        key: public(machine),
    }
}

pub(super) fn renew(volume: VolumeId, fencing: u64, millis: u64) -> RegistryTx {
    RegistryTx::LeaseRenew {
        volume,
        fencing: FencingNumber::new(fencing),
        millis,
    }
}

pub(super) fn release(volume: VolumeId, fencing: u64) -> RegistryTx {
    RegistryTx::LeaseRelease {
        volume,
        fencing: FencingNumber::new(fencing),
    }
}

pub(super) fn hand_over(volume: VolumeId, fencing: u64, to: Writer, millis: u64) -> RegistryTx {
    RegistryTx::LeaseHandOver {
        volume,
        fencing: FencingNumber::new(fencing),
        to,
        millis,
    }
}

pub(super) fn grant(volume: VolumeId, holder: u8, right: Right, expires_at: u64) -> RegistryTx {
    RegistryTx::GrantMake {
        volume,
        holder: public(holder),
        right,
        expires_at: UnixMillis::new(expires_at),
    }
}

pub(super) fn revoke(volume: VolumeId, holder: u8, expires_at: u64) -> RegistryTx {
    RegistryTx::GrantRevoke {
        volume,
        holder: public(holder),
        expires_at: UnixMillis::new(expires_at),
    }
}

pub(super) fn notarise(text: &[u8]) -> RegistryTx {
    RegistryTx::Notarise {
        digest: Digest::of(text),
    }
}

fn accept(world: &mut World, number: u8, asked: RegistryTx) -> Vec<Effect> {
    world.accept(number, TxBody::Registry(asked))
}

/// What is refused changes nothing of the registry, not even a lease's asker.
fn refuse(world: &mut World, number: u8, asked: RegistryTx) -> TxError {
    let before = world.state.registry.clone();
    let error = world.refuse(number, TxBody::Registry(asked));
    assert_eq!(world.state.registry, before, "{error}");
    error
}

fn register(world: &mut World, number: u8) -> VolumeId {
    let descriptor = note(b"sealed");
    let asked = TxBody::Registry(RegistryTx::VolumeRegister { descriptor });
    let tx = world.signed(number, asked);
    let id = volume_id(tx_id(&tx));
    world.submit(tx).1.expect("the volume is registered");
    id
}

fn world() -> (World, VolumeId) {
    let mut world = World::new(Parameters::default());
    let id = register(&mut world, OWNER);
    (world, id)
}

fn now(world: &World) -> u64 {
    world.state.time().get()
}

fn ask_grant(world: &World, volume: VolumeId, holder: u8) -> Option<GrantView> {
    let holder = public(holder);
    ask!(world.state, Grant { volume, holder })
}

fn volume(world: &World, id: VolumeId) -> &Volume {
    world.state.volume(id).expect("the volume")
}

fn fencing(world: &World, id: VolumeId) -> u64 {
    volume(world, id).fencing.get()
}

fn live(world: &World, id: VolumeId) -> Option<Writer> {
    let lease = volume(world, id).live_lease(world.state.time());
    lease.map(|lease| lease.writer)
}

/// Blocks of nothing until the block after the next one has this time.
fn pass_until(world: &mut World, time: u64) {
    while now(world) + 1 < time {
        world.pass();
    }
}

#[test]
fn a_volume_is_its_owners_from_registration_to_close() {
    let (mut world, id) = world();
    let other = register(&mut world, FRIEND);
    assert_eq!(volume(&world, id).descriptor, note(b"sealed"));
    let descriptor = note(b"another");
    let effects = accept(
        &mut world,
        OWNER,
        RegistryTx::VolumeDescribe {
            volume: id,
            descriptor: descriptor.clone(),
        },
    );
    assert_eq!(effects, [Effect::VolumeChanged(id)]);
    assert_eq!(volume(&world, id).descriptor, descriptor);
    let second = register(&mut world, OWNER);
    let mut own = vec![id, second];
    own.sort_unstable();
    let ids = |world: &World, number| -> Vec<VolumeId> {
        let volumes = ask!(world.state, Volumes(account(number)));
        volumes.iter().map(|volume| volume.id).collect()
    };
    assert_eq!(ids(&world, OWNER), own);
    assert_eq!(ids(&world, FRIEND), [other]);
    let soon = now(&world) + 50;
    accept(&mut world, OWNER, grant(id, 9, Right::Read, soon));
    let effects = accept(&mut world, OWNER, RegistryTx::VolumeClose { volume: id });
    assert_eq!(effects, [Effect::VolumeClosed(id)]);
    assert_eq!(ids(&world, OWNER), [second]);
    assert_eq!(ask!(world.state, Volume(id)), None);
    assert_eq!(ask_grant(&world, id, 9), None);
    assert_eq!(ask!(world.state, Grants(id)).len(), 0);
    // A restart reads all of it back.
    let read = State::decode(&world.state.encode()).unwrap();
    assert_eq!(read, world.state);
    assert_eq!(ask!(read, Volumes(account(FRIEND)))[0].id, other);
}

#[test]
fn a_lease_has_one_writer_until_it_is_over_released_or_handed_over() {
    let (mut world, id) = world();
    let effects = accept(&mut world, OWNER, take(id, 50, LEASE_MILLIS));
    let changed = |number| Effect::LeaseChanged {
        volume: id,
        fencing: FencingNumber::new(number),
    };
    assert_eq!(effects, [changed(1)]);
    assert_eq!(live(&world, id), Some(writer(OWNER, 50)));
    // Another machine of the same account is another writer.
    let refused = refuse(&mut world, OWNER, take(id, 51, LEASE_MILLIS));
    let until = volume(&world, id).lease.unwrap().until;
    let held = RegistryError::LeaseHeld {
        volume: id,
        holder: writer(OWNER, 50),
        fencing: FencingNumber::new(1),
        until,
    };
    assert_eq!(refused, TxError::Registry(held));
    let effects = accept(&mut world, OWNER, ask(id, 51));
    let asked_by = writer(OWNER, 51);
    assert_eq!(
        effects,
        [Effect::LeaseAsked {
            volume: id,
            asked_by
        }]
    );
    assert_eq!(volume(&world, id).lease.unwrap().asked, Some(asked_by));
    // Two blocks after it asked, the other writes.
    accept(&mut world, OWNER, anchor(id, 1, 7));
    let effects = accept(&mut world, OWNER, hand_over(id, 1, asked_by, LEASE_MILLIS));
    assert_eq!(effects, [changed(2)]);
    assert_eq!(live(&world, id), Some(asked_by));
    let fenced = TxError::Registry(RegistryError::Fenced {
        volume: id,
        expected: FencingNumber::new(2),
        found: FencingNumber::new(1),
    });
    for late in [anchor(id, 1, 8), renew(id, 1, 5), release(id, 1)] {
        assert_eq!(refuse(&mut world, OWNER, late), fenced);
    }
    accept(&mut world, OWNER, anchor(id, 2, 8));
    accept(&mut world, OWNER, release(id, 2));
    assert_eq!(live(&world, id), None);
    accept(&mut world, OWNER, take(id, 50, LEASE_MILLIS));
    // The same machine after a restart: what it was before is fenced.
    accept(&mut world, OWNER, take(id, 50, LEASE_MILLIS));
    assert_eq!(fencing(&world, id), 4);
}

#[test]
fn a_killed_writer_holds_the_lease_no_longer_than_its_time() {
    let (mut world, id) = world();
    accept(&mut world, OWNER, take(id, 50, 20));
    let until = now(&world) + 20;
    pass_until(&mut world, until - 1);
    let refused = refuse(&mut world, OWNER, take(id, 51, 20));
    assert!(matches!(
        refused,
        TxError::Registry(RegistryError::LeaseHeld { .. })
    ));
    assert_eq!(now(&world), until - 1);
    accept(&mut world, OWNER, take(id, 51, 20));
    assert_eq!((now(&world), fencing(&world, id)), (until, 2));
    assert_eq!(live(&world, id), Some(writer(OWNER, 51)));
}

#[test]
fn a_lease_that_is_over_anchors_nothing_and_is_renewed_while_nobody_took_it() {
    let (mut world, id) = world();
    accept(&mut world, OWNER, take(id, 50, 10));
    let until = now(&world) + 10;
    accept(&mut world, OWNER, anchor(id, 1, 1));
    pass_until(&mut world, until);
    let over = TxError::Registry(RegistryError::LeaseOver {
        volume: id,
        fencing: FencingNumber::new(1),
        until: UnixMillis::new(until),
    });
    assert_eq!(refuse(&mut world, OWNER, anchor(id, 1, 2)), over);
    assert_eq!(refuse(&mut world, OWNER, ask(id, 51)), over);
    accept(&mut world, OWNER, renew(id, 1, 10));
    accept(&mut world, OWNER, anchor(id, 1, 2));
    assert_eq!(fencing(&world, id), 1);
}

#[test]
fn anchors_keep_the_newest_of_each_of_the_last_leases() {
    let (mut world, id) = world();
    let mut number = 0;
    for lease in 1..=10 {
        accept(&mut world, OWNER, take(id, 50, LEASE_MILLIS));
        for _ in 0..2 {
            number += 5;
            accept(&mut world, OWNER, anchor(id, lease, number));
        }
    }
    let found: Vec<_> = volume(&world, id)
        .anchors
        .iter()
        .map(|anchor| (anchor.fencing.get(), anchor.number.get()))
        .collect();
    let expected: Vec<_> = (3..=10).map(|lease| (lease, lease * 10)).collect();
    assert_eq!(found, expected);
    let newest = *volume(&world, id).anchor().unwrap();
    assert_eq!(newest.digest, head(100).1);
    assert_eq!(
        (newest.height, newest.time),
        (world.state.height(), world.state.time())
    );
}

#[test]
fn a_head_that_is_rolled_back_forked_or_fenced_is_told_from_the_anchors() {
    let (mut world, id) = world();
    let standing = |world: &World, lease, number, digest| {
        volume(world, id).standing_of(FencingNumber::new(lease), HeadNumber::new(number), digest)
    };
    let other = Digest::of(b"another head");
    assert_eq!(standing(&world, 1, 1, other), HeadStanding::Foreign);
    accept(&mut world, OWNER, take(id, 50, LEASE_MILLIS));
    assert_eq!(standing(&world, 1, 1, other), HeadStanding::Ahead);
    assert_eq!(standing(&world, 0, 1, other), HeadStanding::Foreign);
    accept(&mut world, OWNER, anchor(id, 1, 10));
    accept(&mut world, OWNER, take(id, 50, LEASE_MILLIS));
    accept(&mut world, OWNER, anchor(id, 2, 20));
    let cases = [
        (2, 20, head(20).1, HeadStanding::Anchored),
        (2, 20, other, HeadStanding::Foreign),
        (2, 21, other, HeadStanding::Ahead),
        (2, 19, other, HeadStanding::Behind),
        (1, 10, head(10).1, HeadStanding::Behind),
        (1, 10, other, HeadStanding::Foreign),
        (1, 9, other, HeadStanding::Behind),
        (1, 15, other, HeadStanding::Behind),
        // The writer of lease 1 went on after lease 2 was taken.
        (1, 21, other, HeadStanding::Foreign),
        (1, 20, head(20).1, HeadStanding::Foreign),
        // Lease 2 began after number 10 was anchored.
        (2, 9, other, HeadStanding::Foreign),
        (3, 30, other, HeadStanding::Foreign),
    ];
    for (lease, number, digest, expected) in cases {
        let found = standing(&world, lease, number, digest);
        assert_eq!(found, expected, "lease {lease}, head {number}");
    }
}

#[test]
fn a_grant_to_write_leases_until_it_expires_or_is_revoked() {
    let (mut world, id) = world();
    let expires = now(&world) + 40;
    accept(&mut world, OWNER, grant(id, FRIEND, Right::Write, expires));
    accept(&mut world, FRIEND, take(id, 60, LEASE_MILLIS));
    // The lease ends with the grant.
    assert_eq!(volume(&world, id).lease.unwrap().until.get(), expires);
    accept(&mut world, FRIEND, anchor(id, 1, 1));
    // A longer grant lets it be renewed for longer, a shorter one cuts it.
    accept(
        &mut world,
        OWNER,
        grant(id, FRIEND, Right::Write, expires + 100),
    );
    accept(&mut world, FRIEND, renew(id, 1, LEASE_MILLIS));
    assert_eq!(
        volume(&world, id).lease.unwrap().until.get(),
        now(&world) + LEASE_MILLIS
    );
    accept(&mut world, OWNER, grant(id, FRIEND, Right::Write, expires));
    assert_eq!(volume(&world, id).lease.unwrap().until.get(), expires);
    let effects = accept(&mut world, OWNER, revoke(id, FRIEND, expires - 10));
    let changed = [
        Effect::GrantChanged {
            volume: id,
            holder: public(FRIEND),
        },
        Effect::LeaseChanged {
            volume: id,
            fencing: FencingNumber::new(1),
        },
    ];
    assert_eq!(effects, changed);
    let no_lease = TxError::Registry(RegistryError::NoLease {
        volume: id,
        fencing: FencingNumber::new(1),
    });
    assert_eq!(refuse(&mut world, FRIEND, anchor(id, 1, 2)), no_lease);
    let no_right = TxError::Registry(RegistryError::NoRight {
        volume: id,
        account: account(FRIEND),
    });
    assert_eq!(refuse(&mut world, FRIEND, take(id, 60, 5)), no_right);
    // The revocation stays as long as the grant would have lasted.
    let view = ask_grant(&world, id, FRIEND).unwrap();
    let kept = view.grant.unwrap();
    assert_eq!(
        (kept.access, kept.expires_at.get()),
        (Access::Revoked, expires)
    );
    assert_eq!(view.owner, account(OWNER));
    assert!(kept.is_revoked(view.time));
    assert!(!kept.is_revoked(kept.expires_at));
    // A grant to read is none to write.
    accept(&mut world, OWNER, grant(id, FRIEND, Right::Read, expires));
    assert_eq!(refuse(&mut world, FRIEND, take(id, 60, 5)), no_right);
    let kept = *world.state.grant(id, public(FRIEND)).unwrap();
    assert_eq!(kept.right(world.state.time()), Some(Right::Read));
    assert_eq!(kept.right(kept.expires_at), None);
}

#[test]
fn narrowing_a_grant_ends_the_lease_and_others_keep_theirs() {
    let (mut world, id) = world();
    let expires = now(&world) + 500;
    accept(&mut world, OWNER, grant(id, FRIEND, Right::Write, expires));
    accept(&mut world, FRIEND, take(id, 60, LEASE_MILLIS));
    accept(&mut world, OWNER, revoke(id, 3, expires));
    assert_eq!(live(&world, id), Some(writer(FRIEND, 60)));
    accept(&mut world, OWNER, grant(id, FRIEND, Right::Read, expires));
    assert_eq!(live(&world, id), None);
    // Handing over to who may not write is refused; to the owner it is done.
    accept(&mut world, OWNER, take(id, 50, LEASE_MILLIS));
    let refused = refuse(&mut world, OWNER, hand_over(id, 2, writer(FRIEND, 60), 5));
    let no_right = RegistryError::NoRight {
        volume: id,
        account: account(FRIEND),
    };
    assert_eq!(refused, TxError::Registry(no_right));
    accept(&mut world, OWNER, grant(id, FRIEND, Right::Write, expires));
    accept(&mut world, OWNER, hand_over(id, 2, writer(FRIEND, 60), 5));
    assert_eq!(live(&world, id), Some(writer(FRIEND, 60)));
}

/// Expired grants make room in a full volume, and nothing else does.
fn grant_count_refusals(seen: &mut Seen) {
    let (mut world, id) = world();
    let expires = 5_000;
    // Signed by hand in full blocks: one transaction each would take a while.
    let body = |number: u64| {
        let mut holder = [0; 32];
        holder[..8].copy_from_slice(&number.to_le_bytes());
        TxBody::Registry(RegistryTx::GrantMake {
            volume: id,
            holder: PublicKey::from_bytes(holder),
            right: Right::Read,
            expires_at: UnixMillis::new(expires),
        })
    };
    let mut made = 0;
    while made < 1_024 {
        let txs = (0..256)
            .map(|index| {
                let mut tx = world.signed(OWNER, body(made + index)).into_unverified();
                tx.nonce += index;
                world.sign(tx, OWNER)
            })
            .collect();
        world.apply(world.next_block(&[], txs));
        made += 256;
    }
    assert_eq!(ask!(world.state, Grants(id)).len(), GRANTS_PER_VOLUME_MAX);
    let refused = refuse(&mut world, OWNER, revoke(id, 9, expires));
    let full = RegistryError::GrantCount {
        volume: id,
        max: 1_024,
    };
    seen.expect(&refused, full);
    // One that is there can be revoked all the same.
    let TxBody::Registry(RegistryTx::GrantMake { holder, .. }) = body(7) else {
        panic!("a grant");
    };
    let revoked = RegistryTx::GrantRevoke {
        volume: id,
        holder,
        expires_at: UnixMillis::new(expires),
    };
    accept(&mut world, OWNER, revoked);
    assert_eq!(ask!(world.state, Grants(id)).len(), GRANTS_PER_VOLUME_MAX);
    let later = Block {
        time: UnixMillis::new(expires),
        txs: Bounded::new(vec![world.signed(
            OWNER,
            TxBody::Registry(grant(id, 9, Right::Read, expires + 1)),
        )])
        .unwrap(),
        ..world.next_block(&[], vec![])
    };
    world.apply(later);
    assert_eq!(ask!(world.state, Grants(id)).len(), 1);
}

#[test]
fn a_notarisation_is_kept_for_its_time_and_makes_room_after() {
    let mut world = World::new(Parameters {
        notarisations_max: 2,
        notarisation_keep_millis: 30,
        ..Parameters::default()
    });
    let effects = accept(&mut world, 3, notarise(b"one"));
    assert_eq!(effects, [Effect::Notarised(Digest::of(b"one"))]);
    let first = *world.state.notarisation(Digest::of(b"one")).unwrap();
    assert_eq!(first.account, account(3));
    assert_eq!(
        (first.height, first.time),
        (world.state.height(), world.state.time())
    );
    accept(&mut world, 4, notarise(b"two"));
    let again = TxError::Registry(RegistryError::Notarised {
        digest: Digest::of(b"one"),
        height: first.height,
    });
    assert_eq!(refuse(&mut world, 4, notarise(b"one")), again);
    let full = TxError::TableFull {
        table: TableKind::Notarisations,
        max: 2,
    };
    pass_until(&mut world, first.time.get() + 29);
    assert_eq!(refuse(&mut world, 3, notarise(b"three")), full);
    accept(&mut world, 3, notarise(b"three"));
    assert_eq!(world.state.time().get(), first.time.get() + 30);
    assert_eq!(world.state.notarisation(Digest::of(b"one")), None);
    assert!(world.state.notarisation(Digest::of(b"two")).is_some());
    // The receipt made before is checked without the ledger.
    let signed = cairn_core::Signed::sign_for(first, world.state.ledger_id(), &key(9));
    let read = cairn_core::Signed::<crate::registry::Notarisation>::decode(&signed.encode());
    let read = read.unwrap();
    assert_eq!(
        read.verify_for(key(9).public(), world.state.ledger_id()),
        Ok(&first)
    );
}

#[test]
fn registering_costs_its_own_fee_and_the_rest_the_least() {
    let micro = Amount::from_micro;
    let mut world = World::new(Parameters {
        fee_min: micro(3),
        registration_fee_min: micro(50),
        ..Parameters::default()
    });
    let id = register(&mut world, OWNER);
    assert_eq!(world.state.fees(), micro(50));
    accept(&mut world, OWNER, take(id, 50, 5));
    assert_eq!(world.state.fees(), micro(53));
    accept(&mut world, OWNER, notarise(b"one"));
    assert_eq!(world.state.fees(), micro(103));
    let body = TxBody::Registry(notarise(b"two"));
    let mut cheap = world.signed(OWNER, body).into_unverified();
    cheap.fee = micro(49);
    let fee = TxError::Fee {
        expected: micro(50),
        found: micro(49),
    };
    assert_eq!(world.refuse_tx(world.sign(cheap, OWNER)), fee);
    // A fee for all that is above it counts for these too.
    let mut world = World::new(Parameters {
        fee_min: micro(60),
        registration_fee_min: micro(50),
        ..Parameters::default()
    });
    register(&mut world, OWNER);
    assert_eq!(world.state.fees(), micro(60));
}

/// Number of variants of [`RegistryError`].
const KINDS: u8 = 14;

/// A number for each variant, as in the test of all other refusals.
const fn kind(error: &RegistryError) -> u8 {
    match error {
        RegistryError::UnknownVolume { .. } => 0,
        RegistryError::NotOwner { .. } => 1,
        RegistryError::VolumeCount { .. } => 2,
        RegistryError::NoRight { .. } => 3,
        RegistryError::LeaseMillis { .. } => 4,
        RegistryError::LeaseHeld { .. } => 5,
        RegistryError::Fenced { .. } => 6,
        RegistryError::NoLease { .. } => 7,
        RegistryError::LeaseOver { .. } => 8,
        RegistryError::NotWriter { .. } => 9,
        RegistryError::HeadNumber { .. } => 10,
        RegistryError::Expiry { .. } => 11,
        RegistryError::GrantCount { .. } => 12,
        RegistryError::Notarised { .. } => 13,
    }
}

/// Collects refusals that were expected.
struct Seen(BTreeSet<u8>);

impl Seen {
    fn expect(&mut self, found: &TxError, expected: RegistryError) {
        self.0.insert(kind(&expected));
        assert_eq!(*found, TxError::Registry(expected));
    }
}

fn volume_refusals(seen: &mut Seen) {
    let (mut world, id) = world();
    let unknown = VolumeId::default();
    let not_there = RegistryError::UnknownVolume { volume: unknown };
    for asked in [
        RegistryTx::VolumeClose { volume: unknown },
        anchor(unknown, 1, 1),
        take(unknown, 50, 5),
        ask(unknown, 50),
        renew(unknown, 1, 5),
        release(unknown, 1),
        hand_over(unknown, 1, writer(OWNER, 51), 5),
        grant(unknown, 9, Right::Read, 2_000),
        revoke(unknown, 9, 2_000),
    ] {
        seen.expect(&refuse(&mut world, OWNER, asked), not_there.clone());
    }
    let not_owner = RegistryError::NotOwner {
        volume: id,
        expected: account(OWNER),
        found: account(FRIEND),
    };
    for asked in [
        RegistryTx::VolumeClose { volume: id },
        RegistryTx::VolumeDescribe {
            volume: id,
            descriptor: note(b""),
        },
        grant(id, FRIEND, Right::Write, 2_000),
        revoke(id, 9, 2_000),
    ] {
        seen.expect(&refuse(&mut world, FRIEND, asked), not_owner.clone());
    }
    for _ in 1..VOLUMES_PER_ACCOUNT_MAX {
        register(&mut world, OWNER);
    }
    let descriptor = note(b"");
    let one_more = RegistryTx::VolumeRegister { descriptor };
    let too_many = RegistryError::VolumeCount {
        account: account(OWNER),
        max: 256,
    };
    seen.expect(&refuse(&mut world, OWNER, one_more.clone()), too_many);
    accept(&mut world, FRIEND, one_more);
    accept(&mut world, OWNER, RegistryTx::VolumeClose { volume: id });
    register(&mut world, OWNER);
}

fn lease_refusals(seen: &mut Seen) {
    let (mut world, id) = world();
    let zero = FencingNumber::ZERO;
    let none = |fencing| RegistryError::NoLease {
        volume: id,
        fencing,
    };
    for asked in [anchor(id, 0, 1), ask(id, 51), release(id, 0)] {
        seen.expect(&refuse(&mut world, OWNER, asked), none(zero));
    }
    let fenced = RegistryError::Fenced {
        volume: id,
        expected: zero,
        found: FencingNumber::new(1),
    };
    seen.expect(&refuse(&mut world, OWNER, anchor(id, 1, 1)), fenced);
    let max = Parameters::default().lease_millis_max;
    let millis = |found| RegistryError::LeaseMillis { max, found };
    for found in [0, max + 1, u64::MAX] {
        let refused = refuse(&mut world, OWNER, take(id, 50, found));
        seen.expect(&refused, millis(found));
    }
    accept(&mut world, OWNER, take(id, 50, max));
    for asked in [renew(id, 1, 0), hand_over(id, 1, writer(OWNER, 51), 0)] {
        seen.expect(&refuse(&mut world, OWNER, asked), millis(0));
    }
    let no_right = RegistryError::NoRight {
        volume: id,
        account: account(FRIEND),
    };
    for asked in [take(id, 60, 5), ask(id, 60)] {
        seen.expect(&refuse(&mut world, FRIEND, asked), no_right.clone());
    }
    let not_writer = RegistryError::NotWriter {
        volume: id,
        expected: account(OWNER),
        found: account(FRIEND),
    };
    for asked in [
        anchor(id, 1, 1),
        renew(id, 1, 5),
        release(id, 1),
        hand_over(id, 1, writer(FRIEND, 60), 5),
    ] {
        seen.expect(&refuse(&mut world, FRIEND, asked), not_writer.clone());
    }
    let held = RegistryError::LeaseHeld {
        volume: id,
        holder: writer(OWNER, 50),
        fencing: FencingNumber::new(1),
        until: volume(&world, id).lease.unwrap().until,
    };
    for asked in [take(id, 51, 5), ask(id, 50)] {
        seen.expect(&refuse(&mut world, OWNER, asked), held.clone());
    }
    accept(&mut world, OWNER, renew(id, 1, 4));
    let until = UnixMillis::new(now(&world) + 4);
    pass_until(&mut world, until.get());
    let over = RegistryError::LeaseOver {
        volume: id,
        fencing: FencingNumber::new(1),
        until,
    };
    seen.expect(&refuse(&mut world, OWNER, anchor(id, 1, 1)), over);
}

fn anchor_refusals(seen: &mut Seen) {
    let (mut world, id) = world();
    accept(&mut world, OWNER, take(id, 50, LEASE_MILLIS));
    let number = |min, found| RegistryError::HeadNumber {
        volume: id,
        min: HeadNumber::new(min),
        max: HeadNumber::new(min - 1 + HEAD_STEP_MAX),
        found: HeadNumber::new(found),
    };
    for found in [0, HEAD_STEP_MAX + 1, u64::MAX] {
        let refused = refuse(&mut world, OWNER, anchor(id, 1, found));
        seen.expect(&refused, number(1, found));
    }
    accept(&mut world, OWNER, anchor(id, 1, HEAD_STEP_MAX));
    for found in [HEAD_STEP_MAX, 1, HEAD_STEP_MAX * 2 + 1] {
        let refused = refuse(&mut world, OWNER, anchor(id, 1, found));
        seen.expect(&refused, number(HEAD_STEP_MAX + 1, found));
    }
    accept(&mut world, OWNER, anchor(id, 1, HEAD_STEP_MAX + 1));
}

fn grant_refusals(seen: &mut Seen) {
    let (mut world, id) = world();
    let refused = |world: &World, found| RegistryError::Expiry {
        after: UnixMillis::new(now(world)),
        max: UnixMillis::new(now(world) + GRANT_MILLIS_MAX),
        found: UnixMillis::new(found),
    };
    // Times of the block that is to come.
    for offset in [0, GRANT_MILLIS_MAX + 1] {
        let found = now(&world) + 1 + offset;
        let error = refuse(&mut world, OWNER, grant(id, 9, Right::Read, found));
        seen.expect(&error, refused(&world, found));
        let found = now(&world) + 1 + offset;
        let error = refuse(&mut world, OWNER, revoke(id, 9, found));
        seen.expect(&error, refused(&world, found));
    }
    for offset in [1, GRANT_MILLIS_MAX] {
        let found = now(&world) + 1 + offset;
        accept(&mut world, OWNER, grant(id, 9, Right::Read, found));
    }
    // Seen in full by tests of their own.
    seen.0
        .insert(kind(&RegistryError::GrantCount { volume: id, max: 0 }));
    accept(&mut world, OWNER, notarise(b"one"));
    let height = world.state.height();
    let digest = Digest::of(b"one");
    let again = RegistryError::Notarised { digest, height };
    seen.expect(&refuse(&mut world, FRIEND, notarise(b"one")), again);
}

#[test]
fn every_refusal_of_the_registry_is_reached() {
    let mut seen = Seen(BTreeSet::new());
    volume_refusals(&mut seen);
    lease_refusals(&mut seen);
    anchor_refusals(&mut seen);
    grant_refusals(&mut seen);
    grant_count_refusals(&mut seen);
    let all: BTreeSet<u8> = (0..KINDS).collect();
    let missed: Vec<_> = all.difference(&seen.0).collect();
    assert!(missed.is_empty(), "not reached: {missed:?}");
}

#[test]
fn full_tables_refuse_and_say_which() {
    let full = |table, max| TxError::TableFull { table, max };
    let mut world = World::new(Parameters {
        volumes_max: 1,
        grants_max: 1,
        notarisations_max: 0,
        ..Parameters::default()
    });
    let id = register(&mut world, OWNER);
    let descriptor = note(b"");
    let one_more = RegistryTx::VolumeRegister { descriptor };
    let refused = refuse(&mut world, FRIEND, one_more);
    assert_eq!(refused, full(TableKind::Volumes, 1));
    accept(&mut world, OWNER, grant(id, 9, Right::Read, 2_000));
    let refused = refuse(&mut world, OWNER, grant(id, 8, Right::Read, 2_000));
    assert_eq!(refused, full(TableKind::Grants, 1));
    accept(&mut world, OWNER, revoke(id, 9, 2_000));
    let refused = refuse(&mut world, OWNER, notarise(b"one"));
    assert_eq!(refused, full(TableKind::Notarisations, 0));
    for tables in [
        Parameters {
            volumes_max: u64::MAX,
            ..Parameters::default()
        },
        Parameters {
            grants_max: u64::MAX,
            ..Parameters::default()
        },
        Parameters {
            notarisations_max: u64::MAX,
            ..Parameters::default()
        },
    ] {
        assert!(State::genesis(&genesis(tables)).is_none());
    }
}

#[test]
fn the_widest_entries_are_as_wide_as_the_bounds_of_a_state_say() {
    let (mut world, id) = world();
    accept(
        &mut world,
        OWNER,
        RegistryTx::VolumeDescribe {
            volume: id,
            descriptor: note(&[7; crate::registry::DESCRIPTOR_BYTES_MAX]),
        },
    );
    for lease in 1..=8 {
        accept(&mut world, OWNER, take(id, 50, LEASE_MILLIS));
        accept(&mut world, OWNER, anchor(id, lease, lease));
    }
    accept(&mut world, OWNER, ask(id, 51));
    let bytes = |value: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        value(&mut bytes);
        bytes.len()
    };
    let found = bytes(&|out| borsh::to_writer(out, volume(&world, id)).unwrap());
    assert_eq!(found, VOLUME_BYTES_MAX);
    accept(&mut world, OWNER, grant(id, 9, Right::Read, 2_000));
    let grants = ask!(world.state, Grants(id));
    let found = bytes(&|out| borsh::to_writer(out, &grants[0]).unwrap());
    assert_eq!(found, GRANT_BYTES_MAX);
    accept(&mut world, OWNER, notarise(b"one"));
    let kept = world.state.notarisation(Digest::of(b"one"));
    let found = bytes(&|out| borsh::to_writer(out, kept.unwrap()).unwrap());
    assert_eq!(found, NOTARISATION_BYTES);
}

#[test]
fn a_state_whose_registry_cant_have_come_about_is_refused() {
    let (mut world, id) = world();
    accept(&mut world, OWNER, grant(id, FRIEND, Right::Write, 5_000));
    accept(&mut world, FRIEND, take(id, 60, LEASE_MILLIS));
    accept(&mut world, FRIEND, anchor(id, 1, 3));
    accept(&mut world, OWNER, notarise(b"one"));
    let sound = world.state.clone();
    let expect = |change: &dyn Fn(&mut State)| {
        let mut state = sound.clone();
        change(&mut state);
        // What follows from the tables is made anew from them, so that only they are wrong.
        let state: State = borsh::from_slice(&borsh::to_vec(&state).unwrap()).unwrap();
        let unsound = state.audit().unwrap_err();
        assert!(!matches!(unsound, Unsound::Index | Unsound::Trie));
        assert!(State::decode(&state.encode()).is_err());
    };
    let volume = |state: &mut State, change: &dyn Fn(&mut Volume)| {
        change(state.registry.volumes.get_mut(&id).unwrap());
    };
    expect(&|state| volume(state, &|volume| volume.fencing = FencingNumber::ZERO));
    expect(&|state| {
        volume(state, &|volume| {
            volume.fencing = FencingNumber::new(u64::MAX);
        });
    });
    expect(&|state| volume(state, &|volume| volume.id = VolumeId::default()));
    expect(&|state| volume(state, &|volume| volume.registered = Height::new(1_000)));
    expect(&|state| {
        volume(state, &|volume| {
            volume.lease.as_mut().unwrap().until = UnixMillis::new(5_001);
        });
    });
    expect(&|state| {
        volume(state, &|volume| {
            let twice = [volume.anchors[0]; 2].to_vec();
            volume.anchors = Bounded::new(twice).unwrap();
        });
    });
    expect(&|state| state.registry.grants.clear());
    expect(&|state| {
        let key = (id, public(FRIEND));
        let grant = state.registry.grants.get_mut(&key).unwrap();
        grant.expires_at = UnixMillis::new(u64::MAX);
    });
    expect(&|state| {
        let digest = Digest::of(b"one");
        let kept = state.registry.notarisations.get_mut(&digest).unwrap();
        kept.height = Height::new(1_000);
    });
}
