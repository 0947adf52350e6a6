//! Lets the engine drive an [`Application`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use commonware_actor::Feedback;
use commonware_consensus::marshal::Update;
use commonware_consensus::marshal::ancestry::Ancestry;
use commonware_consensus::simplex::types::Context;
use commonware_consensus::{Application as ConsensusApplication, Reporter};
use commonware_cryptography::{Digested, Digestible as _, ed25519};
use commonware_parallel::Sequential;
use commonware_utils::Acknowledgement as _;
use commonware_utils::acknowledgement::Exact;
use futures::StreamExt as _;
use tokio::sync::mpsc;

use crate::block::{Block, BytesMax, Digest};
use crate::committee::{Scheme, key_bytes};
use crate::port::{Application, Final, Turn, Vote};
use crate::seeds::{Seeds, seed_views};

type View = Context<Digest, ed25519::PublicKey>;

/// Makes blocks and votes on them for the engine.
#[derive(Clone, Debug)]
pub(crate) struct Adapter {
    application: Arc<dyn Application>,
    seeds: Seeds,
    bytes_max: BytesMax,
}

impl Adapter {
    pub(crate) fn new(
        application: Arc<dyn Application>,
        seeds: Seeds,
        bytes_max: BytesMax,
    ) -> Self {
        Self {
            application,
            seeds,
            bytes_max,
        }
    }

    /// The turn above `parent` that consensus asks about; `None` past the last height.
    fn turn(context: &View, parent: &Block) -> Option<Turn> {
        Some(Turn {
            view: context.round.view().get(),
            leader: key_bytes(&context.leader)?,
            height: parent.height.checked_add(1)?,
            parent_view: context.parent.0.get(),
            parent: parent.bytes.to_vec(),
            seeds: Vec::new(),
        })
    }
}

impl<E: Send + 'static> ConsensusApplication<E> for Adapter {
    type SigningScheme = Scheme;
    type Context = View;
    type Block = Block;
    type Input = ();

    async fn propose(
        &mut self,
        (_, context): (E, View),
        mut ancestry: impl Ancestry<Block>,
        (): (),
    ) -> Option<Digested<Block>> {
        let parent = ancestry.next().await?;
        let mut turn = Self::turn(&context, parent.inner())?;
        turn.seeds = self
            .seeds
            .all(seed_views(turn.parent_view, turn.view))
            .await;
        let height = turn.height;
        let bytes = self.application.propose(turn).await?;
        if bytes.len() > self.bytes_max.0 {
            tracing::error!(
                height,
                bytes = bytes.len(),
                "a block too large is not proposed"
            );
            return None;
        }
        let block = Block {
            height,
            parent: parent.digest(),
            bytes: Bytes::from(bytes),
        };
        Some(Digested::compute(block, &Sequential).await)
    }

    async fn verify(
        &mut self,
        (_, context): (E, View),
        mut ancestry: impl Ancestry<Block>,
    ) -> bool {
        let (Some(block), Some(parent)) = (ancestry.next().await, ancestry.next().await) else {
            return false;
        };
        let Some(mut turn) = Self::turn(&context, parent.inner()) else {
            return false;
        };
        turn.seeds = self.seeds.known(seed_views(turn.parent_view, turn.view));
        let bytes = block.inner().bytes.to_vec();
        match self.application.vote(turn, bytes).await {
            Vote::Yes => true,
            Vote::No => false,
            // An answer would be a vote.
            Vote::Abstain => std::future::pending().await,
        }
    }
}

/// A final block on its way to the application, with the receipt that lets the next ones come.
pub(crate) type Delivery = (Digested<Block>, Exact);

/// Hands final blocks on to the task that gives them to the application.
#[derive(Clone, Debug)]
pub(crate) struct Finality {
    deliveries: mpsc::Sender<Delivery>,
    height: Arc<AtomicU64>,
}

impl Finality {
    /// The reporter for `marshal`, and where its blocks come out. `pending_max` is the most blocks
    /// that `marshal` hands out before the first is taken.
    pub(crate) fn new(
        pending_max: usize,
        height: Arc<AtomicU64>,
    ) -> (Self, mpsc::Receiver<Delivery>) {
        let (deliveries, receiver) = mpsc::channel(pending_max);
        (Self { deliveries, height }, receiver)
    }
}

impl Reporter for Finality {
    type Activity = Update<Block>;

    fn report(&mut self, activity: Update<Block>) -> Feedback {
        match activity {
            Update::Tip(_, height, _) => {
                self.height.fetch_max(height.get(), Ordering::Relaxed);
                Feedback::Ok
            }
            // Full only against marshal's own bound; a delivery that is dropped stops it.
            Update::Block(block, receipt) => match self.deliveries.try_send((block, receipt)) {
                Ok(()) => Feedback::Ok,
                Err(_) => Feedback::Closed,
            },
        }
    }
}

/// Gives the application one final block after another.
pub(crate) async fn deliver(
    application: Arc<dyn Application>,
    mut deliveries: mpsc::Receiver<Delivery>,
) {
    while let Some((block, receipt)) = deliveries.recv().await {
        let block = block.inner();
        // The genesis is everyone's own.
        if block.height > 0 {
            let block = Final {
                height: block.height,
                block: block.bytes.to_vec(),
            };
            application.finalize(block).await;
        }
        receipt.acknowledge();
    }
}
