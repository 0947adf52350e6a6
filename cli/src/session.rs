//! A client's connection to the network for the length of one command.

use cairn_client::key::OwnerKeys;
use cairn_client::read::{OpenFile, Opened};
use cairn_client::{Client, ClientConfig, Owner, OwnerConfig};
use cairn_core::{Profile, SecretKey};
use cairn_ledger::RemoteLedger;
use cairn_net::{DhtMode, LedgerPeers, Network, RealConfig, RealNetwork};
use cairn_runtime::Runtime;
use cairn_runtime::real::RealRuntime;
use zeroize::Zeroizing;

use crate::app::App;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::files;

/// The ledger as this program sees it.
pub(crate) type NetLedger = RemoteLedger<LedgerPeers<RealNetwork>>;
/// The client as this program uses it.
pub(crate) type NetClient = Client<RealRuntime, RealNetwork, NetLedger>;
/// The owner as this program uses it.
pub(crate) type NetOwner = Owner<RealRuntime, RealNetwork, NetLedger>;

/// An open link as this program uses it.
pub(crate) type NetOpened = Opened<RealRuntime, RealNetwork, NetLedger>;
/// A file of an open link as this program uses it.
pub(crate) type NetFile = OpenFile<RealRuntime, RealNetwork, NetLedger>;

/// A client on the network, under a peer identity that ends with it.
#[derive(Debug)]
pub(crate) struct Session {
    /// The client.
    pub(crate) client: NetClient,
    /// The ledger, for what people look at.
    pub(crate) ledger: NetLedger,
    /// The code of uploads that ask for none.
    profile: Profile,
}

impl Session {
    /// Joins the network.
    ///
    /// # Errors
    ///
    /// Of kind usage when no network is known, network when it can't be joined.
    pub(crate) async fn open(app: &App) -> Result<Self, Failure> {
        let network = app.network()?;
        let mut secret = Zeroizing::new([0; 32]);
        app.runtime.fill(secret.as_mut_slice());
        let mut config = RealConfig::new(SecretKey::from_bytes(&secret), DhtMode::Client);
        config.bootstrap.clone_from(&network.bootstrap);
        let net = RealNetwork::start(config, app.runtime.clone())
            .await
            .or_fail(FailureKind::Network, "the network can't be joined")?;
        let ledger = network.ledger(net.clone());
        let config = ClientConfig::default();
        let client = Client::new(app.runtime.clone(), net, ledger.clone(), config);
        Ok(Self {
            client,
            ledger,
            profile: network.profile,
        })
    }

    /// The owner of `keys`, whose new groups are of `profile` or of the network's own.
    ///
    /// # Errors
    ///
    /// Of kind storage when the owner's folder can't be made.
    pub(crate) fn owner(
        &self,
        app: &App,
        keys: OwnerKeys,
        profile: Option<Profile>,
    ) -> Result<NetOwner, Failure> {
        let folder = app.home.owner();
        files::make_folder(&folder)?;
        let config = OwnerConfig::new(profile.unwrap_or(self.profile));
        Ok(Owner::new(self.client.clone(), keys, &folder, config))
    }

    /// Leaves the network.
    pub(crate) async fn close(self) {
        self.client.network().shutdown().await;
    }
}
