//! `cairn init`: makes the owner's key file, from new words or from words written down before.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use bip39::{Language, Mnemonic};
use cairn_client::key::OwnerKeys;
use cairn_runtime::Runtime;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::app::App;
use crate::args::InitArgs;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::key_file::{self, Protection, SealEntropy, Seed};
use crate::output::complain;
use crate::{dev, files};

/// Words in a seed of 32 bytes.
const WORD_COUNT: usize = 24;
/// Words in a line as they are shown.
const WORDS_PER_LINE: usize = 6;
/// Longest input of words: 24 words of 8 letters and whatever separates them.
const WORDS_BYTES_MAX: u64 = 4096;

/// What is printed.
#[derive(Debug, Serialize)]
struct Made {
    account: String,
    key_file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<Vec<&'static str>>,
}

/// Makes the key file.
pub(crate) async fn run(app: &App, args: &InitArgs) -> Result<(), Failure> {
    let path = app.home.key_file();
    if path.exists() {
        return Err(already(&path));
    }
    let words = if args.restore {
        read_words()?
    } else {
        new_words(app)?
    };
    let seed = seed_of(&words)?;
    let protection = protection(app, args)?;
    let mut entropy = SealEntropy {
        salt: [0; 16],
        nonce: [0; 24],
    };
    app.runtime.fill(&mut entropy.salt);
    app.runtime.fill(&mut entropy.nonce);
    files::make_folder(app.home.folder())?;
    if !key_file::create(&path, &seed, &protection, &entropy)? {
        return Err(already(&path));
    }
    report(app, args, &path, &seed, &words)?;
    if dev::welcome(app, OwnerKeys::from_seed(&seed).account()).await {
        app.output
            .note("The development network has given the account credits to spend.");
    }
    Ok(())
}

fn already(path: &Path) -> Failure {
    let text = format!("there is a key file already: {}", path.display());
    Failure::say(FailureKind::Usage, text)
        .hint("give another folder with --home, or move the file away if its words are safe")
}

fn report(
    app: &App,
    args: &InitArgs,
    path: &Path,
    seed: &Seed,
    words: &Mnemonic,
) -> Result<(), Failure> {
    let shown: Option<Vec<&'static str>> = (!args.restore).then(|| words.words().collect());
    let made = Made {
        account: OwnerKeys::from_seed(seed).account().to_string(),
        key_file: path.display().to_string(),
        words: shown,
    };
    if made.words.is_some() {
        app.output.note(
            "Write these 24 words down on paper. They are shown this once, they alone bring the \
             files back when this machine is lost, and whoever has them has the files.",
        );
    }
    app.output.answer(&made, || {
        let mut text = String::new();
        for line in made
            .words
            .iter()
            .flat_map(|words| words.chunks(WORDS_PER_LINE))
        {
            text.push_str(&line.join(" "));
            text.push('\n');
        }
        text + &format!("account {}\n", made.account)
    })?;
    app.output
        .note(&format!("The key file is {}.", made.key_file));
    Ok(())
}

fn new_words(app: &App) -> Result<Mnemonic, Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    app.runtime.fill(seed.as_mut_slice());
    Mnemonic::from_entropy(seed.as_slice()).or_fail(FailureKind::Usage, "no words from this seed")
}

/// The words on standard input, up to its end.
fn read_words() -> Result<Mnemonic, Failure> {
    if io::stdin().is_terminal() {
        complain("Type the 24 words, then Enter.");
    }
    let mut text = Zeroizing::new(String::new());
    let mut input = io::Read::take(io::stdin().lock(), WORDS_BYTES_MAX);
    while text.split_whitespace().count() < WORD_COUNT {
        let count = input
            .read_line(&mut text)
            .or_fail(FailureKind::Usage, "the words can't be read")?;
        if count == 0 {
            break;
        }
    }
    parse_words(&text)
}

fn parse_words(text: &str) -> Result<Mnemonic, Failure> {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let found = words.len();
    if found != WORD_COUNT {
        let text = format!("expected {WORD_COUNT} words, found {found}");
        return Err(Failure::say(FailureKind::Usage, text));
    }
    let joined = Zeroizing::new(words.join(" "));
    Mnemonic::parse_in_normalized(Language::English, &joined).map_err(|error| {
        let text = match error {
            bip39::Error::UnknownWord(index) => {
                format!(
                    "word {} is not in the list of words",
                    index.saturating_add(1)
                )
            }
            _ => "the words do not fit together: one is wrong, or their order is".to_owned(),
        };
        Failure::say(FailureKind::Usage, text).hint("compare them with what was written down")
    })
}

fn seed_of(words: &Mnemonic) -> Result<Seed, Failure> {
    let entropy = Zeroizing::new(words.to_entropy());
    let seed = <[u8; 32]>::try_from(entropy.as_slice())
        .or_fail(FailureKind::Usage, "the words are not those of 32 bytes")?;
    Ok(Zeroizing::new(seed))
}

fn protection(app: &App, args: &InitArgs) -> Result<Protection, Failure> {
    if args.no_passphrase {
        return Ok(Protection::Plain);
    }
    app.new_passphrase().map(Protection::Passphrase)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vector of BIP-39 for 32 zero bytes.
    const ZEROS: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon \
        abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
        abandon abandon abandon art";

    #[test]
    fn words_are_those_of_bip39_in_any_case_and_spacing() {
        let words = parse_words(ZEROS).unwrap();
        assert_eq!(*seed_of(&words).unwrap(), [0; 32]);
        let shouted = ZEROS.to_uppercase().replace(' ', "\n  ");
        assert_eq!(parse_words(&shouted).unwrap(), words);
    }

    #[test]
    fn wrong_words_are_named_by_their_place() {
        let twenty_three = ZEROS.trim_end_matches(" art");
        let cases = [
            (twenty_three.to_owned(), "expected 24 words, found 23"),
            (format!("{twenty_three} arrt"), "word 24 is not in the list"),
            (format!("{twenty_three} abandon"), "do not fit together"),
        ];
        for (text, expected) in cases {
            let error = parse_words(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
