//! What a development network is made of: fixed at its first start, kept in its folder.

use std::path::Path;
use std::time::Duration;

use cairn_core::{Amount, ByteCount, Profile};
use serde::{Deserialize, Serialize};

use super::money;
use crate::args::DevArgs;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::files::{self, Access};

/// Nodes when nothing else is asked.
const NODES_DEFAULT: u16 = 8;
/// Most bytes of each node when nothing else is asked: 16 GiB, sparse until they are used.
const CAPACITY_DEFAULT: ByteCount = ByteCount::new(16 << 30);

/// What a development network is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// How many nodes.
    pub(super) node_count: u16,
    /// The code that uploads get.
    pub(super) profile: Profile,
    /// Most bytes of slots on each node.
    pub(super) capacity: ByteCount,
    /// Where others join; a free port of the loopback interface when there is nothing.
    pub(super) listen: Vec<String>,
    /// How long an epoch is; without, nobody proves.
    pub(super) epoch: Option<Duration>,
}

/// As written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    node_count: u16,
    profile: String,
    node_capacity_bytes: u64,
    #[serde(default)]
    listen: Vec<String>,
    #[serde(default)]
    epoch_millis: u64,
}

impl Plan {
    /// The plan kept at `path`, changed as far as it can be by what is asked; a new one when
    /// there is none.
    ///
    /// # Errors
    ///
    /// Of kind usage when what is asked does not fit what is there.
    pub(super) fn settle(path: &Path, args: &DevArgs) -> Result<Self, Failure> {
        let kept = files::read(path)?
            .map(|text| Self::parse(path, &text))
            .transpose()?;
        let plan = match kept {
            Some(kept) => kept.change(args)?,
            None => Self::first(args)?,
        };
        plan.check()?;
        files::write(path, Access::Shared, plan.to_text()?.as_bytes())?;
        Ok(plan)
    }

    fn first(args: &DevArgs) -> Result<Self, Failure> {
        let node_count = match (args.nodes, args.profile) {
            (Some(count), _) => count,
            (None, Some(profile)) => NODES_DEFAULT.max(u16::from(profile.code().n())),
            (None, None) => NODES_DEFAULT,
        };
        let profile = match args.profile {
            Some(profile) => profile,
            None if node_count == 0 => Profile::Dev8,
            None => widest(node_count)?,
        };
        Ok(Self {
            node_count,
            profile,
            capacity: args.capacity.unwrap_or(CAPACITY_DEFAULT),
            listen: args.listen.clone(),
            epoch: args.epoch,
        })
    }

    /// More nodes may join, and another profile may be used from now on; nodes are never taken
    /// away here, since that loses what they hold.
    fn change(self, args: &DevArgs) -> Result<Self, Failure> {
        let node_count = args.nodes.unwrap_or(self.node_count);
        if node_count < self.node_count {
            let text = format!(
                "the network has {} nodes, found --nodes {node_count}",
                self.node_count
            );
            return Err(Failure::say(FailureKind::Usage, text)
                .hint("leave --nodes out, or give another folder with --home"));
        }
        if let Some(asked) = args.capacity
            && asked != self.capacity
        {
            let text = format!(
                "the network's nodes take {} each, found --capacity {asked}",
                self.capacity
            );
            return Err(Failure::say(FailureKind::Usage, text)
                .hint("leave --capacity out; capacity_bytes in each node's node.toml changes it"));
        }
        if args.epoch.is_some() && args.epoch != self.epoch {
            let kept = self.epoch.map_or_else(
                || "has no epochs".to_owned(),
                |epoch| format!("has epochs of {}", humantime::format_duration(epoch)),
            );
            let text = format!("the network's ledger {kept}, which stays as it is");
            return Err(Failure::say(FailureKind::Usage, text)
                .hint("leave --epoch out, or give another folder with --home"));
        }
        let listen = if args.listen.is_empty() {
            self.listen
        } else {
            args.listen.clone()
        };
        Ok(Self {
            node_count,
            profile: args.profile.unwrap_or(self.profile),
            capacity: self.capacity,
            listen,
            epoch: self.epoch,
        })
    }

    /// What its nodes ask: something where proofs are paid.
    pub(super) const fn price(&self) -> Amount {
        if self.epoch.is_some() {
            money::PRICE
        } else {
            Amount::ZERO
        }
    }

    fn check(&self) -> Result<(), Failure> {
        let needed = u16::from(self.profile.code().n());
        if self.node_count > 0 && needed > self.node_count {
            let text = format!(
                "profile {} ({}) needs {needed} nodes, found {}",
                self.profile,
                self.profile.code(),
                self.node_count
            );
            return Err(Failure::say(FailureKind::Usage, text).hint(format!(
                "cairn dev --nodes {needed} --profile {}",
                self.profile
            )));
        }
        Ok(())
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Failure> {
        let shown = path.display();
        let written: Written =
            toml::from_str(text).or_fail(FailureKind::Usage, format!("{shown} is wrong"))?;
        Ok(Self {
            node_count: written.node_count,
            profile: written
                .profile
                .parse()
                .or_fail(FailureKind::Usage, format!("{shown} is wrong"))?,
            capacity: ByteCount::new(written.node_capacity_bytes),
            listen: written.listen,
            epoch: (written.epoch_millis > 0).then(|| Duration::from_millis(written.epoch_millis)),
        })
    }

    fn to_text(&self) -> Result<String, Failure> {
        let written = Written {
            node_count: self.node_count,
            profile: self.profile.to_string(),
            node_capacity_bytes: self.capacity.get(),
            listen: self.listen.clone(),
            epoch_millis: self.epoch.map_or(0, millis),
        };
        toml::to_string(&written).or_fail(FailureKind::Usage, "the plan has no form")
    }
}

/// Whole milliseconds of an epoch.
pub(crate) fn millis(epoch: Duration) -> u64 {
    u64::try_from(epoch.as_millis()).unwrap_or(u64::MAX)
}

/// The widest profile of the table that fits so many nodes.
fn widest(node_count: u16) -> Result<Profile, Failure> {
    let fits = |profile: &Profile| u16::from(profile.code().n()) <= node_count;
    // Of two with the same n, the one that the table has first is the usual one.
    let fitting = Profile::ALL.into_iter().filter(fits);
    fitting
        .reduce(|best, next| {
            if next.code().n() > best.code().n() {
                next
            } else {
                best
            }
        })
        .ok_or_else(|| {
            let text = format!("expected at least 4 nodes, found {node_count}");
            Failure::say(FailureKind::Usage, text)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(nodes: Option<u16>, profile: Option<Profile>) -> DevArgs {
        DevArgs {
            verb: None,
            nodes,
            profile,
            capacity: None,
            listen: Vec::new(),
            epoch: None,
            in_process: false,
        }
    }

    #[test]
    fn the_profile_fits_the_nodes() {
        let folder = tempfile::tempdir().unwrap();
        let cases = [
            (None, None, 8, Profile::Dev8),
            (Some(0), None, 0, Profile::Dev8),
            (Some(4), None, 4, Profile::Dev4),
            (Some(7), None, 7, Profile::Dev4),
            (Some(30), None, 30, Profile::Compact),
            (Some(80), None, 80, Profile::Wide),
            (None, Some(Profile::Compact), 24, Profile::Compact),
            (None, Some(Profile::Dev4), 8, Profile::Dev4),
        ];
        for (index, (nodes, profile, node_count, expected)) in cases.into_iter().enumerate() {
            let path = folder.path().join(index.to_string());
            let plan = Plan::settle(&path, &args(nodes, profile)).unwrap();
            assert_eq!((plan.node_count, plan.profile), (node_count, expected));
        }
    }

    #[test]
    fn what_does_not_fit_is_usage_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dev.toml");
        let few = Plan::settle(&path, &args(Some(3), None)).unwrap_err();
        assert_eq!(few.kind(), FailureKind::Usage);
        let wide = Plan::settle(&path, &args(Some(8), Some(Profile::Standard))).unwrap_err();
        assert!(wide.to_string().contains("--nodes 40"), "{wide}");
        assert!(!path.exists());
    }

    #[test]
    fn a_kept_plan_grows_and_never_shrinks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dev.toml");
        let first = Plan::settle(&path, &args(Some(4), None)).unwrap();
        assert_eq!(Plan::settle(&path, &args(None, None)).unwrap(), first);
        let more = Plan::settle(&path, &args(Some(8), Some(Profile::Dev8))).unwrap();
        assert_eq!((more.node_count, more.profile), (8, Profile::Dev8));
        let fewer = Plan::settle(&path, &args(Some(4), None)).unwrap_err();
        assert_eq!(fewer.kind(), FailureKind::Usage);
    }

    #[test]
    fn a_kept_plan_listens_where_it_did_and_says_what_it_does_not_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dev.toml");
        let listen = vec!["/ip4/0.0.0.0/tcp/4600".to_owned()];
        let first = DevArgs {
            listen: listen.clone(),
            capacity: Some(ByteCount::new(1 << 30)),
            ..args(Some(4), None)
        };
        Plan::settle(&path, &first).unwrap();
        let again = Plan::settle(&path, &args(None, None)).unwrap();
        assert_eq!(again.listen, listen);
        assert_eq!(again.capacity, ByteCount::new(1 << 30));
        Plan::settle(&path, &first).unwrap();
        let larger = DevArgs {
            capacity: Some(ByteCount::new(2 << 30)),
            ..args(None, None)
        };
        let error = Plan::settle(&path, &larger).unwrap_err();
        assert_eq!(error.kind(), FailureKind::Usage);
        assert!(error.to_string().contains("1 GiB"), "{error}");
    }
}
