//! `docs/cli.md`, made from the same definition as the help.

use std::fmt::Write;

use clap::{Arg, Command, CommandFactory};

use crate::args::Args;

/// The reference of the whole command line, in Markdown.
pub(crate) fn markdown() -> String {
    let mut root = Args::command();
    root.build();
    let mut text = String::from("# The command line\n\n");
    text.push_str("Made from the program's own definition; a test keeps it so.\n\n");
    if let Some(about) = root.get_about() {
        line(&mut text, &format!("{about}\n"));
    }
    line(
        &mut text,
        "Exit codes: 0 done, 1 what was asked for is not so, 2 usage or config,",
    );
    line(
        &mut text,
        "3 network or node, 4 local storage, 130 or 143 stopped by a signal.\n",
    );
    line(&mut text, "## Flags of every command\n");
    arguments(
        &mut text,
        root.get_arguments().filter(|arg| arg.is_global_set()),
    );
    for command in root.get_subcommands() {
        describe(&mut text, command, "cairn");
    }
    while text.ends_with("\n\n") {
        text.pop();
    }
    text
}

fn line(text: &mut String, content: &str) {
    text.push_str(content);
    text.push('\n');
}

fn describe(text: &mut String, command: &Command, above: &str) {
    let name = format!("{above} {}", command.get_name());
    if command.get_name() == "help" || command.is_hide_set() {
        return;
    }
    line(text, &format!("## {name}\n"));
    if let Some(about) = command.get_about() {
        line(text, &format!("{about}\n"));
    }
    let usage = command.clone().render_usage().to_string();
    line(
        text,
        &format!(
            "```text\n{}\n```\n",
            usage.trim_start_matches("Usage: ").trim()
        ),
    );
    let own = command.get_arguments().filter(|arg| {
        let general = ["help", "version"].contains(&arg.get_id().as_str());
        !general && !arg.is_global_set() && !arg.is_hide_set()
    });
    arguments(text, own);
    for inner in command.get_subcommands() {
        describe(text, inner, &name);
    }
}

fn arguments<'a>(text: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let mut any = false;
    for arg in arguments {
        any = true;
        let mut entry = format!("- {}: {}", shown(arg), help_of(arg));
        if let Some(name) = arg.get_env().and_then(|name| name.to_str()) {
            write!(entry, " In the environment: `{name}`.").unwrap_or_default();
        }
        let defaults: Vec<&str> = arg
            .get_default_values()
            .iter()
            .filter_map(|value| value.to_str())
            .collect();
        if arg.get_action().takes_values() && !defaults.is_empty() {
            write!(entry, " Default: `{}`.", defaults.join(" ")).unwrap_or_default();
        }
        line(text, &entry);
    }
    if any {
        text.push('\n');
    }
}

/// The help as a sentence; clap takes the full stop off.
fn help_of(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    format!("{}.", help.trim_end_matches('.'))
}

/// `--range A..B`, `-q, --quiet`, `LINK`.
fn shown(arg: &Arg) -> String {
    let value = arg.get_value_names().and_then(|names| names.first());
    let value = value.map(ToString::to_string).unwrap_or_default();
    let Some(long) = arg.get_long() else {
        return format!("`{value}`");
    };
    let short = arg
        .get_short()
        .map(|c| format!("-{c}, "))
        .unwrap_or_default();
    if arg.get_action().takes_values() {
        format!("`{short}--{long} {value}`")
    } else {
        format!("`{short}--{long}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    const README: &str = include_str!("../../README.md");

    /// Commands of this program in a document: lines of its shell blocks, and words in
    /// backquotes.
    fn commands(document: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut in_code = false;
        for line in document.lines() {
            if line.starts_with("```") {
                in_code = !in_code;
            } else if in_code {
                let command = line.split(" #").next().unwrap_or_default().trim();
                found.push(command.trim_end_matches('&').to_owned());
            } else {
                found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
            }
        }
        found.retain(|text| text.starts_with("cairn "));
        found
    }

    #[test]
    fn the_readme_types_commands_that_exist() {
        let commands = commands(README);
        assert!(commands.len() > 8, "{commands:?}");
        for command in commands {
            let words = command.split_whitespace();
            let parsed = <Args as clap::Parser>::try_parse_from(words);
            // A verb alone stands for the command; what it needs is left out.
            let told = parsed.map(drop).or_else(|error| match error.kind() {
                clap::error::ErrorKind::MissingRequiredArgument
                | clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Ok(()),
                _ => Err(error),
            });
            assert!(told.is_ok(), "{command}: {told:?}");
        }
    }

    /// Set `CAIRN_WRITE_REFERENCE=1` to write the file anew.
    #[test]
    fn the_reference_is_that_of_this_program() {
        let made = markdown();
        if std::env::var_os("CAIRN_WRITE_REFERENCE").is_some() {
            std::fs::write(PATH, &made).unwrap();
        }
        let kept = std::fs::read_to_string(PATH).unwrap_or_default();
        assert_eq!(
            kept, made,
            "run with CAIRN_WRITE_REFERENCE=1 to write it anew"
        );
    }
}
