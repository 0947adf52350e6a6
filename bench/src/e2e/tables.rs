//! The tables of an end-to-end measurement: medians over the rounds.

use std::time::Duration;

use cairn_core::ByteCount;

use super::member::Moved;
use super::primitives::Primitives;
use super::{Round, Settings, Step};
use crate::report::Report;

/// All tables.
pub(super) fn reports(
    settings: &Settings,
    rounds: &[Round],
    files_bytes: ByteCount,
) -> Vec<Report> {
    let mut reports = vec![
        steps(settings, rounds),
        primitives(settings, rounds),
        ranges(rounds),
    ];
    if settings.file_count > 0 {
        reports.push(files(settings, rounds, files_bytes));
    }
    reports
}

/// MB (10^6 bytes) per CPU-second of all processes.
pub(super) fn megabytes_per_cpu_second(step: &Step) -> f64 {
    megabytes(step) / step.cpu().as_secs_f64()
}

fn megabytes(step: &Step) -> f64 {
    float(step.bytes) / 1e6
}

/// Sizes here are far below 2^53.
fn float(count: u64) -> f64 {
    let high = u32::try_from(count >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(count & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

/// The median with the least and the most.
fn spread(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    let (least, most) = (at(0), at(values.len().saturating_sub(1)));
    let middle = median(&values);
    if values.len() < 2 {
        return format!("{middle:.digits$}");
    }
    format!("{middle:.digits$} ({least:.digits$}-{most:.digits$})")
}

fn median(sorted: &[f64]) -> f64 {
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        at(half)
    } else {
        f64::midpoint(at(half.saturating_sub(1)), at(half))
    }
}

fn row<T>(name: &str, items: &[T], digits: usize, columns: &[fn(&T) -> f64]) -> Vec<String> {
    let cell = |column: &fn(&T) -> f64| spread(items.iter().map(column), digits);
    let mut cells = vec![name.to_owned()];
    cells.extend(columns.iter().map(cell));
    cells
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

fn mebibytes(bytes: u64) -> f64 {
    float(bytes) / 1_048_576.0
}

fn both(rounds: &[Round]) -> Vec<(Step, Step)> {
    let pair = |round: &Round| (round.upload, round.download);
    rounds.iter().map(pair).collect()
}

fn steps(settings: &Settings, rounds: &[Round]) -> Report {
    let first = rounds.first();
    let title = format!(
        "{} through {} nodes, profile {} ({}), {} rounds: median (least-most). {} segments, {} \
         shards left to catch up with. Nodes without work: {:.3} CPU-seconds a second, all together.",
        settings.size,
        settings.node_count,
        settings.profile,
        settings.profile.code(),
        rounds.len(),
        first.map_or(0, |round| round.segments),
        rounds.iter().map(|round| round.left_behind).sum::<u64>(),
        rounds
            .iter()
            .map(|round| seconds(round.idle))
            .fold(0.0, f64::max),
    );
    let mut report = Report::new(title, &["", "upload", "download"]);
    for cells in step_rows(&both(rounds)) {
        report.push(cells);
    }
    let durable = spread(rounds.iter().map(|round| seconds(round.durable_wall)), 2);
    report.push(vec![
        "wall s until revised (upload)".to_owned(),
        durable,
        String::new(),
    ]);
    report
}

fn step_rows(steps: &[(Step, Step)]) -> Vec<Vec<String>> {
    type Of = fn(&Step) -> f64;
    let line = |name: &str, digits: usize, of: Of| {
        let up = spread(steps.iter().map(|step| of(&step.0)), digits);
        let down = spread(steps.iter().map(|step| of(&step.1)), digits);
        vec![name.to_owned(), up, down]
    };
    vec![
        line(
            "MB per CPU-second, all processes",
            0,
            megabytes_per_cpu_second,
        ),
        line("CPU s, all processes", 2, |step| seconds(step.cpu())),
        line("CPU s, client", 2, |step| {
            seconds(step.client.cpu.saturating_sub(step.aside))
        }),
        line("of that in the kernel", 2, |step| {
            seconds(step.client.kernel)
        }),
        line("CPU s, nodes", 2, |step| seconds(step.nodes.cpu)),
        line("of that in the kernel", 2, |step| {
            seconds(step.nodes.kernel)
        }),
        line("CPU s, sequencer", 3, |step| seconds(step.sequencer.cpu)),
        line("taken off: source and comparison, CPU s", 2, |step| {
            seconds(step.aside)
        }),
        line("wall s", 2, |step| seconds(step.wall)),
        line("peak memory of the client, MiB", 0, |step| {
            mebibytes(step.client.memory_peak)
        }),
        line("peak memory of the largest node, MiB", 0, |step| {
            mebibytes(step.node_peak)
        }),
        line("page faults, client, thousands", 0, |step| {
            float(step.client.faults) / 1e3
        }),
        line("page faults, nodes, thousands", 0, |step| {
            float(step.nodes.faults) / 1e3
        }),
        line("waits, client, thousands", 1, |step| {
            float(step.client.waits) / 1e3
        }),
        line("waits, nodes, thousands", 1, |step| {
            float(step.nodes.waits) / 1e3
        }),
        line("data plane bytes per byte", 3, |step| {
            float(step.traffic.sent + step.traffic.received) / float(step.bytes)
        }),
        line("data plane requests", 0, |step| {
            float(step.traffic.requests)
        }),
        line("control requests of the client", 0, |step| {
            float(step.traffic.control_requests)
        }),
    ]
}

/// A round with its primitives in seconds for the file.
struct Sums {
    upload_cpu: f64,
    download_cpu: f64,
    bytes: f64,
    primitives: Primitives,
}

impl Sums {
    fn of(round: &Round) -> Self {
        Self {
            upload_cpu: seconds(round.upload.cpu()),
            download_cpu: seconds(round.download.cpu()),
            bytes: float(round.upload.bytes),
            primitives: round.primitives,
        }
    }

    fn upload(&self) -> f64 {
        self.primitives.upload() * self.bytes
    }

    fn download(&self) -> f64 {
        self.primitives.download() * self.bytes
    }
}

fn primitives(settings: &Settings, rounds: &[Round]) -> Report {
    let title = format!(
        "The primitives' own CPU seconds for the same bytes ({}), measured after each round on one \
         thread, and the ratio of the path's to their sum",
        settings.size
    );
    let mut report = Report::new(title, &["primitive", "upload", "download"]);
    let sums: Vec<Sums> = rounds.iter().map(Sums::of).collect();
    type Of = fn(&Sums) -> f64;
    let mut line = |name: &str, up: Option<Of>, down: Option<Of>| {
        let cell = |of: Option<Of>| of.map_or(String::new(), |of| spread(sums.iter().map(of), 2));
        report.push(vec![name.to_owned(), cell(up), cell(down)]);
    };
    line(
        "cipher: encrypt, decrypt",
        Some(|s| s.primitives.encrypt * s.bytes),
        Some(|s| s.primitives.decrypt * s.bytes),
    );
    line(
        "code: encode",
        Some(|s| s.primitives.encode * s.bytes),
        None,
    );
    line(
        "hash: n shards by the client, n by the nodes; k by the client",
        Some(|s| 2.0 * s.primitives.hash_all * s.bytes),
        Some(|s| s.primitives.hash_data * s.bytes),
    );
    line(
        "transport: plain rustls over TCP, both ends",
        Some(|s| s.primitives.move_all * s.bytes),
        Some(|s| s.primitives.move_data * s.bytes),
    );
    line(
        "disk: write and fdatasync; read from the page cache",
        Some(|s| s.primitives.write_all * s.bytes),
        Some(|s| s.primitives.read_data * s.bytes),
    );
    line("sum", Some(Sums::upload), Some(Sums::download));
    line("the path", Some(|s| s.upload_cpu), Some(|s| s.download_cpu));
    line(
        "ratio (goal: at most 1.5)",
        Some(|s| s.upload_cpu / s.upload()),
        Some(|s| s.download_cpu / s.download()),
    );
    line(
        "signatures made and verified, in no sum",
        Some(|s| s.primitives.sign * s.bytes),
        None,
    );
    report
}

fn ranges(rounds: &[Round]) -> Report {
    let mut report = Report::new(
        "A cold client reads 64 KiB from the middle of the file; its link is open, no connection \
         to the slot's node unless opening made one. Bytes are those of data plane messages, to \
         which TLS adds 22 for every 16 KiB",
        &[
            "range",
            "bytes received",
            "bytes sent",
            "received / 64 KiB",
            "requests",
            "streams opened",
            "control requests",
            "ms",
        ],
    );
    let names = ["at a frame's start", "half a frame later"];
    for (at, name) in names.into_iter().enumerate() {
        let reads: Vec<Moved> = rounds
            .iter()
            .filter_map(|round| round.ranges.get(at).cloned())
            .collect();
        let mut cells = row(
            name,
            &reads,
            0,
            &[
                |read| float(read.traffic.received),
                |read| float(read.traffic.sent),
            ],
        );
        cells.extend(
            row(
                "",
                &reads,
                3,
                &[|read| float(read.traffic.received) / 65_536.0],
            )
            .into_iter()
            .skip(1),
        );
        cells.extend(
            row(
                "",
                &reads,
                0,
                &[
                    |read| float(read.traffic.requests),
                    |read| float(read.traffic.streams),
                    |read| float(read.traffic.control_requests),
                ],
            )
            .into_iter()
            .skip(1),
        );
        cells.extend(
            row("", &reads, 1, &[|read| seconds(read.wall) * 1e3])
                .into_iter()
                .skip(1),
        );
        report.push(cells);
    }
    report
}

fn files(settings: &Settings, rounds: &[Round], bytes: ByteCount) -> Report {
    let title = format!(
        "{} small files, {bytes} together, as one folder",
        settings.file_count
    );
    let steps: Vec<(Step, Step)> = rounds.iter().filter_map(|round| round.files).collect();
    let mut report = Report::new(title, &["", "upload", "download"]);
    for cells in step_rows(&steps) {
        report.push(cells);
    }
    report
}
