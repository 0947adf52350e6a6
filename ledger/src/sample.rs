//! A ledger at work, for tests and fuzz targets: parties made from numbers, blocks made from what
//! they ask for, every state audited.

#![expect(clippy::missing_panics_doc, reason = "a failed test")]

pub mod shown;
pub mod term;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use cairn_core::{
    AccountId, Amount, Bounded, ByteCount, Code, Digest, GroupId, GroupRevision, GroupRoot,
    LedgerId, NodeId, PublicKey, Record, RevisionNumber, SecretKey, Signed, SlotIndex, Text,
    UnixMillis, ViewNumber,
};

use crate::attestation::{Attestation, LedgerKey};
use crate::block::{Block, SEEDS_MAX, Verdict, ViewSeed};
use crate::effect::Effect;
use crate::genesis::{Genesis, Parameters};
use crate::group::{Deal, Group};
use crate::movement::{Direction, movements};
use crate::node::NodeEntry;
use crate::score::AuditReport;
use crate::state::State;
use crate::tx::{NodeTerms, SlotRef, SlotRevision, Tx, TxBody, group_id, operator_consent, tx_id};
use crate::tx_error::TxError;

/// The owner of every sample group.
pub const OWNER: u8 = 1;
/// What each of the accounts 1 to 4 begins with.
pub const ENDOWED: u64 = 1_000_000;

/// The party that attests every sample ledger.
pub const SEQUENCER: u8 = 100;

/// The public key of every party, which takes a while to derive.
static PUBLIC: LazyLock<Vec<PublicKey>> =
    LazyLock::new(|| (0..=u8::MAX).map(|number| key(number).public()).collect());

/// The ledger of the default parameters, which most samples are of.
static LEDGER: LazyLock<LedgerId> = LazyLock::new(|| genesis(Parameters::default()).ledger_id());

/// The ledger of the default parameters.
pub fn ledger() -> LedgerId {
    *LEDGER
}

/// The key of a party.
pub fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn public(number: u8) -> PublicKey {
    let key = PUBLIC.get(usize::from(number));
    *key.expect("there is a key for every number")
}

/// The account of a party.
pub fn account(number: u8) -> AccountId {
    AccountId::new(public(number))
}

/// The node of a party.
pub fn node(number: u8) -> NodeId {
    NodeId::new(public(number))
}

/// The key that attests every sample ledger.
pub fn ledger_key() -> LedgerKey {
    LedgerKey::Sequencer(public(SEQUENCER))
}

/// What a ledger is in a state, signed by the sequencer.
pub fn attest(state: &State) -> Attestation {
    Attestation::sign(state.attested(), &key(SEQUENCER))
}

/// What a state answers to a question, as what such a question's answer is.
macro_rules! ask {
    ($state:expr, $kind:ident $($of:tt)*) => {
        match $state.ask($crate::query::Question::$kind $($of)*) {
            $crate::query::Seen::$kind(seen) => seen,
            other => panic!("expected what was asked for, found {other:?}"),
        }
    };
}
pub(crate) use ask;

/// A genesis that endows the accounts 1 to 4.
pub fn genesis(parameters: Parameters) -> Genesis {
    let endow = |number| (account(number), Amount::from_micro(ENDOWED));
    let mut endowed: Vec<_> = (1..=4).map(endow).collect();
    endowed.sort_unstable();
    Genesis {
        time: UnixMillis::new(1_000),
        parameters,
        endowed: Bounded::new(endowed).expect("four accounts"),
        validators: None,
    }
}

/// Where a node is: network, provider, region, as numbers.
pub type Place = (u8, u8, u8);

/// Terms of a node with room for `slots` slots of [`open`].
pub fn terms(slots: u64, (network, provider, region): Place) -> NodeTerms {
    let label = |kind: &str, number: u8| Text::cut(&format!("{kind} {number}"));
    NodeTerms {
        capacity: ByteCount::new(slots << 20),
        price: Amount::from_micro(5),
        network: label("network", network),
        provider: label("provider", provider),
        region: label("region", region),
    }
}

/// Registers the party as a node of an operator, on the ledger of the default parameters.
pub fn register(number: u8, operator: u8, terms: NodeTerms) -> TxBody {
    register_on(ledger(), number, operator, terms)
}

/// Registers the party as a node of an operator.
pub fn register_on(ledger: LedgerId, number: u8, operator: u8, terms: NodeTerms) -> TxBody {
    TxBody::NodeRegister {
        operator: account(operator),
        operator_consent: operator_consent(ledger, &key(operator), node(number)),
        terms,
    }
}

/// Opens a group of 1 MiB slots.
pub fn open(k: u8, n: u8) -> TxBody {
    TxBody::GroupOpen {
        code: Code::new(k, n).expect("a code"),
        slot_capacity: ByteCount::new(1 << 20),
        price_max: Amount::from_micro(10),
        term_epochs: 24,
        escrow: Amount::from_micro(100),
    }
}

/// A revision of a group.
pub fn revision(group: GroupId, number: u64, segment_count: u32) -> GroupRevision {
    GroupRevision {
        group,
        number: RevisionNumber::new(number),
        segment_count,
        slot_bytes: ByteCount::new(u64::from(segment_count)),
        group_root: GroupRoot::new(Digest::of(&number.to_le_bytes())),
    }
}

/// Revises a group.
pub fn revise(group: GroupId, number: u64, segment_count: u32) -> TxBody {
    TxBody::GroupRevise {
        revision: revision(group, number, segment_count),
    }
}

/// A slot of a group.
pub const fn slot(group: GroupId, slot: u8) -> SlotRef {
    SlotRef {
        group,
        slot: SlotIndex::new(slot),
    }
}

/// Acknowledges one slot.
pub fn acknowledge(slot: SlotRef, revision: u64) -> TxBody {
    let entry = SlotRevision {
        group: slot.group,
        slot: slot.slot,
        revision: RevisionNumber::new(revision),
    };
    TxBody::Acknowledge {
        slots: Bounded::new(vec![entry]).expect("one slot"),
    }
}

/// Declares one slot lost.
pub fn declare_loss(slot: SlotRef) -> TxBody {
    TxBody::DeclareLoss {
        slots: Bounded::new(vec![slot]).expect("one slot"),
    }
}

/// A ledger at work.
#[derive(Clone, Debug)]
pub struct World {
    /// Its state.
    pub state: State,
    /// Every block so far.
    pub blocks: Vec<Block>,
}

impl World {
    /// Before the first block.
    pub fn new(parameters: Parameters) -> Self {
        Self {
            state: State::genesis(&genesis(parameters)).expect("a genesis"),
            blocks: Vec::new(),
        }
    }

    /// With nodes 10, 11, ... at these places, each its own operator with room for `slots` slots.
    pub fn with_nodes(slots: u64, places: &[Place]) -> Self {
        Self::with_nodes_on(Parameters::default(), slots, places)
    }

    /// The same on a ledger of these parameters.
    pub fn with_nodes_on(parameters: Parameters, slots: u64, places: &[Place]) -> Self {
        let mut world = Self::new(parameters);
        world.register_nodes(slots, places);
        world
    }

    /// Registers nodes as [`Self::with_nodes`] has them.
    pub fn register_nodes(&mut self, slots: u64, places: &[Place]) {
        for (number, place) in (10..).zip(places) {
            self.accept(number, self.registration(number, terms(slots, *place)));
        }
    }

    /// Registers the party as its own operator's node on this ledger.
    pub fn registration(&self, number: u8, terms: NodeTerms) -> TxBody {
        register_on(self.state.ledger_id(), number, number, terms)
    }

    /// A transaction with the right nonce.
    pub fn signed(&self, number: u8, body: TxBody) -> Signed<Tx> {
        let account = account(number);
        let tx = Tx {
            account,
            nonce: self.state.account(account).nonce,
            fee: self.state.parameters().fee_min_of(&body),
            body,
        };
        self.sign(tx, number)
    }

    /// Signed by the party for this ledger.
    pub fn sign(&self, tx: Tx, number: u8) -> Signed<Tx> {
        Signed::sign_for(tx, self.state.ledger_id(), &key(number))
    }

    /// The next block.
    pub fn next_block(&self, lost: &[NodeId], txs: Vec<Signed<Tx>>) -> Block {
        let height = self.state.height().next().expect("few blocks");
        let before = self.state.view();
        Block {
            height,
            parent: self.state.tip(),
            time: UnixMillis::new(1_000 + height.get()),
            view: before.next().expect("few blocks"),
            seeds: seeds(before),
            lost: Bounded::new(lost.to_vec()).expect("few nodes"),
            txs: Bounded::new(txs).expect("few transactions"),
            verdicts: Bounded::empty(),
        }
    }

    /// Applies a block, audits the state, and checks that it shows what it is and that the effects
    /// tell of every change of a balance.
    pub fn apply(&mut self, block: Block) -> Vec<Effect> {
        let before = self.micro_balances();
        let effects = self.state.apply(&block).expect("the next block");
        self.state.audit().expect("a sound state");
        shown::assert_shown(&self.state);
        self.blocks.push(block);
        let told = effects
            .iter()
            .flat_map(movements)
            .fold(before, |mut sums, movement| {
                let sum = sums.entry(movement.account).or_default();
                let amount = i128::from(movement.amount.micro());
                *sum = match movement.cause.direction() {
                    Direction::Income => sum.checked_add(amount),
                    Direction::Expense => sum.checked_sub(amount),
                }
                .expect("few movements");
                sums
            });
        let after = self.micro_balances();
        let moved = |sums: BTreeMap<AccountId, i128>| -> BTreeMap<AccountId, i128> {
            sums.into_iter().filter(|(_, sum)| *sum != 0).collect()
        };
        assert_eq!(
            moved(told),
            moved(after),
            "effects tell of every change of a balance"
        );
        effects
    }

    /// Every account's balance.
    fn micro_balances(&self) -> BTreeMap<AccountId, i128> {
        let balance = |(id, account): (AccountId, crate::state::Account)| {
            (id, i128::from(account.balance.micro()))
        };
        self.state.accounts().map(balance).collect()
    }

    /// A block of one transaction: its effects and what became of it.
    pub fn submit(&mut self, tx: Signed<Tx>) -> (Vec<Effect>, Result<(), TxError>) {
        let id = tx_id(&tx);
        let block = self.next_block(&[], vec![tx]);
        let mut effects = self.apply(block);
        // Behind it come the groups that were looked at.
        let done =
            |effect: &Effect| matches!(effect, Effect::TxDone { id: found, .. } if *found == id);
        let at = effects.iter().position(done);
        match effects.remove(at.expect("the transaction's end")) {
            Effect::TxDone { result, .. } => (effects, result),
            other => panic!("expected the transaction's end, found {other:?}"),
        }
    }

    /// A block of one transaction that is done: its effects without those of the draws before it.
    pub fn accept(&mut self, number: u8, body: TxBody) -> Vec<Effect> {
        let tx = self.signed(number, body);
        let (effects, result) = self.submit(tx);
        result.expect("the transaction is done");
        effects
    }

    /// A block of one transaction that is not done: it changes nothing but what it pays, rule T2.
    pub fn refuse(&mut self, number: u8, body: TxBody) -> TxError {
        let tx = self.signed(number, body);
        self.refuse_tx(tx)
    }

    /// As [`Self::refuse`].
    pub fn refuse_tx(&mut self, tx: Signed<Tx>) -> TxError {
        // What is drawn, and the looks at groups when an epoch begins, are changes of other causes.
        let begins_epoch = |world: &Self| {
            let time = world.next_block(&[], Vec::new()).time;
            world.state.epoch_at(time) > world.state.epoch().number
        };
        while self.state.has_draws() || begins_epoch(self) {
            self.pass();
        }
        let Tx { account, fee, .. } = *tx.unverified();
        let payer = (0..=u8::MAX).find(|number| self::account(*number) == account);
        let before = self.state.account(account);
        let is_known = self.state.has_account(account);
        let keeps = self.state.parameters().account_min;
        let pays = fee
            .checked_add(keeps)
            .is_some_and(|least| before.balance >= least);
        let mut balances = self.balances();
        let tables = |world: &Self| -> (Vec<NodeEntry>, Vec<Group>) {
            let state = &world.state;
            (
                state.nodes().cloned().collect(),
                state.groups().cloned().collect(),
            )
        };
        let others = tables(self);
        let (_, result) = self.submit(tx);
        let error = result.expect_err("the transaction is not done");
        let is_charge_wrong = matches!(
            error,
            TxError::Signer { .. }
                | TxError::Signature { .. }
                | TxError::Malformed
                | TxError::Nonce { .. }
                | TxError::Fee { .. }
        );
        if is_known && pays && !is_charge_wrong {
            let left = before.balance.checked_sub(fee).expect("it pays");
            let nonce = before.nonce.checked_add(1).expect("few transactions");
            balances.insert(payer.expect("a party"), (left, nonce));
        }
        assert_eq!(self.balances(), balances, "{error}");
        assert_eq!(tables(self), others, "{error}");
        error
    }

    /// A block of nothing.
    pub fn pass(&mut self) -> Vec<Effect> {
        self.apply(self.next_block(&[], Vec::new()))
    }

    /// Passes time until an epoch runs, this one or a later one, whose seed is known.
    pub fn pass_to_epoch(&mut self, number: u64) {
        while self.state.epoch().number.get() < number || self.state.epoch().seed.is_none() {
            self.pass();
        }
    }

    /// A block of these nodes' proofs of the epoch that runs, whose seed is known, which says of all
    /// that they are valid.
    pub fn prove(&mut self, numbers: &[u8]) -> Vec<Effect> {
        let body = TxBody::ProofSubmit {
            epoch: self.state.epoch().number,
            witness: Digest::of(b"a proof"),
            audits: AuditReport::default(),
        };
        let signed = |number: &u8| self.signed(*number, body.clone());
        let txs: Vec<Signed<Tx>> = numbers.iter().map(signed).collect();
        let verdicts = vec![Verdict::Valid; txs.len()];
        self.apply(Block {
            verdicts: Bounded::new(verdicts).expect("few proofs"),
            ..self.next_block(&[], txs)
        })
    }

    /// A block that calls nodes lost.
    pub fn lose(&mut self, numbers: &[u8]) -> Vec<Effect> {
        let lost: Vec<NodeId> = numbers.iter().map(|number| node(*number)).collect();
        self.apply(self.next_block(&lost, Vec::new()))
    }

    /// Opens a group of the owner and lets it be placed.
    pub fn place(&mut self, k: u8, n: u8) -> GroupId {
        let tx = self.signed(OWNER, open(k, n));
        let id = group_id(tx_id(&tx));
        let (_, result) = self.submit(tx);
        result.expect("the group is opened");
        self.pass();
        assert!(self.group(id).is_placed());
        id
    }

    /// A group.
    pub fn group(&self, id: GroupId) -> &Group {
        self.state.group(id).expect("the group is there")
    }

    /// A deal.
    pub fn deal(&self, slot: SlotRef) -> &Deal {
        self.group(slot.group).deal(slot.slot).expect("a deal")
    }

    /// The party that is the node of a slot.
    pub fn holder(&self, slot: SlotRef) -> u8 {
        party(self.deal(slot).node)
    }

    /// Balance and nonce of every party's account.
    pub fn balances(&self) -> BTreeMap<u8, (Amount, u64)> {
        (0..=u8::MAX)
            .map(|number| {
                let found = self.state.account(account(number));
                (number, (found.balance, found.nonce))
            })
            .collect()
    }

    /// Digest of the state's encoding.
    pub fn digest(&self) -> Digest {
        self.state.record_digest()
    }
}

/// The party that is a node.
pub fn party(id: NodeId) -> u8 {
    (0..=u8::MAX)
        .find(|number| node(*number) == id)
        .expect("a party's node")
}

/// What a block in the view after `view` carries.
fn seeds(view: ViewNumber) -> Bounded<ViewSeed, SEEDS_MAX> {
    let number = view.get().to_le_bytes();
    let signature = Bounded::new(number.to_vec()).expect("8 bytes");
    Bounded::new(vec![ViewSeed { view, signature }]).expect("one")
}
