//! `cairn genesis`: writes the draft of a ledger, whose validators then make their key together
//! (`cairn validator agree`); or deals the key as a trusted dealer, for tests and for one operator of
//! all validators.

use cairn_consensus::deal;
use cairn_core::{AccountId, Amount, PublicKey, UnixMillis};
use cairn_runtime::Runtime;
use data_encoding::HEXLOWER;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::app::App;
use crate::args::GenesisArgs;
use crate::dev::millis;
use crate::draft_file::DraftFile;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::files::{self, Access};
use crate::genesis_file::{Beginning, GenesisFile, ValidatorPlace, identity};

/// What is printed of a draft.
#[derive(Debug, Serialize)]
struct Drafted {
    draft: String,
    draft_file: String,
}

/// What is printed of a dealt genesis.
#[derive(Debug, Serialize)]
struct Made {
    ledger: String,
    genesis_file: String,
    network_file: String,
    part_files: Vec<String>,
}

/// Makes the draft, or deals.
pub(crate) fn run(app: &App, args: &GenesisArgs) -> Result<(), Failure> {
    let places = args.validator.iter().map(|text| place(text));
    let places = places.collect::<Result<Vec<_>, _>>()?;
    let endowed = args.endow.iter().map(|text| balance(text));
    let beginning = Beginning {
        time: UnixMillis::from_unix(app.runtime.now()),
        epoch_millis: args.epoch.map_or(0, millis),
        endowed: endowed.collect::<Result<Vec<_>, _>>()?,
    };
    if args.deal {
        return deal_all(app, args, beginning, places);
    }
    let draft = DraftFile::new(beginning, places, args.profile)?;
    files::make_folder(&args.out)?;
    let path = args.out.join("draft.toml");
    draft.create(&path)?;
    let drafted = Drafted {
        draft: draft.digest()?.to_string(),
        draft_file: path.display().to_string(),
    };
    app.output
        .answer(&drafted, || format!("draft {}\n", drafted.draft))?;
    app.output.note(&format!(
        "{0} is for every validator. When all have it, each runs `cairn validator agree {0}` at about \
         the same time.",
        drafted.draft_file
    ));
    Ok(())
}

/// Makes the key of all validators here.
fn deal_all(
    app: &App,
    args: &GenesisArgs,
    beginning: Beginning,
    places: Vec<ValidatorPlace>,
) -> Result<(), Failure> {
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
///
/// # Errors
///
/// Of kind usage when it is none.
pub(crate) fn place(text: &str) -> Result<ValidatorPlace, Failure> {
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
        signature: None,
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
