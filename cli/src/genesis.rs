//! `cairn genesis`: deals the key of new validators and writes where their ledger begins.

use cairn_consensus::deal;
use cairn_core::{AccountId, Amount, PublicKey, UnixMillis};
use cairn_runtime::Runtime;
use data_encoding::HEXLOWER;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::app::App;
use crate::args::GenesisArgs;
use crate::dev::millis;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::files::{self, Access};
use crate::genesis_file::{Beginning, GenesisFile, ValidatorPlace, identity};

/// What is printed.
#[derive(Debug, Serialize)]
struct Made {
    ledger: String,
    genesis_file: String,
    network_file: String,
    part_files: Vec<String>,
}

/// Makes the genesis.
pub(crate) fn run(app: &App, args: &GenesisArgs) -> Result<(), Failure> {
    let places = args.validator.iter().map(|text| place(text));
    let places = places.collect::<Result<Vec<_>, _>>()?;
    let endowed = args.endow.iter().map(|text| balance(text));
    let beginning = Beginning {
        time: UnixMillis::from_unix(app.runtime.now()),
        epoch_millis: args.epoch.map_or(0, millis),
        endowed: endowed.collect::<Result<Vec<_>, _>>()?,
    };
    let identities: Vec<PublicKey> = places.iter().map(|place| place.identity).collect();
    let (validators, parts) =
        deal(&app.runtime, &identities).or_fail(FailureKind::Usage, "the validators")?;
    let file = GenesisFile::new(beginning, validators, places, args.profile)?;
    files::make_folder(&args.out)?;
    let path = args.out.join("genesis.toml");
    file.create(&path)?;
    let network_path = args.out.join("network.toml");
    file.network()?.write(&network_path)?;
    let mut part_files = Vec::new();
    for (key, part) in parts {
        let path = args.out.join(format!("{key}.part"));
        let text = Zeroizing::new(HEXLOWER.encode(part.bytes()));
        files::write(&path, Access::Private, text.as_bytes())?;
        part_files.push(path.display().to_string());
    }
    let made = Made {
        ledger: file.genesis.ledger_id().to_string(),
        genesis_file: path.display().to_string(),
        network_file: network_path.display().to_string(),
        part_files,
    };
    app.output
        .answer(&made, || format!("ledger {}\n", made.ledger))?;
    app.output.note(&format!(
        "{} is for every validator, {} for every client and node. Each .part file is for the \
         validator in its name alone: hand it over and delete it here. This command saw the whole \
         key: whoever keeps what it wrote, or more than two thirds of the parts, can forge this \
         ledger and foretell its seeds.",
        made.genesis_file, made.network_file
    ));
    Ok(())
}

/// `IDENTITY@IP:PORT`, or `IDENTITY@IP:PORT,MULTIADDRESS`.
fn place(text: &str) -> Result<ValidatorPlace, Failure> {
    let wrong = || {
        let text = format!("{text:?}: expected IDENTITY@IP:PORT or IDENTITY@IP:PORT,MULTIADDRESS");
        Failure::say(FailureKind::Usage, text)
    };
    let (key, addresses) = text.split_once('@').ok_or_else(wrong)?;
    let (address, peer) = match addresses.split_once(',') {
        Some((address, peer)) => (address, Some(peer.to_owned())),
        None => (addresses, None),
    };
    Ok(ValidatorPlace {
        identity: identity(key)?,
        address: address.parse().map_err(|_| wrong())?,
        peer,
    })
}

/// `ACCOUNT=MICROCREDITS`.
fn balance(text: &str) -> Result<(AccountId, Amount), Failure> {
    let wrong = || {
        let text = format!("{text:?}: expected ACCOUNT=MICROCREDITS");
        Failure::say(FailureKind::Usage, text)
    };
    let (account, micro) = text.split_once('=').ok_or_else(wrong)?;
    let micro = micro.parse().map_err(|_| wrong())?;
    Ok((
        AccountId::new(identity(account)?),
        Amount::from_micro(micro),
    ))
}
