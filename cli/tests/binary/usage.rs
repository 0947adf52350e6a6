//! What the program says when it is used wrongly, and about itself.

use crate::cairn::Cairn;

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
}

#[test]
fn every_shell_gets_completions() {
    let cairn = Cairn::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let run = cairn.run(&["completions", shell]).done();
        assert!(run.out.contains("cairn"), "{shell}");
    }
}
