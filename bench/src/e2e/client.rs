//! A client's process: uploads, downloads, reads, and compares every byte with its source.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cairn_client::index::EntryPath;
use cairn_client::read::TreeItem;
use cairn_client::upload::{
    EntryMeta, EntryMetaKind, Source, SourceError, Tree, TreeEntry, TreeSource, reader_source,
};
use cairn_client::{
    Client, ClientConfig, EntryKind, Link, Owner, OwnerConfig, OwnerKeys, UploadKind,
    UploadOptions, UploadProgress,
};
use cairn_core::{ByteCount, Profile};
use cairn_ledger::RemoteLedger;
use cairn_net::{DhtMode, LedgerPeers, Network, PeerAddress, RealConfig, RealNetwork};
use cairn_runtime::{RealRuntime, Runtime};

use super::counted::{Counted, Traffic};
use super::figures::{Figures, wall_time};
use super::member::{Address, Answer, Moved, Order, Uploaded, obey};
use super::sequencer::{fresh_key, ledger_at};
use crate::cpu_time::thread_cpu_time;

type Net = Counted<RealNetwork>;
type BenchClient = Client<RealRuntime, Net, RemoteLedger<LedgerPeers<Net>>>;

/// A client and what it is asked to work with.
struct Worker {
    runtime: RealRuntime,
    client: BenchClient,
    net: Net,
    folder: PathBuf,
    profile: Profile,
}

/// Runs it until its orders end.
pub(super) async fn run(
    runtime: &RealRuntime,
    folder: &Path,
    profile: Profile,
    sequencer: &Address,
) -> Result<()> {
    let node = sequencer.node.parse()?;
    let mut config = RealConfig::new(fresh_key(runtime), DhtMode::Client);
    config.bootstrap = vec![PeerAddress {
        node,
        address: sequencer.address.clone(),
    }];
    let net = Counted::new(RealNetwork::start(config, runtime.clone()).await?);
    let ledger = ledger_at(net.clone(), sequencer)?;
    let client = Client::new(
        runtime.clone(),
        net.clone(),
        ledger,
        ClientConfig::default(),
    );
    let worker = Worker {
        runtime: runtime.clone(),
        client,
        net: net.clone(),
        folder: folder.to_owned(),
        profile,
    };
    obey(runtime, None, |order| worker.act(order)).await?;
    net.shutdown().await;
    Ok(())
}

/// What was so when an order came.
struct Begun {
    wall: Duration,
    traffic: Traffic,
}

impl Worker {
    async fn act(&self, order: Order) -> Result<Answer> {
        match order {
            Order::Upload { source } => self.upload(&source).await,
            Order::Download { link, source } => self.download(&link, &source).await,
            Order::Read {
                link,
                source,
                offset,
                count,
            } => self.read(&link, &source, (offset, count)).await,
            other => bail!("a client does not {other:?}"),
        }
    }

    fn begin(&self) -> Begun {
        Begun {
            wall: wall_time(),
            traffic: self.net.traffic(),
        }
    }

    fn end(&self, begun: &Begun, bytes: u64, aside: Duration) -> Result<Moved> {
        Ok(Moved {
            bytes,
            wall: wall_time().saturating_sub(begun.wall),
            aside,
            traffic: self.net.traffic().since(&begun.traffic),
            figures: Figures::now()?,
        })
    }

    async fn upload(&self, source: &Path) -> Result<Answer> {
        let aside = Arc::new(AtomicU64::new(0));
        if source.is_dir() {
            let tree = Folder::new(source, &aside)?;
            return self.upload_from(TreeSource::new(tree), &aside).await;
        }
        let file = Timed {
            file: File::open(source)?,
            aside: Arc::clone(&aside),
        };
        let source = reader_source(meta(b"file", EntryMetaKind::File)?, file);
        self.upload_from(source, &aside).await
    }

    async fn upload_from<S: Source>(&self, source: S, aside: &AtomicU64) -> Result<Answer> {
        let begun = self.begin();
        let mut seed = [0; 32];
        self.runtime.fill(&mut seed);
        let owner = Owner::new(
            self.client.clone(),
            OwnerKeys::from_seed(&seed),
            &self.folder,
            OwnerConfig::new(self.profile),
        );
        let quiet = |_: &UploadProgress| {};
        let uploaded = owner
            .upload(source, UploadOptions::default(), quiet)
            .await?;
        owner.close().await?;
        let aside = Duration::from_nanos(aside.load(Ordering::Relaxed));
        let moved = self.end(&begun, uploaded.progress.bytes_read, aside)?;
        Ok(Answer::Uploaded(Uploaded {
            groups: uploaded.link.groups().map(|id| id.to_string()).collect(),
            link: uploaded.link.to_string(),
            segments: uploaded.progress.segments_durable,
            left_behind: uploaded.slots.iter().map(|slot| slot.left_count).sum(),
            moved,
        }))
    }

    async fn download(&self, link: &str, source: &Path) -> Result<Answer> {
        let link: Link = link.parse()?;
        let begun = self.begin();
        let opened = self.client.open(&link).await?;
        let mut tree = opened.tree();
        let is_file = opened.index().kind == UploadKind::File;
        let mut compare = Compare::default();
        let mut bytes = 0;
        while let Some(item) = tree.next().await? {
            match item {
                TreeItem::Entry(entry) if matches!(entry.kind, EntryKind::File { .. }) => {
                    let name = std::ffi::OsStr::from_bytes(entry.path.as_bytes());
                    let path = if is_file {
                        source.to_owned()
                    } else {
                        source.join(name)
                    };
                    compare.open(&path, entry.bytes())?;
                }
                TreeItem::Entry(_) => {}
                TreeItem::Bytes(part) => {
                    compare.next(&part)?;
                    bytes += u64::try_from(part.len())?;
                }
            }
        }
        let aside = compare.aside.get();
        Ok(Answer::Moved(self.end(&begun, bytes, aside)?))
    }

    /// Reads a range as a cold client does: the link is open, nothing else of it is known.
    async fn read(&self, link: &str, source: &Path, range: (u64, u64)) -> Result<Answer> {
        let link: Link = link.parse()?;
        let opened = self.client.open(&link).await?;
        let file = opened.only_file().context("the link is of a file")?;
        let (offset, count) = range;
        let begun = self.begin();
        let bytes = file.read_range(offset, count).await?;
        let moved = self.end(&begun, count, Duration::ZERO)?;
        let mut expected = vec![0; usize::try_from(count)?];
        File::open(source)?.read_exact_at(&mut expected, offset)?;
        ensure!(bytes == expected, "the range is that of the source");
        Ok(Answer::Moved(moved))
    }
}

fn meta(path: &[u8], kind: EntryMetaKind) -> Result<EntryMeta> {
    Ok(EntryMeta {
        path: EntryPath::new(path)?,
        kind,
        mode: 0o644,
        modified_ms: 0,
    })
}

/// A file whose reading is timed.
struct Timed {
    file: File,
    aside: Arc<AtomicU64>,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let begun = thread_cpu_time();
        let count = self.file.read(buffer)?;
        let spent = thread_cpu_time().saturating_sub(begun).as_nanos();
        let spent = u64::try_from(spent).unwrap_or(u64::MAX);
        self.aside.fetch_add(spent, Ordering::Relaxed);
        Ok(count)
    }

    fn read_vectored(&mut self, buffers: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
        let begun = thread_cpu_time();
        let count = self.file.read_vectored(buffers)?;
        let spent = thread_cpu_time().saturating_sub(begun).as_nanos();
        let spent = u64::try_from(spent).unwrap_or(u64::MAX);
        self.aside.fetch_add(spent, Ordering::Relaxed);
        Ok(count)
    }
}

/// The files of one folder, by name.
struct Folder {
    path: PathBuf,
    names: std::vec::IntoIter<std::ffi::OsString>,
    aside: Arc<AtomicU64>,
}

impl Folder {
    fn new(path: &Path, aside: &Arc<AtomicU64>) -> Result<Self> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path)? {
            names.push(entry?.file_name());
        }
        names.sort();
        Ok(Self {
            path: path.to_owned(),
            names: names.into_iter(),
            aside: Arc::clone(aside),
        })
    }
}

impl Tree for Folder {
    type Reader = Timed;

    fn next(&mut self) -> Result<Option<TreeEntry<Timed>>, SourceError> {
        let Some(name) = self.names.next() else {
            return Ok(None);
        };
        let failed = |source| SourceError { path: None, source };
        let meta = meta(name.as_bytes(), EntryMetaKind::File)
            .map_err(|error| failed(io::Error::other(error)))?;
        let begun = thread_cpu_time();
        let file = File::open(self.path.join(&name)).map_err(failed)?;
        let spent = thread_cpu_time().saturating_sub(begun).as_nanos();
        let spent = u64::try_from(spent).unwrap_or(u64::MAX);
        self.aside.fetch_add(spent, Ordering::Relaxed);
        Ok(Some(TreeEntry {
            meta,
            reader: Some(Timed {
                file,
                aside: Arc::clone(&self.aside),
            }),
        }))
    }

    fn kind(&self) -> UploadKind {
        UploadKind::Folder
    }
}

/// Compares what arrives with the source, and times that.
#[derive(Default)]
struct Compare {
    file: Option<File>,
    at: u64,
    left: u64,
    expected: Vec<u8>,
    aside: Cell<Duration>,
}

impl Compare {
    fn open(&mut self, path: &Path, bytes: u64) -> Result<()> {
        let begun = thread_cpu_time();
        ensure!(self.left == 0, "the file before is whole");
        let file = File::open(path)?;
        ensure!(file.metadata()?.len() == bytes, "the size of the source");
        self.file = Some(file);
        self.at = 0;
        self.left = bytes;
        self.spent(begun);
        Ok(())
    }

    fn next(&mut self, part: &[u8]) -> Result<()> {
        let begun = thread_cpu_time();
        let file = self.file.as_ref().context("an entry comes first")?;
        self.expected.resize(part.len(), 0);
        file.read_exact_at(&mut self.expected, self.at)?;
        ensure!(part == self.expected, "byte {} on is wrong", self.at);
        let count = u64::try_from(part.len())?;
        self.at += count;
        self.left -= count;
        self.spent(begun);
        Ok(())
    }

    fn spent(&self, begun: Duration) {
        let spent = thread_cpu_time().saturating_sub(begun);
        self.aside.set(self.aside.get().saturating_add(spent));
    }
}

/// Makes a file of bytes that do not compress.
pub(super) fn make_file(path: &Path, bytes: u64) -> Result<()> {
    let mut file = File::create(path)?;
    let mut source = blake3::Hasher::new().finalize_xof().take(bytes);
    io::copy(&mut source, &mut file)?;
    Ok(())
}

/// Makes a folder of small files of 0 to 16 KiB each; returns their bytes.
pub(super) fn make_folder(path: &Path, count: u32) -> Result<ByteCount> {
    std::fs::create_dir(path)?;
    let mut source = blake3::Hasher::new().finalize_xof();
    let mut sum = 0;
    for number in 0..count {
        let mut size = [0; 2];
        source.read_exact(&mut size)?;
        let mut content = vec![0; usize::from(u16::from_le_bytes(size) >> 2)];
        source.read_exact(&mut content)?;
        std::fs::write(path.join(format!("{number:06}")), &content)?;
        sum += u64::try_from(content.len())?;
    }
    Ok(ByteCount::new(sum))
}
