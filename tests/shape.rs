//! The shape of the code: pure modules reach no client, clock, network, file system or environment.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules that are pure as a whole. Other files join them by saying "Pure" in the first line of their documentation.
const PURE: &[&str] = &["manifest", "validate", "action", "protocol", "api", "signature", "digest.rs"];

/// What a pure module must not name, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("kube::Client", "a client"),
    ("kube::client", "a client"),
    ("kube::Api", "a client"),
    ("kube::api::Api", "a client"),
    ("kube::runtime", "a client"),
    ("std::fs", "the file system"),
    ("rustix", "the file system"),
    ("tempfile", "the file system"),
    // addresses are data; only what opens a socket or looks a name up reaches outside
    ("TcpStream", "the network"),
    ("TcpListener", "the network"),
    ("UdpSocket", "the network"),
    ("ToSocketAddrs", "the network"),
    ("tokio", "the network"),
    ("reqwest", "the network"),
    ("ureq", "the network"),
    ("hyper", "the network"),
    ("axum", "the network"),
    ("gix", "the network"),
    ("std::env", "the environment"),
    ("std::process", "the environment"),
    ("std::thread", "the environment"),
    ("Timestamp::now", "a clock"),
    ("Zoned::now", "a clock"),
    ("SystemTime::now", "a clock"),
    ("Instant::now", "a clock"),
];

/// The code of a file, without comments and without its test module.
fn code(source: &str) -> String {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    lines.map(|line| line.split(" // ").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// All paths of a use tree: `a::{b, c::{d, self}}` is `a::b`, `a::c::d`, `a::c::self`.
fn expand(prefix: &str, tree: &str) -> Vec<String> {
    let Some(open) = tree.find('{') else { return vec![format!("{prefix}{tree}")] };
    let (head, group) = (&tree[..open], tree[open + 1..].strip_suffix('}').unwrap_or(&tree[open + 1..]));
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (index, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[start..]);
    let prefix = format!("{prefix}{head}");
    parts.into_iter().filter(|part| !part.is_empty()).flat_map(|part| expand(&prefix, part)).collect()
}

/// What a source names that a pure module must not.
fn impurities(source: &str) -> Vec<String> {
    let code = code(source);
    let mut text: String = String::new();
    for statement in code.split(';') {
        text.push_str(statement);
        text.push_str(" ; ");
        if let Some(at) = statement.rfind("use ") {
            let tree: String = statement[at + 4..].chars().filter(|c| !c.is_whitespace()).collect();
            text.push_str(&expand("", &tree).join(" ; "));
            text.push_str(" ; ");
        }
    }
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let named = |word: &str| {
        text.match_indices(word).any(|(at, _)| {
            let before = text[..at].chars().next_back().is_none_or(|c| !part_of_name(c));
            let after = text[at + word.len()..].chars().next();
            before && after.is_none_or(|c| !part_of_name(c)) && (word.contains("::") || uses_crate(&text, at, word))
        })
    };
    FORBIDDEN.iter().filter(|(word, _)| named(word)).map(|(word, what)| format!("{word} ({what})")).collect()
}

/// Whether the bare word at `at` is a path's beginning or a type that is used, and not a word inside other text.
fn uses_crate(text: &str, at: usize, word: &str) -> bool {
    let rest = &text[at + word.len()..];
    rest.starts_with("::") || text[..at].trim_end().ends_with(['&', ':', '<', '(']) || text[..at].ends_with("use ")
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// Whether a file is one of tests only.
fn is_test(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    name == "tests" || name.ends_with("_tests") || path.components().any(|part| part.as_os_str() == "tests")
}

#[test]
fn pure_modules_reach_nothing_outside() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files).unwrap();
    let mut checked = 0;
    let mut findings = Vec::new();
    for path in files {
        let relative = path.strip_prefix(&root).unwrap().to_path_buf();
        let source = fs::read_to_string(&path).unwrap();
        let says_pure = source.lines().next().is_some_and(|line| line.starts_with("//!") && line.contains("Pure"));
        let listed = PURE.iter().any(|module| relative.starts_with(module));
        if is_test(&relative) || !(listed || says_pure) {
            continue;
        }
        checked += 1;
        findings.extend(impurities(&source).into_iter().map(|what| format!("src/{}: {what}", relative.display())));
    }
    assert!(checked > 25, "only {checked} files were found: the list of pure modules no longer fits");
    assert!(findings.is_empty(), "pure modules must not reach outside:\n{}", findings.join("\n"));
}

#[test]
fn what_a_pure_module_must_not_name_is_found() {
    let planted = [
        ("use std::fs;", "std::fs"),
        ("use std::{collections::BTreeMap, fs::File};", "std::fs"),
        ("use std::{\n    fmt,\n    net::{IpAddr, TcpStream},\n};", "TcpStream"),
        ("fn f() { let _ = std::env::var(\"X\"); }", "std::env"),
        ("use kube::{Api, CustomResource};", "kube::Api"),
        ("use kube::api::{Api, ObjectMeta};", "kube::api::Api"),
        ("async fn f(c: kube::Client) {}", "kube::Client"),
        ("use kube::runtime::watcher;", "kube::runtime"),
        ("use tokio::sync::Mutex;", "tokio"),
        ("fn f() { reqwest::get(\"x\"); }", "reqwest"),
        ("fn f() -> jiff::Timestamp { jiff::Timestamp::now() }", "Timestamp::now"),
        ("fn f() { let t = std::time::SystemTime::now(); }", "SystemTime"),
        ("use std::time::Instant;\nfn f() { let t = Instant::now(); }", "Instant::now"),
        ("use rustix::fs::openat;", "rustix"),
    ];
    for (source, word) in planted {
        let found = impurities(source);
        assert!(found.iter().any(|finding| finding.starts_with(word)), "{source}: {found:?}");
    }
}

#[test]
fn what_is_harmless_is_let_through() {
    let harmless = [
        "//! Reads no std::fs and no tokio.",
        "use std::time::Duration; use kube::{CustomResource, KubeSchema};",
        "use kube::api::ObjectMeta; use crate::protocol::env;",
        "fn f() {}\n#[cfg(test)]\nmod tests { use std::fs; }",
        "fn f(now: jiff::Timestamp) {} // not Timestamp::now",
        "const TEXT: &str = \"a tokio of esteem\";",
    ];
    for source in harmless {
        assert_eq!(impurities(source), Vec::<String>::new(), "{source}");
    }
}
