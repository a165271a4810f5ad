//! Imports go one way only, as DESIGN.md says: between the folders of `src`, and between the modules of a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What the code of a folder may name of the rest of the crate.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("task", &[]),
    ("helper", &[]),
    ("bus", &["task", "helper"]),
    ("manager", &["task", "bus", "helper", "telemetry"]),
    ("offload", &["task", "bus", "manager", "telemetry"]),
    ("http", &["task", "bus", "manager", "offload"]),
    ("api", &["task", "bus", "manager", "http"]),
    ("tool", &["task", "bus", "manager", "offload"]),
];

/// Folders whose modules name each other in no circle.
const ONE_WAY: &[&str] = &["api", "bus/redis", "helper", "manager"];

/// What everything may name.
const EVERYWHERE: &[&str] = &["panics", "log_limit"];

type Names = BTreeMap<String, BTreeSet<String>>;

#[test]
fn the_folders_name_only_what_is_below_them() {
    let mut wrong = Vec::new();
    for (folder, allowed) in MAY_NAME {
        for file in files(&source(folder)) {
            for path in paths(&code(&file)) {
                let ["crate", top, ..] = *path.split("::").collect::<Vec<_>>() else { continue };
                let is_module = top.starts_with(char::is_lowercase);
                let known = top == *folder || allowed.contains(&top) || EVERYWHERE.contains(&top);
                if is_module && !known {
                    wrong.push(format!("{} names {path}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_modules_of_a_folder_name_each_other_in_no_circle() {
    for folder in ONE_WAY {
        let mut names = modules(folder);
        // A module that names none that is left is in no circle.
        while let Some(end) = names.iter().find(|(_, named)| named.is_empty()).map(|(name, _)| name.clone()) {
            names.remove(&end);
            for named in names.values_mut() {
                named.remove(&end);
            }
        }
        assert!(names.is_empty(), "src/{folder} has a circle among these: {names:#?}");
    }
}

/// What each module of a folder names of the others. The folder's own `mod.rs` does not count: it has the public type, for
/// which the modules implement traits, and which is made of theirs.
fn modules(folder: &str) -> Names {
    let root = source(folder);
    let absolute = format!("crate::{}::", folder.replace('/', "::"));
    // What `mod.rs` only hands on belongs to the module that has it.
    let handed_on: BTreeMap<_, _> = paths(&code(&root.join("mod.rs")))
        .into_iter()
        .filter_map(|path| {
            let parts: Vec<_> = path.split("::").collect();
            (parts.len() > 2).then(|| (parts[parts.len() - 1].to_owned(), parts[1].to_owned()))
        })
        .collect();
    let exists = |name: &str| {
        !name.is_empty() && root.join(name).is_dir() || root.join(format!("{name}.rs")).is_file()
    };
    let mut names = Names::new();
    for file in files(&root).iter().filter(|file| **file != root.join("mod.rs")) {
        let below: Vec<_> =
            file.strip_prefix(&root).unwrap().iter().map(|part| part.to_str().unwrap()).collect();
        let module = below[0].trim_end_matches(".rs");
        // How many times `super` leads to the folder.
        let up = "super::".repeat(below.len() - usize::from(below[below.len() - 1] == "mod.rs"));
        let named = names.entry(module.to_owned()).or_default();
        for path in paths(&code(file)) {
            let Some(rest) = path.strip_prefix(&*up).or_else(|| path.strip_prefix(&*absolute)) else {
                continue;
            };
            let first = rest.split("::").next().unwrap();
            let target = handed_on.get(first).map_or(first, String::as_str);
            if target != module && exists(target) {
                named.insert(target.to_owned());
            }
        }
    }
    names
}

fn source(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The text of a file without comments, and without its tests, which come last.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Each path that begins with `crate`, `super` or `self`, with its braces opened: `a::{b, c}` is `a::b` and `a::c`.
fn paths(code: &str) -> Vec<String> {
    let part = |character: char| character.is_alphanumeric() || character == '_';
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = ["crate::", "super::", "self::"].iter().filter_map(|start| rest.find(start)).min() {
        let is_start = !rest[..at].ends_with(|before: char| part(before) || before == ':');
        rest = &rest[at..];
        let end = rest.find(|next: char| !part(next) && next != ':').unwrap_or(rest.len());
        let (path, after) = rest.split_at(end);
        if is_start && after.starts_with('{') {
            open(path, &mut after[1..].chars(), &mut found);
        } else if is_start {
            found.push(path.to_owned());
        }
        rest = after;
    }
    found
}

/// Reads what is between braces, up to the closing one.
fn open(prefix: &str, text: &mut std::str::Chars<'_>, found: &mut Vec<String>) {
    let mut name = String::new();
    while let Some(next) = text.next() {
        match next {
            '{' => open(&format!("{prefix}{}", std::mem::take(&mut name)), text, found),
            ',' | '}' => {
                let name = std::mem::take(&mut name);
                let name = name.split(" as ").next().unwrap().trim();
                if !name.is_empty() {
                    found.push(format!("{prefix}{name}"));
                }
                if next == '}' {
                    return;
                }
            }
            ' ' | '\n' if name.is_empty() => {}
            _ => name.push(next),
        }
    }
}
