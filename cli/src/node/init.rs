//! `cairn node init`: makes a node's folder, key and config file.

use cairn_core::{NodeId, SecretKey};
use cairn_ledger::operator_consent;
use cairn_runtime::Runtime;
use data_encoding::HEXLOWER;
use serde::Serialize;
use zeroize::Zeroizing;

use super::{Folder, Settings, settings};
use crate::app::App;
use crate::args::{NodeInitArgs, NodeKeyArgs};
use crate::failure::{Failure, FailureKind};
use crate::files::{self, Access};

/// What is printed.
#[derive(Debug, Serialize)]
struct Made {
    node: String,
    folder: String,
    config_file: String,
}

/// Makes the folder.
pub(super) fn run(app: &App, args: &NodeInitArgs) -> Result<(), Failure> {
    let folder = Folder::of(app, &args.place)?;
    let shown = folder.path().display().to_string();
    if folder.config_file().exists() {
        let text = format!("there is a node in {shown} already");
        return Err(
            Failure::say(FailureKind::Usage, text).hint(format!("cairn node run --folder {shown}"))
        );
    }
    // Asked for before anything is made.
    let consenting = if args.operate {
        Some((app.network()?.ledger, app.owner()?))
    } else {
        None
    };
    let node = make_folder(app, &folder, &args.keys)?;
    if let Some((ledger, owner)) = consenting {
        let mut settings = Settings::read(&folder, &NodeKeyArgs::default())?;
        let consent = operator_consent(ledger, owner.identity(), node);
        settings.operator_account.value = owner.account().to_string();
        settings.operator_consent.value = HEXLOWER.encode(consent.as_bytes());
        files::write(
            &folder.config_file(),
            Access::Shared,
            settings.to_file().as_bytes(),
        )?;
    }
    let made = Made {
        node: node.to_string(),
        folder: shown,
        config_file: folder.config_file().display().to_string(),
    };
    app.output
        .answer(&made, || format!("node {}\n", made.node))?;
    app.output
        .note(&format!("The config file is {}.", made.config_file));
    Ok(())
}

/// Makes what a node's folder lacks of key and config file, and says which node it is.
///
/// # Errors
///
/// Of kind storage when the folder can't be written.
pub(crate) fn make_folder(
    app: &App,
    folder: &Folder,
    keys: &NodeKeyArgs,
) -> Result<NodeId, Failure> {
    files::make_folder(folder.path())?;
    if !folder.config_file().exists() {
        let settings = Settings::parse(&settings::nowhere(), "", keys)?;
        files::create(
            &folder.config_file(),
            Access::Shared,
            settings.to_file().as_bytes(),
        )?;
    }
    let key = node_key(app, folder)?;
    Ok(NodeId::new(key.public()))
}

/// The node's secret key, made when there is none.
///
/// # Errors
///
/// Of kind storage, or of kind usage when the file holds no key.
pub(crate) fn node_key(app: &App, folder: &Folder) -> Result<SecretKey, Failure> {
    let path = folder.key_file();
    if !path.exists() {
        let mut secret = Zeroizing::new([0; 32]);
        app.runtime.fill(secret.as_mut_slice());
        let text = Zeroizing::new(format!("{}\n", HEXLOWER.encode(secret.as_slice())));
        files::create(&path, Access::Private, text.as_bytes())?;
    }
    let text = Zeroizing::new(files::read(&path)?.unwrap_or_default());
    let secret = HEXLOWER
        .decode(text.trim().as_bytes())
        .ok()
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .map(Zeroizing::new)
        .ok_or_else(|| {
            let text = format!("{} holds no node key", path.display());
            Failure::say(FailureKind::Usage, text)
        })?;
    Ok(SecretKey::from_bytes(&secret))
}
