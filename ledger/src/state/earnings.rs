//! Nodes' earnings in the state: made from the effects of a block and nothing else.

use cairn_core::{AccountId, Amount, NodeId};

use super::State;
use super::audit::Unsound;
use crate::earnings::Earnings;
use crate::effect::Effect;
use crate::movement::{Cause, Direction, Movement, movements};

impl State {
    /// Tells of a change of a balance in the epoch that runs; of none when it is by nothing.
    pub(super) fn tell_moved(
        &self,
        account: AccountId,
        cause: Cause,
        amount: Amount,
        effects: &mut Vec<Effect>,
    ) {
        if amount > Amount::ZERO {
            effects.push(Effect::Moved(Movement {
                account,
                epoch: self.epoch.number,
                cause,
                amount,
            }));
        }
    }

    /// Enters what the effects say of nodes' balances. To be called once for each effect, with all
    /// those of one step of a block.
    pub(super) fn enter_earnings(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::NodeChanged(node) = effect
                && !self.earnings.contains_key(node)
            {
                let opening = self.balance_before(AccountId::new(node.key()), effects);
                self.earnings.insert(*node, Earnings::open(opening));
            }
        }
        for movement in effects.iter().flat_map(movements) {
            let node = NodeId::new(movement.account.key());
            if let Some(earnings) = self.earnings.get_mut(&node) {
                earnings.add(&movement);
            }
        }
    }

    /// The balance of an account before what the effects, which are the newest, tell of it.
    fn balance_before(&self, account: AccountId, effects: &[Effect]) -> Amount {
        let mut plus = u128::from(self.account(account).balance.micro());
        let mut minus = 0_u128;
        let own = effects.iter().flat_map(movements);
        for movement in own.filter(|movement| movement.account == account) {
            let side = match movement.cause.direction() {
                Direction::Income => &mut minus,
                Direction::Expense => &mut plus,
            };
            *side = side.saturating_add(u128::from(movement.amount.micro()));
        }
        let before = plus
            .checked_sub(minus)
            .and_then(|micro| u64::try_from(micro).ok());
        Amount::from_micro(before.expect("balances are part of the supply"))
    }

    /// Every node has its earnings, and they agree with its balance.
    pub(super) fn audit_earnings(&self) -> Result<(), Unsound> {
        if !self.earnings.keys().eq(self.nodes.keys()) {
            return Err(Unsound::Key);
        }
        for (node, earnings) in self.earnings.iter() {
            let found = self.account(AccountId::new(node.key())).balance;
            let expected = earnings.closing().filter(|_| earnings.is_well_formed());
            if expected != Some(found) {
                return Err(Unsound::Earnings {
                    node: *node,
                    expected: found,
                });
            }
        }
        Ok(())
    }
}
