//! A chain that goes on after many views without a block.

use super::*;

/// More views than seeds are kept.
const VIEWS: u64 = 1_100;
/// Longer than they take: a leader that makes nothing takes all of its turn.
const TIME_MAX: Duration = Duration::from_secs(3600);

/// Waits until the validator was to make the block of a view as high.
async fn asked(team: &Team, view: u64) {
    while team.members[0].chain.asked.load(Ordering::Relaxed) < view {
        team.world.sleep(Duration::from_secs(1)).await;
    }
}

/// Of one validator alone: what it forgets nobody else has.
#[test]
fn a_chain_goes_on_after_any_number_of_views_without_a_block() {
    let config = deterministic::Config::new()
        .with_seed(10)
        .with_timeout(Some(TIME_MAX));
    deterministic::Runner::new(config).start(async |world: World| {
        let mut team = Team::new(world, 1).await;
        team.start(0).await;
        team.reach(5).await;
        let chain = Arc::clone(&team.members[0].chain);
        chain.is_silent.store(true, Ordering::Relaxed);
        let view = chain.asked.load(Ordering::Relaxed) + VIEWS;
        asked(&team, view).await;
        chain.is_silent.store(false, Ordering::Relaxed);
        let height = chain.height();
        team.reach(height + 5).await;
        // Nor does it forget them when it is killed meanwhile.
        chain.is_silent.store(true, Ordering::Relaxed);
        let view = chain.asked.load(Ordering::Relaxed) + VIEWS;
        asked(&team, view).await;
        team.crash(0).await;
        team.start(0).await;
        asked(&team, view + 5).await;
        chain.is_silent.store(false, Ordering::Relaxed);
        let height = chain.height();
        team.reach(height + 5).await;
        team.check();
    });
}
