//! A ledger and those who send to it, driven block by block.

use anyhow::{Context, Result, bail};
use cairn_core::{
    AccountId, Amount, Bounded, ByteCount, Digest, NodeId, SecretKey, Signed, Text, UnixMillis,
};
use cairn_ledger::tx::operator_consent;
use cairn_ledger::{
    Block, Effect, Genesis, NodeTerms, Parameters, State, Tx, TxBody, Verdict, ViewSeed,
};

/// Bytes of the signature that a seed of validators is made of.
const SIGNATURE_BYTES: usize = 48;

/// Who signs transactions.
#[derive(Debug)]
pub(super) struct Party {
    secret: SecretKey,
    nonce: u64,
}

impl Party {
    /// The party of a number; its key follows from it.
    pub(super) fn new(number: u64) -> Self {
        let seed = Digest::keyed("cairn bench party", &number.to_le_bytes());
        Self {
            secret: SecretKey::from_bytes(seed.as_bytes()),
            nonce: 0,
        }
    }

    /// Its account.
    pub(super) fn account(&self) -> AccountId {
        AccountId::new(self.secret.public())
    }

    /// Itself as a node.
    pub(super) fn node(&self) -> NodeId {
        NodeId::new(self.secret.public())
    }
}

/// Where a node is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Number of its network prefix.
    pub(super) network: u64,
    /// Number of its hosting provider.
    pub(super) provider: u64,
    /// Number of its region.
    pub(super) region: u64,
}

/// A ledger.
#[derive(Debug)]
pub(super) struct Network {
    /// Its state.
    pub(super) state: State,
    /// Fee of each transaction.
    fee: Amount,
}

impl Network {
    /// A ledger that gives each of `parties` so much.
    pub(super) fn new(parameters: Parameters, parties: &[&Party], each: Amount) -> Result<Self> {
        let mut endowed: Vec<_> = parties
            .iter()
            .map(|party| (party.account(), each))
            .collect();
        endowed.sort_unstable_by_key(|(account, _)| *account);
        let genesis = Genesis {
            time: UnixMillis::new(0),
            parameters,
            endowed: Bounded::new(endowed)?,
            validators: None,
        };
        Ok(Self {
            state: State::genesis(&genesis).context("the genesis is not well formed")?,
            fee: parameters.fee_min,
        })
    }

    /// The party's next transaction.
    pub(super) fn signed(&self, party: &mut Party, body: TxBody) -> Signed<Tx> {
        let tx = Tx {
            account: party.account(),
            nonce: party.nonce,
            fee: self.fee,
            body,
        };
        party.nonce += 1;
        Signed::sign_for(tx, self.state.ledger_id(), &party.secret)
    }

    /// A node's registration, itself its operator.
    pub(super) fn registration(
        &self,
        party: &mut Party,
        place: Place,
        (capacity, price): (ByteCount, Amount),
    ) -> Result<Signed<Tx>> {
        let label = |what: &str, number: u64| Text::new(format!("{what} {number}"));
        let consent = operator_consent(self.state.ledger_id(), &party.secret, party.node());
        let body = TxBody::NodeRegister {
            operator: party.account(),
            operator_consent: consent,
            terms: NodeTerms {
                capacity,
                price,
                network: label("network", place.network)?,
                provider: label("provider", place.provider)?,
                region: label("region", place.region)?,
            },
        };
        Ok(self.signed(party, body))
    }

    /// The next block, as long as one of validators: all its proofs valid, one seed, which follows from
    /// its height.
    pub(super) fn block(&self, time: UnixMillis, txs: Vec<Signed<Tx>>) -> Result<Block> {
        let is_proof =
            |tx: &&Signed<Tx>| matches!(tx.unverified().body, TxBody::ProofSubmit { .. });
        let proof_count = txs.iter().filter(is_proof).count();
        let height = self.state.height().next().context("a next height")?;
        let before = self.state.view();
        let seed = Digest::keyed("cairn bench seed", &height.get().to_le_bytes());
        let mut signature = seed.as_bytes().to_vec();
        signature.resize(SIGNATURE_BYTES, 0);
        Ok(Block {
            height,
            parent: self.state.tip(),
            time,
            view: before.next().context("a next view")?,
            seeds: Bounded::new(vec![ViewSeed {
                view: before,
                signature: Bounded::new(signature)?,
            }])?,
            lost: Bounded::empty(),
            txs: Bounded::new(txs)?,
            verdicts: Bounded::new(vec![Verdict::Valid; proof_count])?,
        })
    }

    /// Applies a block at the state's time, and further ones until nothing is left to be drawn.
    pub(super) fn settle(&mut self, txs: Vec<Signed<Tx>>) -> Result<()> {
        let block = self.block(self.state.time(), txs)?;
        all_done(&self.state.apply_checked(&block)?)?;
        while self.state.has_draws() {
            let block = self.block(self.state.time(), Vec::new())?;
            self.state.apply_checked(&block)?;
        }
        Ok(())
    }
}

/// That no transaction was refused and no slot is without a node.
pub(super) fn all_done(effects: &[Effect]) -> Result<()> {
    for effect in effects {
        match effect {
            Effect::TxDone { result, .. } => result.clone()?,
            Effect::SlotWaiting(slot) => bail!("{slot} found no node"),
            Effect::GroupRefunded { group, .. } => bail!("group {group} was not drawn"),
            _ => {}
        }
    }
    Ok(())
}
