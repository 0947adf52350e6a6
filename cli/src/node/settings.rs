//! A node's settings: defaults, its config file, then the environment and the command line, each
//! value with its origin.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cairn_core::{AccountId, Amount, ByteCount, Signature};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use toml::Value;

use super::Folder;
use crate::args::NodeKeyArgs;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::files;

/// Where a value comes from, each overriding those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody said anything.
    Default,
    /// The config file.
    File,
    /// A flag, or its variable in the environment.
    Given,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "node.toml",
            Self::Given => "command line or environment",
        })
    }
}

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    /// The value.
    pub(crate) value: T,
    /// Its origin.
    pub(crate) origin: Origin,
}

impl<T> Setting<T> {
    fn pick(default: T, file: Option<T>, given: Option<T>) -> Self {
        let (value, origin) = match (given, file) {
            (Some(value), _) => (value, Origin::Given),
            (None, Some(value)) => (value, Origin::File),
            (None, None) => (default, Origin::Default),
        };
        Self { value, origin }
    }
}

/// The config file as written. Every key may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    listen: Option<Vec<String>>,
    data_listen: Option<SocketAddr>,
    announce: Option<Vec<String>>,
    announce_data: Option<Vec<SocketAddr>>,
    #[serde(default, deserialize_with = "size")]
    capacity_bytes: Option<ByteCount>,
    #[serde(default, deserialize_with = "size")]
    free_bytes_min: Option<ByteCount>,
    #[serde(default, deserialize_with = "size")]
    scrub_bytes_per_second: Option<ByteCount>,
    price_micro_credits_per_gib_epoch: Option<u64>,
    network_prefix: Option<String>,
    hosting_provider: Option<String>,
    region: Option<String>,
    operator_account: Option<String>,
    operator_consent: Option<String>,
}

/// A node's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// libp2p multiaddresses of the control plane to listen on.
    pub(crate) listen: Setting<Vec<String>>,
    /// Where shard bytes are served.
    pub(crate) data_listen: Setting<SocketAddr>,
    /// Multiaddresses to publish instead of those seen.
    pub(crate) announce: Setting<Vec<String>>,
    /// Data addresses to publish instead of those seen.
    pub(crate) announce_data: Setting<Vec<SocketAddr>>,
    /// Most bytes taken on the disk, everything included.
    pub(crate) capacity_bytes: Setting<ByteCount>,
    /// Bytes of the file system left free for others.
    pub(crate) free_bytes_min: Setting<ByteCount>,
    /// How fast shards are read to check them.
    pub(crate) scrub_bytes_per_second: Setting<ByteCount>,
    /// The price asked.
    pub(crate) price_micro_credits_per_gib_epoch: Setting<u64>,
    /// Network prefix, for the placement caps.
    pub(crate) network_prefix: Setting<String>,
    /// Hosting provider, for the placement caps.
    pub(crate) hosting_provider: Setting<String>,
    /// Region, for the placement caps.
    pub(crate) region: Setting<String>,
    /// Account that answers for the node, in hex; the node itself when empty.
    pub(crate) operator_account: Setting<String>,
    /// That account's signature that it does, in hex.
    pub(crate) operator_consent: Setting<String>,
}

impl Settings {
    /// The settings of the node in `folder`, overridden by what was given.
    ///
    /// # Errors
    ///
    /// Of kind usage when there is no config file or it is wrong.
    pub(crate) fn read(folder: &Folder, given: &NodeKeyArgs) -> Result<Self, Failure> {
        let path = folder.config_file();
        let text = files::read(&path)?.ok_or_else(|| {
            let shown = folder.path().display();
            Failure::say(FailureKind::Usage, format!("there is no node in {shown}"))
                .hint(format!("cairn node init --folder {shown}"))
        })?;
        Self::parse(&path, &text, given)
    }

    /// The settings when the config file says `text`.
    pub(crate) fn parse(path: &Path, text: &str, given: &NodeKeyArgs) -> Result<Self, Failure> {
        let file: Written = toml::from_str(text)
            .or_fail(FailureKind::Usage, format!("{} is wrong", path.display()))?;
        Ok(Self::merge(file, given))
    }

    fn merge(file: Written, given: &NodeKeyArgs) -> Self {
        let tcp_and_quic = ["/ip4/0.0.0.0/tcp/4700", "/ip4/0.0.0.0/udp/4700/quic-v1"];
        let listen = tcp_and_quic.map(str::to_owned).to_vec();
        Self {
            listen: Setting::pick(listen, file.listen, given.listen.clone()),
            data_listen: Setting::pick(
                SocketAddr::from(([0, 0, 0, 0], 4701)),
                file.data_listen,
                given.data_listen,
            ),
            announce: Setting::pick(Vec::new(), file.announce, None),
            announce_data: Setting::pick(Vec::new(), file.announce_data, None),
            capacity_bytes: Setting::pick(
                ByteCount::new(100 << 30),
                file.capacity_bytes,
                given.capacity,
            ),
            free_bytes_min: Setting::pick(ByteCount::new(1 << 30), file.free_bytes_min, None),
            scrub_bytes_per_second: Setting::pick(
                ByteCount::new(8 << 20),
                file.scrub_bytes_per_second,
                None,
            ),
            price_micro_credits_per_gib_epoch: Setting::pick(
                0,
                file.price_micro_credits_per_gib_epoch,
                given.price,
            ),
            network_prefix: Setting::pick(String::new(), file.network_prefix, None),
            hosting_provider: Setting::pick(String::new(), file.hosting_provider, None),
            region: Setting::pick(String::new(), file.region, None),
            operator_account: Setting::pick(String::new(), file.operator_account, None),
            operator_consent: Setting::pick(String::new(), file.operator_consent, None),
        }
    }

    /// Every key, in the order of the file.
    fn entries(&self) -> Vec<Entry> {
        let mut entries = self.address_entries();
        entries.extend(self.offer_entries());
        entries.extend(self.party_entries());
        entries
    }

    fn address_entries(&self) -> Vec<Entry> {
        let addresses = |values: &Vec<SocketAddr>| {
            Value::from(values.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let texts = |values: &Vec<String>| Value::from(values.clone());
        vec![
            Entry::new("listen", &self.listen, texts)
                .doc("Multiaddresses of the control plane to listen on."),
            Entry::new("data_listen", &self.data_listen, |it| it.to_string().into())
                .doc("Where shard bytes are served."),
            Entry::new("announce", &self.announce, texts)
                .doc("Multiaddresses to publish instead of those that the node sees itself."),
            Entry::new("announce_data", &self.announce_data, addresses)
                .doc("Data addresses to publish instead of those that the node sees itself."),
        ]
    }

    fn offer_entries(&self) -> Vec<Entry> {
        let size = |bytes: &ByteCount| Value::from(bytes.to_string());
        let price = &self.price_micro_credits_per_gib_epoch;
        vec![
            Entry::new("capacity_bytes", &self.capacity_bytes, size).doc(
                "Most bytes that the node takes on the disk; it offers seven eighths of them.",
            ),
            Entry::new("free_bytes_min", &self.free_bytes_min, size)
                .doc("Bytes of the file system that the node leaves free for others."),
            Entry::new("scrub_bytes_per_second", &self.scrub_bytes_per_second, size)
                .doc("How fast the node reads its shards to check them."),
            Entry::new("price_micro_credits_per_gib_epoch", price, |micro| {
                i64::try_from(*micro).unwrap_or(i64::MAX).into()
            })
            .doc("Price asked, in micro-credits per GiB and epoch. Slots keep the price that they\n# were drawn at."),
        ]
    }

    fn party_entries(&self) -> Vec<Entry> {
        let text = |text: &String| Value::from(text.clone());
        vec![
            Entry::new("network_prefix", &self.network_prefix, text).doc(
                "Where the node is, so that a group's slots do not fail together: its network\n\
                 # prefix (such as 203.0.113.0/24), hosting provider and region.",
            ),
            Entry::new("hosting_provider", &self.hosting_provider, text),
            Entry::new("region", &self.region, text),
            Entry::new("operator_account", &self.operator_account, text).doc(
                "The account that answers for the node, and its signature that it does; the\n\
                 # node's own account when empty. `cairn node init --operate` fills them in.",
            ),
            Entry::new("operator_consent", &self.operator_consent, text),
        ]
    }

    /// The settings as a config file, each value under what `remark` makes of it.
    fn render(&self, remark: impl Fn(&Entry) -> String) -> String {
        let line = |entry: &Entry| format!("{}{} = {}\n", remark(entry), entry.key, entry.value);
        self.entries().iter().map(line).collect()
    }

    /// The account that answers for the node and its consent; `None` for the node's own.
    ///
    /// # Errors
    ///
    /// Of kind usage when they are no account and signature.
    pub(crate) fn operator(&self) -> Result<Option<(AccountId, Signature)>, Failure> {
        let (account, consent) = (&self.operator_account.value, &self.operator_consent.value);
        if account.is_empty() && consent.is_empty() {
            return Ok(None);
        }
        let account = account
            .parse()
            .or_fail(FailureKind::Usage, "operator_account is no account")?;
        let consent = HEXLOWER
            .decode(consent.as_bytes())
            .ok()
            .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok())
            .ok_or_else(|| Failure::say(FailureKind::Usage, "operator_consent is no signature"))?;
        Ok(Some((account, Signature::from_bytes(consent))))
    }

    /// The config file with these values, explained.
    pub(crate) fn to_file(&self) -> String {
        let body = self.render(|entry| {
            if entry.doc.is_empty() {
                String::new()
            } else {
                format!("\n# {}\n", entry.doc)
            }
        });
        format!(
            "# A node of Cairn. Every key may be left out; sizes take units (64MiB, 2TB).\n{body}"
        )
    }

    /// Each value in effect under its origin.
    pub(crate) fn with_origins(&self) -> String {
        self.render(|entry| format!("# from: {}\n", entry.origin))
    }

    /// Each value in effect with its origin, as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let entry = |entry: Entry| {
            let value = json!({ "value": entry.value, "origin": entry.origin.to_string() });
            (entry.key.to_owned(), value)
        };
        let object: serde_json::Map<_, _> = self.entries().into_iter().map(entry).collect();
        object.into()
    }
}

/// One key of the file with its value in effect.
#[derive(Clone, Debug)]
struct Entry {
    doc: &'static str,
    key: &'static str,
    value: Value,
    origin: Origin,
}

impl Entry {
    fn new<T>(key: &'static str, setting: &Setting<T>, value: impl Fn(&T) -> Value) -> Self {
        Self {
            doc: "",
            key,
            value: value(&setting.value),
            origin: setting.origin,
        }
    }

    fn doc(self, doc: &'static str) -> Self {
        Self { doc, ..self }
    }
}

/// A size in bytes, as a number or with a unit.
fn size<'de, D: Deserializer<'de>>(input: D) -> Result<Option<ByteCount>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Size {
        Number(u64),
        Text(String),
    }
    match Size::deserialize(input)? {
        Size::Number(bytes) => Ok(Some(ByteCount::new(bytes))),
        Size::Text(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// The config file of a node of the development network: loopback, free ports.
pub(crate) fn loopback(capacity: ByteCount, price: Amount) -> NodeKeyArgs {
    NodeKeyArgs {
        listen: Some(vec!["/ip4/127.0.0.1/tcp/0".to_owned()]),
        data_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        capacity: Some(capacity),
        price: Some(price.micro()),
    }
}

/// The path of the config file in messages about values that were never in one.
pub(crate) fn nowhere() -> PathBuf {
    PathBuf::from("node.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/node.toml");

    fn parse(text: &str, given: &NodeKeyArgs) -> Result<Settings, Failure> {
        Settings::parse(&nowhere(), text, given)
    }

    /// Set `CAIRN_WRITE_REFERENCE=1` to write the file anew.
    #[test]
    fn the_default_config_is_the_committed_one() {
        let made = parse("", &NodeKeyArgs::default()).unwrap().to_file();
        if std::env::var_os("CAIRN_WRITE_REFERENCE").is_some() {
            std::fs::write(DEFAULT, &made).unwrap();
        }
        assert_eq!(std::fs::read_to_string(DEFAULT).unwrap_or_default(), made);
    }

    #[test]
    fn what_is_written_reads_back_as_from_the_file() {
        let made = parse("", &NodeKeyArgs::default()).unwrap();
        let read = parse(&made.to_file(), &NodeKeyArgs::default()).unwrap();
        assert_eq!(read.to_file(), made.to_file());
        assert_eq!(read.listen.origin, Origin::File);
        assert_eq!(made.listen.origin, Origin::Default);
    }

    #[test]
    fn what_is_given_overrides_the_file_and_says_so() {
        let given = loopback(ByteCount::new(1 << 30), Amount::ZERO);
        let settings = parse("capacity_bytes = '5GiB'\nregion = 'eu'", &given).unwrap();
        assert_eq!(settings.capacity_bytes.value, ByteCount::new(1 << 30));
        assert_eq!(settings.capacity_bytes.origin, Origin::Given);
        assert_eq!(settings.region.origin, Origin::File);
        let json = settings.to_json();
        assert_eq!(
            json["capacity_bytes"]["origin"],
            "command line or environment"
        );
        assert_eq!(json["region"]["value"], "eu");
        assert_eq!(json["free_bytes_min"]["origin"], "default");
    }

    #[test]
    fn a_wrong_key_or_value_is_usage_and_is_named() {
        let wrong = [
            ("capacity = '1GiB'", "capacity"),
            ("capacity_bytes = 'much'", "much"),
            ("data_listen = 'here'", "data_listen"),
        ];
        for (text, named) in wrong {
            let failure = parse(text, &NodeKeyArgs::default()).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Usage);
            assert!(failure.to_string().contains(named), "{failure}");
        }
    }
}
