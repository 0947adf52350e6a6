//! The detection curve: how soon the loss of 1 % of a node's bytes is found.
//!
//! `CAIRN_DETECTION_RUNS=20000 cargo nextest run -p cairn-tests --no-capture detection` prints it.

use cairn_tests::detection::measure;
use cairn_tests::system::setting;

/// Runs of the usual form: some seconds.
const RUNS: usize = 1_000;
/// By then it is found with 99.9 %.
const EPOCHS: usize = 22;
/// How far a count may be off the model: so far it is once in 16,000.
const SIGMAS: f64 = 4.0;

/// At each epoch the runs that are not found yet are as many as (1 - p)^(32 e) of them, within four
/// standard deviations and one run; after 22 epochs fewer than 1 in 1,000 by the model.
#[test]
fn detection_of_one_percent_follows_the_model() {
    let runs = u32::try_from(setting("CAIRN_DETECTION_RUNS", RUNS)).expect("fewer than 2^32");
    let curve = measure(1, runs, 0.01, EPOCHS);
    println!("{runs} runs: not found after so many epochs, by the model, sigma");
    for (epoch, point) in (1..).zip(&curve.points) {
        let (found, expected, sigma) = (f64::from(point.undetected), point.expected, point.sigma);
        println!("{epoch:>3} {found:>8} {expected:>10.1} {sigma:>7.1}");
        let off = (found - expected).abs();
        assert!(
            off <= SIGMAS * sigma + 1.0,
            "epoch {epoch}: expected {expected} runs within {SIGMAS} of {sigma}, found {found}"
        );
    }
    let last = curve.points.last().expect("22 epochs");
    assert!(last.expected < f64::from(runs) / 1_000.0, "{last:?}");
}

/// Who has deleted half is found at once.
#[test]
fn detection_of_half_of_the_bytes_takes_one_epoch() {
    let curve = measure(2, 20, 0.5, 2);
    assert_eq!(curve.points[0].undetected, 0, "{curve:?}");
}
