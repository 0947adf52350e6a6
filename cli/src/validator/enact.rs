//! `cairn validator enact`: has the ledger take the validators of a term that all of them have signed.

use std::time::Duration;

use cairn_core::Height;
use cairn_ledger::{Term, submit_body};
use cairn_runtime::Runtime;
use serde_json::json;

use crate::app::App;
use crate::args::ValidatorEnactArgs;
use crate::failure::{Failure, FailureKind};
use crate::session::Session;
use crate::term_file::TermFile;

/// How often the ledger is asked whether the term has begun.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long it may fail to answer meanwhile: at the border nobody does for some seconds.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How the ledger stands to a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It does not know of it.
    Unnamed,
    /// It is to begin behind the block of this height; `None` until an epoch names it.
    Named(Option<Height>),
    /// It has begun behind the block of this height.
    Begun(Height),
}

/// Enacts; returns when the change is final, or the term has begun.
pub(super) async fn run(app: &App, args: &ValidatorEnactArgs) -> Result<(), Failure> {
    let file = TermFile::read(&args.term)?;
    let network = app.network()?;
    if file.ledger != network.ledger {
        let text = format!(
            "the term is of ledger {}, and the network of ledger {}",
            file.ledger, network.ledger
        );
        return Err(Failure::say(FailureKind::Usage, text)
            .hint("give the network file of that ledger: --network FILE"));
    }
    let session = Session::open(app).await?;
    let done = enact(app, args, &session, &file).await;
    session.close().await;
    done
}

async fn enact(
    app: &App,
    args: &ValidatorEnactArgs,
    session: &Session,
    file: &TermFile,
) -> Result<(), Failure> {
    let mut stage = ask(session, file).await?;
    let mut transaction = None;
    if stage == Stage::Unnamed {
        let keys = app.owner()?;
        let done = submit_body(&session.ledger, keys.identity(), file.change()?).await?;
        transaction = Some(done.id.to_string());
        stage = ask(session, file).await?;
    }
    if args.wait && !matches!(stage, Stage::Begun(_)) {
        app.output
            .note(&format!("Waiting: {}.", said(file.number, stage)));
        stage = wait(app, session, file).await?;
    }
    let (border, has_begun) = match stage {
        Stage::Unnamed => (None, false),
        Stage::Named(border) => (border, false),
        Stage::Begun(border) => (Some(border), true),
    };
    let json = json!({
        "ledger": file.ledger.to_string(),
        "term": file.number,
        "validators": file.places.len(),
        "transaction": transaction,
        "border": border.map(Height::get),
        "begun": has_begun,
    });
    app.output.answer(&json, || said(file.number, stage))
}

/// How a term stands, for people.
fn said(number: u32, stage: Stage) -> String {
    match stage {
        Stage::Unnamed => format!("term {number} is not named yet"),
        Stage::Named(None) => {
            format!("term {number} is named; the next epoch says behind which block it begins")
        }
        Stage::Named(Some(border)) => format!("term {number} begins behind block {border}"),
        Stage::Begun(border) => format!("term {number} has begun behind block {border}"),
    }
}

/// Waits until the term has begun.
async fn wait(app: &App, session: &Session, file: &TermFile) -> Result<Stage, Failure> {
    let mut answered = app.runtime.monotonic();
    loop {
        app.runtime.sleep(ASK_INTERVAL).await;
        match ask(session, file).await {
            Ok(stage @ Stage::Begun(_)) => return Ok(stage),
            Ok(Stage::Unnamed | Stage::Named(_)) => answered = app.runtime.monotonic(),
            Err(failure) => {
                let silent = app.runtime.monotonic().saturating_sub(answered);
                if failure.kind() != FailureKind::Network || silent > SILENCE_MAX {
                    return Err(failure);
                }
            }
        }
    }
}

/// How the ledger stands to the term of a file.
async fn ask(session: &Session, file: &TermFile) -> Result<Stage, Failure> {
    let term = session.ledger.term().await?.ok_or_else(|| {
        let text = "a sequencer orders this ledger: it has no validators to change";
        Failure::say(FailureKind::NotSo, text)
    })?;
    stage(&term, file)
}

/// # Errors
///
/// Of kind not so when the term can't begin any more, or not yet.
fn stage(term: &Term, file: &TermFile) -> Result<Stage, Failure> {
    let (now, number) = (term.number, file.number);
    let not_so = |text: String| Failure::say(FailureKind::NotSo, text);
    if now == number && term.validators == file.validators {
        return Ok(Stage::Begun(term.base.height));
    }
    if now >= number {
        let text = format!(
            "term {number} is not of these validators, or over: the ledger is in term {now}"
        );
        return Err(not_so(text).hint("cairn validator change drafts the next"));
    }
    if now.checked_add(1) != Some(number) {
        let text = format!("the ledger is in term {now}: term {number} can't be the next");
        return Err(not_so(text).hint("enact the terms before it first"));
    }
    match &term.next {
        None => Ok(Stage::Unnamed),
        Some(next) if next.validators == file.validators => Ok(Stage::Named(next.border)),
        Some(_) => {
            let text = format!("other validators are named for term {number} already");
            Err(not_so(text).hint("cairn validator change drafts the next, when it has begun"))
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_core::{Digest, UnixMillis, ViewNumber};
    use cairn_ledger::{NextTerm, TermStart, Validators};

    use super::*;
    use crate::change_file::tests::change;
    use crate::genesis_file::validators_of;

    fn file(key: &str) -> TermFile {
        let draft = change(&[1], &[1, 2], &[1, 2]).unwrap();
        let identities = draft.places().iter().map(|it| it.identity);
        draft.term(validators_of(identities, key).unwrap())
    }

    fn term(number: u32, validators: &Validators, next: Option<NextTerm>) -> Term {
        Term {
            number,
            validators: validators.clone(),
            base: TermStart {
                height: Height::new(50),
                view: ViewNumber::ZERO,
                time: UnixMillis::new(0),
                tip: Digest::default(),
            },
            before: None,
            next,
        }
    }

    #[test]
    fn a_term_is_named_then_begins_and_is_over_in_the_end() {
        let (ours, other) = (file("01"), file("02"));
        let next = |border| {
            Some(NextTerm {
                validators: ours.validators.clone(),
                border,
            })
        };
        let border = Some(Height::new(90));
        let cases = [
            (term(0, &other.validators, None), Stage::Unnamed),
            (term(0, &other.validators, next(None)), Stage::Named(None)),
            (
                term(0, &other.validators, next(border)),
                Stage::Named(border),
            ),
            (
                term(1, &ours.validators, None),
                Stage::Begun(Height::new(50)),
            ),
        ];
        for (term, expected) in cases {
            assert_eq!(stage(&term, &ours).unwrap(), expected);
        }
    }

    #[test]
    fn a_term_that_can_not_begin_says_why() {
        let (ours, other) = (file("01"), file("02"));
        let named = NextTerm {
            validators: other.validators.clone(),
            border: None,
        };
        let later = TermFile {
            number: 3,
            ..file("01")
        };
        let cases = [
            (term(1, &other.validators, None), &ours, "not of these"),
            (term(2, &ours.validators, None), &ours, "in term 2"),
            (
                term(0, &other.validators, Some(named)),
                &ours,
                "other validators",
            ),
            (
                term(0, &other.validators, None),
                &later,
                "can't be the next",
            ),
        ];
        for (term, file, expected) in cases {
            let failure = stage(&term, file).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::NotSo);
            let said = failure.to_string();
            assert!(said.contains(expected), "{said}");
        }
    }
}
