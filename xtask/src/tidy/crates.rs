//! Who may know whom: the edges between our crates, and the libraries that one crate hides.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::tree::{Tree, TreeFile};
use super::{Problem, Rule};

/// One crate: its folder, its layer, and the folders it may import. The table of DESIGN.md
/// section 2; `cli` is also where the one binary is put together, so it knows `net` and `ledger`.
struct Member {
    folder: &'static str,
    layer: u8,
    imports: &'static [&'static str],
}

/// What crates that look at everything may import.
const EVERYTHING: &[&str] = &[
    "cli",
    "client",
    "coding",
    "consensus",
    "core",
    "engine",
    "fuse",
    "gateway",
    "ledger",
    "net",
    "node",
    "proofs",
    "runtime",
    "tests",
    "volume",
];
/// What both roles may import.
const ROLE: &[&str] = &["core", "coding", "proofs", "ledger", "net", "runtime"];
/// What a view may import.
const VIEW: &[&str] = &["volume", "client", "core", "runtime"];
/// What the one binary may import.
const BINARY: &[&str] = &[
    "volume",
    "client",
    "core",
    "runtime",
    "node",
    "consensus",
    "net",
    "ledger",
];

const MEMBERS: &[Member] = &[
    Member {
        folder: "core",
        layer: 0,
        imports: &[],
    },
    Member {
        folder: "coding",
        layer: 1,
        imports: &["core"],
    },
    Member {
        folder: "proofs",
        layer: 1,
        imports: &["core"],
    },
    Member {
        folder: "ledger",
        layer: 1,
        imports: &["core", "proofs"],
    },
    Member {
        folder: "runtime",
        layer: 2,
        imports: &[],
    },
    Member {
        folder: "net",
        layer: 2,
        imports: &["core", "runtime"],
    },
    Member {
        folder: "engine",
        layer: 1,
        imports: &[],
    },
    Member {
        folder: "consensus",
        layer: 2,
        imports: &["core", "engine", "ledger", "runtime"],
    },
    Member {
        folder: "node",
        layer: 3,
        imports: ROLE,
    },
    Member {
        folder: "client",
        layer: 3,
        imports: ROLE,
    },
    Member {
        folder: "volume",
        layer: 4,
        imports: &["core", "runtime", "client"],
    },
    Member {
        folder: "fuse",
        layer: 5,
        imports: VIEW,
    },
    Member {
        folder: "gateway",
        layer: 5,
        imports: VIEW,
    },
    Member {
        folder: "cli",
        layer: 5,
        imports: BINARY,
    },
    Member {
        folder: "tests",
        layer: 6,
        imports: EVERYTHING,
    },
    Member {
        folder: "bench",
        layer: 6,
        imports: EVERYTHING,
    },
    Member {
        folder: "fuzz",
        layer: 6,
        imports: EVERYTHING,
    },
    Member {
        folder: "xtask",
        layer: 6,
        imports: &[],
    },
];

/// Libraries whose types stay in one place: start of the package's name, and the folders that may
/// use it. What measures and what tests the whole may use them too.
const HIDDEN: &[(&str, &[&str])] = &[
    ("libp2p", &["net"]),
    ("sled", &["node", "volume"]),
    ("commonware", &["engine"]),
    ("fuser", &["fuse"]),
];

/// Reports edges that the table does not have and crates that go their own way.
pub(super) fn check(tree: &Tree, problems: &mut Vec<Problem>) {
    for file in &tree.files {
        let parts: Vec<&str> = file.path.iter().filter_map(|part| part.to_str()).collect();
        if let [folder, "Cargo.toml"] = parts.as_slice() {
            check_crate(folder, file, problems);
        }
    }
}

fn check_crate(folder: &str, file: &TreeFile, problems: &mut Vec<Problem>) {
    let table: Table = match file.text.parse() {
        Ok(table) => table,
        Err(error) => {
            let text = error.to_string().replace('\n', " ");
            problems.push(Problem::new(Rule::Syntax, &file.path, 1, text));
            return;
        }
    };
    let Some(member) = MEMBERS.iter().find(|member| member.folder == folder) else {
        let text = format!("{folder} is no crate of the design; a new one needs a decision");
        problems.push(Problem::new(Rule::CrateEdge, &file.path, 1, text));
        return;
    };
    let imports: BTreeSet<&str> = member.imports.iter().copied().collect();
    let kinds = ["dependencies", "build-dependencies", "dev-dependencies"];
    for kind in kinds {
        let allowed = if kind == "dev-dependencies" {
            test_imports(member)
        } else {
            imports.clone()
        };
        check_dependencies(member, &allowed, file, table.get(kind), problems);
    }
    // A workspace of its own has its own lints and versions.
    if table.contains_key("workspace") {
        return;
    }
    let lints = table.get("lints").and_then(|lints| lints.get("workspace"));
    if lints != Some(&Value::Boolean(true)) {
        let text = "expected [lints] workspace = true";
        problems.push(Problem::new(Rule::CargoFile, &file.path, 1, text));
    }
    for dependencies in kinds.into_iter().filter_map(|kind| table.get(kind)) {
        check_versions(file, dependencies, problems);
    }
}

/// The workspace says which version of a library is used, once for all crates.
fn check_versions(file: &TreeFile, dependencies: &Value, problems: &mut Vec<Problem>) {
    for (name, value) in dependencies.as_table().into_iter().flatten() {
        if value.get("workspace") != Some(&Value::Boolean(true)) {
            let line = file.line_starting(name);
            let text = format!("{name}: expected workspace = true");
            problems.push(Problem::new(Rule::CargoFile, &file.path, line, text));
        }
    }
}

/// A crate's own tests may use what lies below it, and a role's the process that orders its
/// transactions; two roles meet in `tests`.
fn test_imports(member: &Member) -> BTreeSet<&'static str> {
    let below = MEMBERS.iter().filter(|other| other.layer < member.layer);
    let own = member.imports.iter().copied();
    below.map(|other| other.folder).chain(own).collect()
}

fn check_dependencies(
    member: &Member,
    allowed: &BTreeSet<&str>,
    file: &TreeFile,
    dependencies: Option<&Value>,
    problems: &mut Vec<Problem>,
) {
    let Some(Value::Table(dependencies)) = dependencies else {
        return;
    };
    for name in dependencies.keys() {
        let line = file.line_starting(name);
        let mut report = |rule, text| problems.push(Problem::new(rule, &file.path, line, text));
        if let Some(other) = name.strip_prefix("cairn-")
            && !allowed.contains(other)
        {
            let text = format!("{} must not import {other}", member.folder);
            report(Rule::CrateEdge, text);
        }
        if let Some((library, homes)) = hidden(name)
            && member.layer < 6
            && !homes.contains(&member.folder)
        {
            let homes = homes.join(" and ");
            report(Rule::ForeignCrate, format!("{library} stays in {homes}"));
        }
    }
}

fn hidden(name: &str) -> Option<(&'static str, &'static [&'static str])> {
    HIDDEN
        .iter()
        .find(|(library, _)| name == *library || name.starts_with(&format!("{library}-")))
        .map(|(library, homes)| (*library, *homes))
}
