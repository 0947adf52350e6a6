//! `cairn notarise`: has the ledger record that files are there, as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use cairn_core::{Digest, SecretKey};
use cairn_ledger::{
    DigestSet, Evidence, Ledger, Notarisation, Question, RegistryTx, Seen, TxBody, submit_body,
};
use serde_json::{Value, json};

use crate::app::App;
use crate::args::NotariseArgs;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::output::count;
use crate::receipt::{About, Receipt};
use crate::session::Session;

/// Bytes of a file that are read at once.
const READ_BYTES: usize = 1 << 20;
/// What a receipt's name ends with.
const ENDING: &str = ".notarised.json";

/// Records all files by one digest and writes each one's receipt beside it.
pub(crate) async fn run(app: &App, args: &NotariseArgs) -> Result<(), Failure> {
    let mut digests = BTreeMap::new();
    for file in &args.files {
        let file_digest = digest_of(file)?;
        digests.insert(file.clone(), file_digest);
    }
    let kept_before = receipts_of(&digests)?;
    let set: DigestSet = digests.values().copied().collect();
    let root = set.root();
    let keys = app.owner()?;
    let session = Session::open(app).await?;
    let recorded = record(&session, keys.identity(), root).await;
    let ledger = session.ledger.id();
    session.close().await;
    let (evidence, kept) = recorded?;
    let mut receipts: Vec<PathBuf> = Vec::new();
    for (file, digest) in &digests {
        let path = receipt_path(file);
        if kept_before.contains(&path) {
            // It may be of an earlier time, which the ledger does not remember for ever.
            receipts.push(path);
            continue;
        }
        let receipt = Receipt {
            ledger,
            about: About::Digest {
                digests: set.part(*digest),
                evidence: Box::new(evidence.clone()),
            },
        };
        receipt.write(&path)?;
        receipts.push(path);
    }
    let shown: Vec<Value> = receipts
        .iter()
        .map(|path| path.display().to_string().into())
        .collect();
    let json = json!({
        "root": root.to_string(),
        "height": kept.height.get(),
        "time_ms": kept.time.get(),
        "receipts": shown,
    });
    app.output.answer(&json, || {
        let mut text = format!(
            "recorded {} in block {}, {}\n",
            count(digests.len(), "file", "files"),
            kept.height,
            kept.time
        );
        for path in &receipts {
            text.push_str(&format!("  {}\n", path.display()));
        }
        text
    })
}

/// Where a file's receipt is.
fn receipt_path(file: &Path) -> PathBuf {
    let mut name = file.to_owned().into_os_string();
    name.push(ENDING);
    PathBuf::from(name)
}

/// The receipts that are there already and are of the files as they are.
///
/// # Errors
///
/// Of kind usage when there is one of something else: nothing else shows what that shows.
fn receipts_of(digests: &BTreeMap<PathBuf, Digest>) -> Result<BTreeSet<PathBuf>, Failure> {
    let mut kept = BTreeSet::new();
    for (file, digest) in digests {
        let path = receipt_path(file);
        if !path.exists() {
            continue;
        }
        let is_of = |digests: &DigestSet| digests.contains(*digest) == Ok(true);
        match Receipt::read(&path)?.about {
            About::Digest { digests, .. } if is_of(&digests) => {
                kept.insert(path);
            }
            About::Digest { .. } | About::Groups(_) => {
                let text = format!(
                    "{} is there already, and not of {} as it is",
                    path.display(),
                    file.display()
                );
                return Err(
                    Failure::say(FailureKind::Usage, text).hint("move the receipt elsewhere")
                );
            }
        }
    }
    Ok(kept)
}

/// Has a digest recorded, unless the ledger has it already.
async fn record(
    session: &Session,
    key: &SecretKey,
    root: Digest,
) -> Result<(Evidence, Notarisation), Failure> {
    let question = Question::Notarisation(root);
    if let (evidence, Seen::Notarisation(Some(kept))) = session.ledger.evidence(question).await? {
        return Ok((evidence, kept));
    }
    let body = TxBody::Registry(RegistryTx::Notarise { digest: root });
    let done = submit_body(&session.ledger, key, body).await;
    done.or_fail(FailureKind::Network, "the ledger has not recorded it")?;
    match session.ledger.evidence(question).await? {
        (evidence, Seen::Notarisation(Some(kept))) => Ok((evidence, kept)),
        _ => {
            let text = "the ledger has made room for newer ones already";
            Err(Failure::say(FailureKind::NotSo, text))
        }
    }
}

/// Digest of a file's bytes.
///
/// # Errors
///
/// Of kind usage when there is no such file, storage when it can't be read.
pub(crate) fn digest_of(path: &Path) -> Result<Digest, Failure> {
    let shown = path.display();
    let mut file = std::fs::File::open(path).map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound {
            FailureKind::Usage
        } else {
            FailureKind::Storage
        };
        Failure::new(kind, error).while_doing(format!("{shown} can't be read"))
    })?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = file
            .read(&mut buffer)
            .or_fail(FailureKind::Storage, format!("{shown} can't be read"))?;
        if read == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
}
