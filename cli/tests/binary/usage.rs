//! What the program says when it is used wrongly, and about itself.

use crate::cairn::{Cairn, until};

#[test]
fn a_wrong_command_line_is_usage() {
    let cairn = Cairn::new();
    cairn.run(&["fetch"]).failed(2, "unrecognized subcommand");
    cairn
        .run(&["cat", "cairn:x", "--range", "9..1"])
        .failed(2, "expected a range");
    cairn
        .run(&["dev", "--profile", "huge"])
        .failed(2, "expected a profile");
    cairn
        .run(&["--log", "x=y=z", "init"])
        .failed(2, "is no log filter");
}

#[test]
fn a_network_that_does_not_fit_is_usage_with_a_hint() {
    let cairn = Cairn::new();
    cairn
        .run(&["dev", "--nodes", "8", "--profile", "standard"])
        .failed(2, "hint: cairn dev --nodes 40 --profile standard");
}

#[test]
fn errors_are_json_where_json_is_asked_for() {
    let run = Cairn::new().run(&["--json", "put", "nothing"]);
    let error: serde_json::Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!(error["exit_code"], run.code);
    assert!(error["error"].is_string());
    assert!(run.out.is_empty());
    let run = Cairn::new().run(&["put", "--json", "--surprise"]);
    let error: serde_json::Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!((run.code, &error["exit_code"]), (2, &2.into()));
    assert!(error["error"].as_str().unwrap().contains("--surprise"));
}

/// A pipe that nobody writes to is waited for, and the wait can be ended.
#[test]
fn ctrl_c_ends_a_command_that_waits_for_its_input() {
    let cairn = Cairn::new();
    let pipe = cairn.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let child = cairn
        .command(&["put", pipe.to_str().unwrap()])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id().to_string();
    until("the signal is waited for", || catches_interrupts(&id));
    let sent = std::process::Command::new("kill")
        .args(["-INT", &id])
        .status();
    assert!(sent.unwrap().success());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130));
    assert_eq!(ended.stderr, b"error: interrupted\n");
}

/// Whether the process has a handler for SIGINT, the second bit of its mask.
fn catches_interrupts(process: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    u64::from_str_radix(mask.unwrap().trim(), 16).unwrap() & 2 != 0
}

#[test]
fn what_is_no_link_or_no_range_is_usage() {
    let cairn = Cairn::new();
    cairn.run(&["get", "cairn:", "x"]).failed(2, "cut short");
    cairn
        .run(&["cat", "cairn:x", "--range", "-1..2"])
        .failed(2, "expected a range");
}

#[test]
fn every_shell_gets_completions() {
    let cairn = Cairn::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let run = cairn.run(&["completions", shell]).done();
        assert!(run.out.contains("cairn"), "{shell}");
    }
}
