//! The owner's key file: the seed of the key tree, under a passphrase or plainly without one.
//!
//! ```text
//! passphrase -argon2id(salt, memory, passes)-> 32 bytes -XChaCha20-Poly1305(nonce)-> sealed seed
//! ```
//!
//! The account and the parameters are authenticated with the seed, so a file whose parts come
//! from different files does not open. The file is TOML, mode 0600, written in one step.

use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use cairn_client::key::OwnerKeys;
use cairn_core::AccountId;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::failure::{Failure, FailureKind, OrFail};
use crate::files::{self, Access};

/// The format's name and version.
const FORMAT: &str = "cairn key 1";
/// Memory of the passphrase hash: 64 MiB, the second choice of RFC 9106.
const MEMORY_KIB: u32 = 64 << 10;
/// Passes over it: 3, of the same.
const PASSES: u32 = 3;
/// Most memory that a file may ask for, so that a forged one can't exhaust the machine.
const MEMORY_KIB_MAX: u32 = 1 << 20;
/// Most passes that a file may ask for.
const PASSES_MAX: u32 = 64;

/// The seed of an owner's key tree.
pub(crate) type Seed = Zeroizing<[u8; 32]>;

/// A passphrase, or the decision to have none.
#[derive(Debug)]
pub(crate) enum Protection {
    /// Whoever reads the file has the keys.
    Plain,
    /// The file opens with this.
    Passphrase(Zeroizing<String>),
}

/// The file as written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    format: String,
    account: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    plain_seed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed: Option<SealedSeed>,
}

/// A seed under a passphrase.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedSeed {
    argon2id_memory_kib: u32,
    argon2id_passes: u32,
    salt: String,
    nonce: String,
    seed: String,
}

/// Randomness that a sealed seed needs.
pub(crate) struct SealEntropy {
    /// Salt of the passphrase hash.
    pub(crate) salt: [u8; 16],
    /// Nonce of the cipher.
    pub(crate) nonce: [u8; 24],
}

/// Makes the key file; `false` when there is one already, which stays.
///
/// # Errors
///
/// Of kind storage.
pub(crate) fn create(
    path: &Path,
    seed: &Seed,
    protection: &Protection,
    entropy: &SealEntropy,
) -> Result<bool, Failure> {
    let account = OwnerKeys::from_seed(seed).account().to_string();
    let mut file = KeyFile {
        format: FORMAT.to_owned(),
        account,
        plain_seed: None,
        sealed: None,
    };
    match protection {
        Protection::Plain => file.plain_seed = Some(HEXLOWER.encode(seed.as_slice())),
        Protection::Passphrase(passphrase) => {
            file.sealed = Some(seal(&file.account, seed, passphrase, entropy)?);
        }
    }
    let text = toml::to_string(&file).or_fail(FailureKind::Usage, "the key file has no form")?;
    files::create(path, Access::Private, Zeroizing::new(text).as_bytes())
}

fn seal(
    account: &str,
    seed: &Seed,
    passphrase: &str,
    entropy: &SealEntropy,
) -> Result<SealedSeed, Failure> {
    let mut sealed = SealedSeed {
        argon2id_memory_kib: MEMORY_KIB,
        argon2id_passes: PASSES,
        salt: HEXLOWER.encode(&entropy.salt),
        nonce: HEXLOWER.encode(&entropy.nonce),
        seed: String::new(),
    };
    let header = header(account, &sealed);
    let payload = Payload {
        msg: seed.as_slice(),
        aad: header.as_bytes(),
    };
    let bytes = cipher(passphrase, &sealed, &entropy.salt)?
        .encrypt(&XNonce::from(entropy.nonce), payload)
        .map_err(|_| Failure::say(FailureKind::Usage, "the seed can't be sealed"))?;
    sealed.seed = HEXLOWER.encode(&bytes);
    Ok(sealed)
}

/// What is authenticated beside the seed.
fn header(account: &str, sealed: &SealedSeed) -> String {
    let (memory, passes) = (sealed.argon2id_memory_kib, sealed.argon2id_passes);
    format!("{FORMAT}\n{account}\n{memory}\n{passes}\n{}\n", sealed.salt)
}

/// The cipher under the passphrase. Takes a good part of a second, on purpose.
fn cipher(
    passphrase: &str,
    sealed: &SealedSeed,
    salt: &[u8],
) -> Result<XChaCha20Poly1305, Failure> {
    let bad = || {
        Failure::say(
            FailureKind::Usage,
            "the key file's argon2id parameters are wrong",
        )
    };
    let (memory, passes) = (sealed.argon2id_memory_kib, sealed.argon2id_passes);
    if memory > MEMORY_KIB_MAX || passes > PASSES_MAX {
        return Err(bad());
    }
    let params = Params::new(memory, passes, 1, Some(32)).map_err(|_| bad())?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, key.as_mut_slice())
        .map_err(|_| bad())?;
    Ok(XChaCha20Poly1305::new(&Key::from(*key)))
}

/// A key file that was read and not opened yet.
#[derive(Debug)]
pub(crate) struct LockedKey {
    file: KeyFile,
}

impl LockedKey {
    /// Reads a key file.
    ///
    /// # Errors
    ///
    /// Of kind usage when there is none or it is no key file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let text = files::read(path)?.ok_or_else(|| {
            Failure::say(
                FailureKind::Usage,
                format!("there is no key file at {shown}"),
            )
            .hint("cairn init")
        })?;
        let text = Zeroizing::new(text);
        // The parser's own error quotes the text, which holds a secret.
        let file: KeyFile = toml::from_str(&text)
            .map_err(|_| Failure::say(FailureKind::Usage, format!("{shown} is no key file")))?;
        if file.format != FORMAT || file.plain_seed.is_some() == file.sealed.is_some() {
            let text = format!("{shown} is no key file of the form {FORMAT:?}");
            return Err(Failure::say(FailureKind::Usage, text));
        }
        Ok(Self { file })
    }

    /// The account, which is not secret.
    ///
    /// # Errors
    ///
    /// Of kind usage when the file is damaged.
    pub(crate) fn account(&self) -> Result<AccountId, Failure> {
        self.file
            .account
            .parse()
            .or_fail(FailureKind::Usage, "the key file is damaged")
    }

    /// Whether it takes a passphrase to open.
    #[cfg(test)]
    const fn needs_passphrase(&self) -> bool {
        self.file.sealed.is_some()
    }

    /// The owner's keys. Where a passphrase is needed, `ask` gives it.
    ///
    /// # Errors
    ///
    /// Of kind usage when the passphrase is wrong or the file damaged.
    pub(crate) fn open(
        &self,
        ask: impl FnOnce() -> Result<Zeroizing<String>, Failure>,
    ) -> Result<OwnerKeys, Failure> {
        let damaged = || Failure::say(FailureKind::Usage, "the key file is damaged");
        let bytes = match (&self.file.sealed, &self.file.plain_seed) {
            (Some(sealed), _) => self.unseal(sealed, &ask()?)?,
            (None, Some(plain)) => {
                Zeroizing::new(HEXLOWER.decode(plain.as_bytes()).map_err(|_| damaged())?)
            }
            (None, None) => return Err(damaged()),
        };
        let seed = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| damaged())?;
        let keys = OwnerKeys::from_seed(&Zeroizing::new(seed));
        if keys.account().to_string() != self.file.account {
            return Err(damaged());
        }
        Ok(keys)
    }

    fn unseal(&self, sealed: &SealedSeed, passphrase: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let damaged = || Failure::say(FailureKind::Usage, "the key file is damaged");
        let decode = |text: &str| HEXLOWER.decode(text.as_bytes()).map_err(|_| damaged());
        let nonce = <[u8; 24]>::try_from(decode(&sealed.nonce)?).map_err(|_| damaged())?;
        let (salt, bytes) = (decode(&sealed.salt)?, decode(&sealed.seed)?);
        let header = header(&self.file.account, sealed);
        let payload = Payload {
            msg: &bytes,
            aad: header.as_bytes(),
        };
        cipher(passphrase, sealed, &salt)?
            .decrypt(&XNonce::from(nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| {
                let text = "the passphrase is wrong, or the key file is damaged";
                Failure::say(FailureKind::Usage, text)
                    .hint("cairn init --restore makes the key file anew from the 24 words")
            })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ENTROPY: SealEntropy = SealEntropy {
        salt: [3; 16],
        nonce: [4; 24],
    };

    fn seed() -> Seed {
        Zeroizing::new([7; 32])
    }

    fn passphrase(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    fn refuse() -> Result<Zeroizing<String>, Failure> {
        Err(Failure::say(FailureKind::Usage, "asked for a passphrase"))
    }

    #[test]
    fn a_sealed_seed_opens_with_its_passphrase_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.toml");
        let protection = Protection::Passphrase(passphrase("correct horse"));
        assert!(create(&path, &seed(), &protection, &ENTROPY).unwrap());
        let locked = LockedKey::read(&path).unwrap();
        assert!(locked.needs_passphrase());
        let keys = locked.open(|| Ok(passphrase("correct horse"))).unwrap();
        assert_eq!(keys.account(), OwnerKeys::from_seed(&[7; 32]).account());
        let error = locked.open(|| Ok(passphrase("correct mule"))).unwrap_err();
        assert!(error.to_string().contains("the passphrase is wrong"));
        assert!(!fs::read_to_string(&path).unwrap().contains("0707"));
    }

    #[test]
    fn a_plain_seed_opens_without_asking() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.toml");
        assert!(create(&path, &seed(), &Protection::Plain, &ENTROPY).unwrap());
        let locked = LockedKey::read(&path).unwrap();
        assert!(!locked.needs_passphrase());
        locked.open(refuse).unwrap();
    }

    #[test]
    fn an_existing_key_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.toml");
        assert!(create(&path, &seed(), &Protection::Plain, &ENTROPY).unwrap());
        let other = Zeroizing::new([8; 32]);
        assert!(!create(&path, &other, &Protection::Plain, &ENTROPY).unwrap());
        let keys = LockedKey::read(&path).unwrap().open(refuse).unwrap();
        assert_eq!(keys.account(), OwnerKeys::from_seed(&[7; 32]).account());
    }

    #[test]
    fn a_changed_file_does_not_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.toml");
        let protection = Protection::Passphrase(passphrase("p"));
        create(&path, &seed(), &protection, &ENTROPY).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let account = OwnerKeys::from_seed(&[7; 32]).account().to_string();
        let other = OwnerKeys::from_seed(&[8; 32]).account().to_string();
        let changes = [
            text.replace(&account, &other),
            text.replace("argon2id_passes = 3", "argon2id_passes = 4"),
            text.replace("argon2id_passes = 3", "argon2id_passes = 65"),
            text.replace("0404", "0405"),
        ];
        for changed in changes {
            assert_ne!(changed, text);
            fs::write(&path, changed).unwrap();
            let locked = LockedKey::read(&path).unwrap();
            assert!(locked.open(|| Ok(passphrase("p"))).is_err());
        }
    }

    #[test]
    fn what_is_no_key_file_says_so_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.toml");
        let hint = LockedKey::read(&path).unwrap_err().to_string();
        assert!(hint.contains("hint: cairn init"), "{hint}");
        for text in [
            "",
            "plain_seed = 'secret'",
            "format = 'cairn key 9'\naccount = 'a'",
        ] {
            fs::write(&path, text).unwrap();
            let error = LockedKey::read(&path).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
