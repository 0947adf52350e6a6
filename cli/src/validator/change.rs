//! `cairn validator change`: writes the draft of a change of validators.

use std::net::SocketAddr;

use cairn_core::PublicKey;
use serde_json::{Value, json};

use super::folder;
use super::known::{FirstTerm, KnownTerm, KnownTerms};
use super::term_files::TermFiles;
use crate::app::App;
use crate::args::ValidatorChangeArgs;
use crate::change_file::{ChangeFile, Succession};
use crate::failure::{Failure, FailureKind};
use crate::genesis_file::{GenesisFile, ValidatorPlace, identity};
use crate::node::Folder;
use crate::{genesis, node};

/// What is to change.
#[derive(Clone, Debug, Default)]
struct Wanted {
    add: Vec<ValidatorPlace>,
    remove: Vec<PublicKey>,
    absent: Vec<PublicKey>,
    meet: Vec<(PublicKey, SocketAddr)>,
}

/// Writes the draft.
pub(super) fn run(app: &App, args: &ValidatorChangeArgs) -> Result<(), Failure> {
    let folder = folder(app, &args.place)?;
    check_folder(&folder)?;
    let files = TermFiles::of(&folder);
    let own = node::node_key(app, &folder)?.public();
    let known = KnownTerms::read(&files, own, &FirstTerm::of(&folder))?;
    let number = args.term.unwrap_or(known.newest().saturating_add(1));
    let base = number.checked_sub(1).and_then(|before| known.get(before));
    let base = base.ok_or_else(|| {
        let shown = folder.path().display();
        let text = format!(
            "{shown} has no term before term {number}: its newest is {}",
            known.newest()
        );
        Failure::say(FailureKind::Usage, text)
    })?;
    let draft = draft(&known.genesis, (number, base), &wanted(args)?)?;
    check_reachable(&draft)?;
    draft.create(&args.out)?;
    report(app, args, &draft)
}

/// That the folder is a validator's: one that is not would get a key here.
fn check_folder(folder: &Folder) -> Result<(), Failure> {
    if folder.key_file().exists() {
        return Ok(());
    }
    let text = format!(
        "{} is no validator's folder: it has no node.key",
        folder.path().display()
    );
    let hint = "give --folder DIR of a validator; cairn validator init makes one";
    Err(Failure::say(FailureKind::Usage, text).hint(hint))
}

/// That who comes can ask one that stays for the state with which the term begins. Without it the ledger
/// would stand still at the border.
fn check_reachable(draft: &ChangeFile) -> Result<(), Failure> {
    let joins = draft.joins();
    let mut stay = draft
        .places()
        .iter()
        .filter(|place| !joins.contains(&place.identity));
    if joins.is_empty() || stay.any(|place| place.peer.is_some()) {
        return Ok(());
    }
    let text = "of no validator that stays is it known where it answers others, so that those who come \
                could ask nobody for the ledger's state";
    let hint = "give --add IDENTITY@IP:PORT,ADDRESS of one that stays, with the address (peer) that its \
                `cairn validator run --listen` has";
    Err(Failure::say(FailureKind::Usage, text.to_owned()).hint(hint))
}

fn report(app: &App, args: &ValidatorChangeArgs, draft: &ChangeFile) -> Result<(), Failure> {
    let shown = args.out.display().to_string();
    let name = draft.digest()?.to_string();
    let names = |keys: Vec<PublicKey>| -> Vec<String> {
        let names = keys.iter();
        names.map(PublicKey::to_string).collect()
    };
    let meet = draft.participants().iter();
    let meet = meet.map(|(key, address)| json!({ "validator": key.to_string(), "at": address }));
    let drafted = json!({
        "draft": name,
        "draft_file": shown,
        "ledger": draft.genesis().genesis.ledger_id().to_string(),
        "term": draft.number(),
        "validators": draft.places().len(),
        "joins": names(draft.joins()),
        "leaves": names(draft.leaves()),
        "meet": meet.collect::<Vec<Value>>(),
    });
    app.output.answer(&drafted, || format!("draft {name}\n"))?;
    for (key, address) in draft.participants() {
        app.output
            .note(&format!("Takes part, at {address}: {key}."));
    }
    let number = draft.number();
    app.output.note(&format!(
        "{shown} is for all of them. When all have it, each runs `cairn validator agree {shown}` at about \
         the same time, beside the validator that runs. Then anyone runs `cairn validator enact \
         term-{number}.toml`, with that file of one of their folders."
    ));
    Ok(())
}

/// What the arguments say.
fn wanted(args: &ValidatorChangeArgs) -> Result<Wanted, Failure> {
    let keys = |texts: &[String]| -> Result<Vec<PublicKey>, Failure> {
        texts.iter().map(|text| identity(text)).collect()
    };
    let add = args.add.iter().map(|text| genesis::place(text));
    let meet = args.meet.iter().map(|text| meeting(text));
    Ok(Wanted {
        add: add.collect::<Result<_, Failure>>()?,
        remove: keys(&args.remove)?,
        absent: keys(&args.absent)?,
        meet: meet.collect::<Result<_, Failure>>()?,
    })
}

/// `IDENTITY@IP:PORT`.
fn meeting(text: &str) -> Result<(PublicKey, SocketAddr), Failure> {
    let wrong = || {
        let text = format!("{text:?}: expected IDENTITY@IP:PORT");
        Failure::say(FailureKind::Usage, text)
    };
    let (key, address) = text.split_once('@').ok_or_else(wrong)?;
    Ok((identity(key)?, address.parse().map_err(|_| wrong())?))
}

/// The draft of the term `number`, from who orders the ledger before it.
fn draft(
    genesis: &GenesisFile,
    (number, base): (u32, &KnownTerm),
    wanted: &Wanted,
) -> Result<ChangeFile, Failure> {
    let now = &base.validators;
    let gone = wanted.remove.iter().chain(&wanted.absent);
    if let Some(stranger) = gone.clone().find(|it| !now.contains(it)) {
        let before = number.saturating_sub(1);
        let text = format!("{stranger} is no validator of term {before}");
        return Err(Failure::say(FailureKind::Usage, text));
    }
    let is_gone = |identity: &PublicKey| gone.clone().any(|it| it == identity);
    if let Some(both) = wanted.add.iter().find(|it| is_gone(&it.identity)) {
        let text = format!("{} is to come and to leave", both.identity);
        return Err(Failure::say(FailureKind::Usage, text)
            .hint("--add alone gives one that is there already other addresses"));
    }
    let is_added = |identity: &PublicKey| wanted.add.iter().any(|it| it.identity == *identity);
    let unsigned = |place: &ValidatorPlace| ValidatorPlace {
        signature: None,
        ..place.clone()
    };
    let stay = base.places.iter();
    let stay = stay.filter(|it| !is_gone(&it.identity) && !is_added(&it.identity));
    let places: Vec<ValidatorPlace> = stay.chain(&wanted.add).map(unsigned).collect();
    let leave = base.places.iter().filter(|it| {
        let is_here = !wanted.absent.contains(&it.identity);
        is_here && wanted.remove.contains(&it.identity)
    });
    let participants = places.iter().chain(leave);
    let participants = participants.map(|place| meeting_of(place, wanted));
    let participants = participants.collect::<Result<Vec<_>, Failure>>()?;
    let takes_part = |identity: &PublicKey| participants.iter().any(|(it, _)| it == identity);
    if let Some((stranger, _)) = wanted.meet.iter().find(|(it, _)| !takes_part(it)) {
        let text = format!("{stranger} is to be met and does not take part");
        return Err(Failure::say(FailureKind::Usage, text));
    }
    let succession = Succession {
        genesis: genesis.clone(),
        number,
        now: now.clone(),
    };
    ChangeFile::new(succession, places, participants)
}

/// Where a participant is met: where it is said to be, or at the port behind its own.
fn meeting_of(place: &ValidatorPlace, wanted: &Wanted) -> Result<(PublicKey, SocketAddr), Failure> {
    let identity = place.identity;
    let mut meet = wanted.meet.iter();
    if let Some(said) = meet.find(|(it, _)| *it == identity) {
        return Ok(*said);
    }
    let mut address = place.address;
    let port = address.port().checked_add(1).ok_or_else(|| {
        let text = format!("{address} has the last port: where is {identity} to be met?");
        Failure::say(FailureKind::Usage, text).hint("give --meet IDENTITY@IP:PORT")
    })?;
    address.set_port(port);
    Ok((identity, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change_file::tests::{genesis, identity_of, place};

    fn base() -> KnownTerm {
        let genesis = genesis(&[1, 2, 3, 4]);
        KnownTerm {
            validators: genesis.genesis.validators.clone().unwrap(),
            places: genesis.places,
            part: None,
        }
    }

    fn drafted(wanted: &Wanted) -> Result<ChangeFile, Failure> {
        draft(&genesis(&[1, 2, 3, 4]), (1, &base()), wanted)
    }

    fn keys(numbers: &[u8]) -> Vec<PublicKey> {
        let mut keys: Vec<PublicKey> = numbers.iter().map(|it| identity_of(*it)).collect();
        keys.sort();
        keys
    }

    fn next(draft: &ChangeFile) -> Vec<PublicKey> {
        let mut next: Vec<PublicKey> = draft.places().iter().map(|it| it.identity).collect();
        next.sort();
        next
    }

    #[test]
    fn who_comes_and_who_leaves_take_part_and_are_met_behind_their_ports() {
        let wanted = Wanted {
            add: vec![place(5)],
            remove: keys(&[1]),
            ..Wanted::default()
        };
        let draft = drafted(&wanted).unwrap();
        assert_eq!(draft.number(), 1);
        assert_eq!(next(&draft), keys(&[2, 3, 4, 5]));
        assert_eq!(draft.identities(), keys(&[1, 2, 3, 4, 5]));
        for (_, address) in draft.participants() {
            assert_eq!(address.port(), 4711);
        }
    }

    #[test]
    fn who_is_absent_leaves_without_taking_part() {
        for remove in [keys(&[]), keys(&[1])] {
            let wanted = Wanted {
                add: vec![place(5)],
                remove,
                absent: keys(&[1]),
                ..Wanted::default()
            };
            let draft = drafted(&wanted).unwrap();
            assert_eq!(next(&draft), keys(&[2, 3, 4, 5]));
            assert_eq!(draft.identities(), keys(&[2, 3, 4, 5]));
        }
        let wanted = Wanted {
            absent: keys(&[1, 2]),
            ..Wanted::default()
        };
        let said = drafted(&wanted).unwrap_err().to_string();
        assert!(said.contains("expected at least 3"), "{said}");
    }

    #[test]
    fn who_is_there_already_may_move_and_all_may_go_on_under_other_parts() {
        let moved = ValidatorPlace {
            address: "127.0.0.1:5000".parse().unwrap(),
            ..place(2)
        };
        let met: SocketAddr = "127.0.0.1:6000".parse().unwrap();
        let wanted = Wanted {
            add: vec![moved.clone()],
            meet: vec![(identity_of(3), met)],
            ..Wanted::default()
        };
        let draft = drafted(&wanted).unwrap();
        assert_eq!(next(&draft), keys(&[1, 2, 3, 4]));
        assert!(draft.places().contains(&moved));
        assert!(draft.participants().contains(&(identity_of(3), met)));
        let draft = drafted(&Wanted::default()).unwrap();
        assert_eq!(next(&draft), keys(&[1, 2, 3, 4]));
    }

    #[test]
    fn who_comes_must_be_able_to_ask_one_that_stays() {
        let unreachable = |it: u8| ValidatorPlace {
            peer: None,
            ..place(it)
        };
        let joining = Wanted {
            add: vec![place(5)],
            ..Wanted::default()
        };
        let mut base = base();
        base.places = (1..=4).map(unreachable).collect();
        let change = |wanted: &Wanted| draft(&genesis(&[1, 2, 3, 4]), (1, &base), wanted).unwrap();
        let refused = check_reachable(&change(&joining)).unwrap_err();
        assert_eq!(refused.kind(), FailureKind::Usage);
        assert!(refused.to_string().contains("ask nobody"), "{refused}");
        let told = Wanted {
            add: vec![place(5), place(1)],
            ..Wanted::default()
        };
        check_reachable(&change(&told)).unwrap();
        // Who stays has the state.
        check_reachable(&change(&Wanted::default())).unwrap();
    }

    #[test]
    fn a_folder_that_is_no_validators_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Folder::at(folder.path().to_owned());
        let refused = check_folder(&folder).unwrap_err();
        assert_eq!(refused.kind(), FailureKind::Usage);
        assert!(refused.to_string().contains("no validator's folder"));
        assert!(!folder.key_file().exists());
        std::fs::write(folder.key_file(), "a key").unwrap();
        check_folder(&folder).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let at_the_last_port = ValidatorPlace {
            address: "127.0.0.1:65535".parse().unwrap(),
            ..place(5)
        };
        let met: SocketAddr = "127.0.0.1:6000".parse().unwrap();
        let cases = [
            (
                Wanted {
                    remove: keys(&[6]),
                    ..Wanted::default()
                },
                "is no validator of term 0",
            ),
            (
                Wanted {
                    add: vec![place(2)],
                    remove: keys(&[2]),
                    ..Wanted::default()
                },
                "to come and to leave",
            ),
            (
                Wanted {
                    absent: keys(&[1]),
                    meet: vec![(identity_of(1), met)],
                    ..Wanted::default()
                },
                "does not take part",
            ),
            (
                Wanted {
                    add: vec![at_the_last_port],
                    ..Wanted::default()
                },
                "--meet",
            ),
        ];
        for (wanted, expected) in cases {
            let failure = drafted(&wanted).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Usage);
            let said = failure.to_string();
            assert!(said.contains(expected), "{said}");
        }
        assert!(meeting("x@127.0.0.1:1").is_err());
        assert!(meeting(&identity_of(1).to_string()).is_err());
        let text = format!("{}@127.0.0.1:6000", identity_of(1));
        assert_eq!(meeting(&text).unwrap(), (identity_of(1), met));
    }
}
