//! Real processes, real sockets, real files: what the README promises, and what users fear.
//!
//! Short forms run with every test run. Long forms: `CAIRN_SYSTEM_MIB=1024`, `CAIRN_KILLS=100`,
//! `CAIRN_SMALL_FILES=10000`, `CAIRN_STREAM_MIB=20480`.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;

use cairn_tests::system::{DevNetwork, bytes_of, real_sleep, real_time, setting};

const MIB: usize = 1 << 20;

/// I1: any four of eight may be killed. With five the error says how many slots are missing, at
/// once, and nothing is written.
#[test]
fn i1_any_four_of_eight_nodes_may_be_killed_and_five_are_named() {
    let network = DevNetwork::start(8);
    let content = bytes_of(1, setting("CAIRN_SYSTEM_MIB", 24) * MIB);
    let link = network.put("file", &content);
    network.wait_complete(&link);
    for four in [[1, 2, 3, 4], [5, 6, 7, 8], [2, 3, 6, 8]] {
        network.nodes("kill", &four);
        assert_same(&network.cat(&link).stdout, &content);
        network.nodes("start", &four);
        network.wait_complete(&link);
    }
    network.nodes("kill", &[1, 3, 4, 6, 8]);
    let begun = real_time();
    let out = network.path("out");
    let ran = network.run(&["get", &link, &out.to_string_lossy()]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.stderr.contains("5 of 8 slots missing"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("error:"), "{}", ran.stderr);
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    assert!(!out.exists(), "no half a file is left");
}

/// I1: nodes that fall silent, with every connection left open, are missing as those that are
/// killed: four cost seconds, five are an error after some ten.
#[test]
fn i1_silent_nodes_cost_seconds() {
    let network = DevNetwork::start(8);
    let content = bytes_of(8, 9 * MIB);
    let link = network.put("file", &content);
    network.wait_complete(&link);
    network.signal("STOP", &[2, 4, 6, 8]);
    let begun = real_time();
    let ran = network.cat(&link);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_same(&ran.stdout, &content);
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    network.signal("STOP", &[1]);
    let begun = real_time();
    let ran = network.cat(&link);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("5 of 8 slots missing"),
        "{}",
        ran.stderr
    );
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    network.signal("CONT", &[1, 2, 4, 6, 8]);
    let ran = network.cat(&link);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_same(&ran.stdout, &content);
}

/// I3: a node that lost its disk ends in the committed slot root, and carries its weight again.
#[test]
fn i3_a_node_that_lost_its_disk_catches_up() {
    let network = DevNetwork::start(8);
    let content = bytes_of(2, 9 * MIB + 17);
    let link = network.put("file", &content);
    network.wait_complete(&link);
    network.nodes("kill", &[2]);
    std::fs::remove_dir_all(network.node_path(2, "store")).expect("its store is removed");
    network.nodes("start", &[2]);
    network.wait_complete(&link);
    network.nodes("kill", &[1, 3, 4, 5]);
    assert_same(&network.cat(&link).stdout, &content);
}

/// I2: bytes flipped in a node's packs are found, named, and never handed up.
#[test]
fn i2_flipped_bits_on_a_disk_are_never_handed_up() {
    let network = DevNetwork::start(8);
    let content = bytes_of(3, 6 * MIB);
    let link = network.put("file", &content);
    network.wait_complete(&link);
    for number in [1, 4, 7] {
        network.nodes("kill", &[number]);
        spoil(&network.node_path(number, "store/packs"));
        network.nodes("start", &[number]);
    }
    for _ in 0..2 {
        assert_same(&network.cat(&link).stdout, &content);
    }
}

/// Kill -9 of the client, of a node or of both, at random points under load: what was
/// acknowledged is there, and an interrupted upload sends no finished segment again.
/// `CAIRN_KILL_SEED` gives other points.
#[test]
fn i1_kill_9_under_load_loses_nothing_acknowledged() {
    const FILE_BYTES: u64 = 96 << 20;
    // A client has 160 MiB of memory for what is on its way: with more than that on the disks,
    // something is durable and remembered.
    const SURELY_DURABLE: u64 = 168 << 20;
    let file_bytes = usize::try_from(FILE_BYTES).expect("a small number");
    let network = DevNetwork::start(8);
    let kills = u64::try_from(setting("CAIRN_KILLS", 6)).expect("a small number");
    let first = u64::try_from(setting("CAIRN_KILL_SEED", 100)).expect("a seed");
    let mut stored: Vec<(String, u64)> = Vec::new();
    let mut resumed = 0;
    for seed in first..first + kills {
        let content = bytes_of(seed, file_bytes);
        let path = network.path("load");
        std::fs::write(&path, &content).expect("the file is written");
        let path = path.to_string_lossy().into_owned();
        let random = bytes_of(!seed, 8);
        // A third each; the first two rounds of any seed cut the client off.
        let round = seed - first;
        let (cut_client, kill_node) = (round % 3 != 2, round % 3 != 0);
        let node = 1 + u16::from(random[0] % 8);
        let share = match round {
            // Where something is surely durable.
            0 => 60_000,
            _ => u64::from(u16::from_le_bytes([random[1], random[2]])),
        };
        let point = network.store_bytes() + ((2 * FILE_BYTES * share) >> 16);
        let mut upload = network
            .command(&["--quiet", "put", &path])
            .stdout(Stdio::null())
            .spawn()
            .expect("put starts");
        let begun = network.store_bytes();
        while network.store_bytes() < point && upload.try_wait().expect("ours").is_none() {
            real_sleep(Duration::from_millis(2));
        }
        if cut_client {
            upload.kill().expect("it is ours");
        }
        if kill_node {
            network.nodes("kill", &[node]);
        }
        let was_cut = upload.wait().expect("it ends").code().is_none();
        let sent = network.store_bytes().saturating_sub(begun);
        // Again, or for the first time in peace: this one is acknowledged.
        let again = network.run(&["--json", "put", &path]).text();
        let again: serde_json::Value = serde_json::from_str(&again).expect("put prints JSON");
        if kill_node {
            network.nodes("start", &[node]);
        }
        let kept = again["segments_kept"].as_u64().expect("a number");
        assert!(
            kept > 0 || !was_cut || sent < SURELY_DURABLE,
            "seed {seed}: of {sent} bytes none was kept: {again}"
        );
        resumed += u64::from(was_cut && kept > 0);
        let link = again["link"].as_str().expect("a link").to_owned();
        network.wait_complete(&link);
        stored.push((link, seed));
    }
    println!("{kills} kills, {resumed} uploads resumed");
    assert!(resumed > 0 || kills < 12, "no upload was resumed");
    for (link, seed) in &stored {
        assert_same(&network.cat(link).stdout, &bytes_of(*seed, file_bytes));
        assert_eq!(network.stat(link)["complete"], true, "seed {seed}");
    }
}

/// Every process dies at once; the same command brings all back.
#[test]
fn the_whole_network_comes_back_after_kill_9() {
    let mut network = DevNetwork::start(4);
    let content = bytes_of(4, 3 * MIB);
    let link = network.put("file", &content);
    network.kill_all();
    network.up(4);
    network.wait_complete(&link);
    assert_same(&network.cat(&link).stdout, &content);
    let more = network.put("more", &bytes_of(5, MIB));
    assert_same(&network.cat(&more).stdout, &bytes_of(5, MIB));
}

/// A put that fails for want of nodes leaves no slot behind once they are back.
#[test]
fn slots_catch_up_after_a_put_without_any_node() {
    let network = DevNetwork::start(4);
    let content = bytes_of(7, MIB);
    let link = network.put("first", &content);
    network.wait_complete(&link);
    network.nodes("kill", &[1, 2, 3, 4]);
    let path = network.path("second");
    std::fs::write(&path, &content).expect("the file is written");
    let ran = network.run(&["--quiet", "put", &path.to_string_lossy()]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    network.nodes("start", &[1, 2, 3, 4]);
    let again = network.put("second", &content);
    network.wait_complete(&again);
    network.wait_complete(&link);
    assert_same(&network.cat(&again).stdout, &content);
}

#[test]
fn a_folder_of_many_small_files_comes_back_as_it_was() {
    let network = DevNetwork::start(4);
    let count = setting("CAIRN_SMALL_FILES", 1_000);
    let folder = network.path("many");
    for index in 0..count {
        let below = folder.join(format!("d{}", index % 37));
        std::fs::create_dir_all(&below).expect("a folder is made");
        let seed = u64::try_from(index).expect("a small number");
        let content = bytes_of(seed, index * 31 % 5_000);
        std::fs::write(below.join(format!("f{index}")), content).expect("a file is written");
    }
    let link = network
        .run(&["--quiet", "put", "-r", &folder.to_string_lossy()])
        .text();
    let back = network.path("back");
    let got = network.run(&["--quiet", "get", &link, &back.to_string_lossy()]);
    assert_eq!(got.code, Some(0), "{}", got.stderr);
    for index in 0..count {
        let name = format!("d{}/f{index}", index % 37);
        let found = std::fs::read(back.join(&name)).expect("the file is back");
        assert!(
            found == std::fs::read(folder.join(&name)).expect("it is there"),
            "{name}"
        );
    }
}

/// I9: a stream of any length goes up and comes down in the memory that a client may have.
#[test]
fn i9_a_long_stream_passes_in_bounded_memory() {
    const RUN: usize = 16 * MIB;
    const CLIENT_MIB: usize = 256;
    let runs = setting("CAIRN_STREAM_MIB", 512) * MIB / RUN;
    let runs = u64::try_from(runs).expect("a small number");
    let network = DevNetwork::start(4);
    let (put, mut input) = put_stream(&network);
    for index in 0..runs {
        input.write_all(&bytes_of(index, RUN)).expect("it reads");
    }
    let put_mib = peak_mib(put.id());
    drop(input);
    let link = link_of(put);
    let mut cat = network
        .command(&["--quiet", "cat", &link])
        .stdout(Stdio::piped())
        .spawn()
        .expect("cat starts");
    let mut output = cat.stdout.take().expect("a pipe");
    let mut run = vec![0; RUN];
    let mut cat_mib = usize::MAX;
    for index in 0..runs {
        if index + 1 == runs {
            cat_mib = peak_mib(cat.id());
        }
        output.read_exact(&mut run).expect("it writes");
        assert!(run == bytes_of(index, RUN), "other bytes in run {index}");
    }
    assert_eq!(output.read(&mut run).expect("it ends"), 0);
    assert!(cat.wait().expect("it ends").success());
    println!("at most {put_mib} MiB for put, {cat_mib} MiB for cat");
    assert!(put_mib < CLIENT_MIB && cat_mib < CLIENT_MIB);
}

/// A put of its standard input, which is given to it.
fn put_stream(network: &DevNetwork) -> (Child, ChildStdin) {
    let mut put = network
        .command(&["--quiet", "put", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("put starts");
    let input = put.stdin.take().expect("a pipe");
    (put, input)
}

/// What a put prints at its end.
fn link_of(put: Child) -> String {
    let printed = put.wait_with_output().expect("it ends").stdout;
    let link = String::from_utf8(printed).expect("a link is text");
    link.trim().to_owned()
}

/// The most memory that a process has had, in MiB.
fn peak_mib(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"));
    let status = status.expect("the process is there");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: usize = peak.expect("the kernel tells").parse().expect("a number");
    kib >> 10
}

#[test]
fn a_stream_without_a_name_and_ranges_of_it() {
    let network = DevNetwork::start(4);
    let content = bytes_of(6, 2 * MIB + 5);
    let (put, mut input) = put_stream(&network);
    input.write_all(&content).expect("it reads");
    drop(input);
    let link = link_of(put);
    for (from, to) in [(0, 1), (65_535, 65_537), (MIB, 2 * MIB + 5), (7, 7)] {
        let range = format!("{from}..{to}");
        let ran = network.run(&["--quiet", "cat", &link, "--range", &range]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_same(&ran.stdout, &content[from..to]);
    }
}

fn assert_same(found: &[u8], expected: &[u8]) {
    assert_eq!(found.len(), expected.len(), "bytes");
    assert!(found == expected, "other bytes");
}

/// Flips a bit in every 64 KiB of every pack, past the first page.
fn spoil(packs: &Path) {
    let mut spoiled = 0;
    for entry in std::fs::read_dir(packs).expect("the packs are there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|end| end != "pack") {
            continue;
        }
        let mut bytes = std::fs::read(&path).expect("a pack is read");
        for at in (8_192..bytes.len()).step_by(65_536) {
            bytes[at] ^= 0x10;
            spoiled += 1;
        }
        std::fs::write(&path, bytes).expect("a pack is written");
    }
    assert!(spoiled > 0, "there was something to spoil");
}
