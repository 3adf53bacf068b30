//! How each kind of entrypoint is started, and the words where it cannot be.

use super::*;
use std::io::Error;

/// An image that has `/bin/sh`, `/usr/bin/env`, and python3 and node in its PATH.
fn find(name: &str) -> Option<PathBuf> {
    match name {
        "/bin/sh" | "/usr/bin/env" => Some(name.into()),
        "python3" | "node" | "sh" => Some(Path::new("/bin").join(name)),
        _ => None,
    }
}

fn file<'a>(executable: bool, head: &'a str, language: Option<&'a str>) -> Entrypoint<'a> {
    Entrypoint { path: Path::new("/x/run"), executable, head: head.as_bytes(), language }
}

/// The beginning of this test's own program.
fn program() -> String {
    let head = std::fs::read("/proc/self/exe").unwrap();
    // Beyond what is looked at there may be bytes that are no text.
    String::from_utf8(head[..20].to_vec()).unwrap()
}

fn argv(entrypoint: &Entrypoint<'_>) -> Vec<String> {
    let start = decide(entrypoint, find).unwrap();
    [start.program].into_iter().chain(start.arguments).map(|part| part.display().to_string()).collect()
}

fn error(entrypoint: &Entrypoint<'_>) -> String {
    decide(entrypoint, find).unwrap_err().to_string()
}

#[test]
fn an_executable_file_is_executed_itself() {
    assert_eq!(argv(&file(true, "#!/bin/sh -e\n", Some("python"))), ["/x/run"]);
    for language in [None, Some("python")] {
        assert_eq!(argv(&file(true, &program(), language)), ["/x/run"]);
    }
}

#[test]
fn a_binary_that_the_kernel_would_not_execute_is_refused_and_never_left_to_a_shell() {
    let foreign = format!("\u{7f}ELF{}", "\u{1}".repeat(60));
    for head in ["\u{7f}ELF\0", "\u{7f}ELF", &foreign, "MZ\0\0"] {
        for language in [None, Some("python"), Some("cobol")] {
            let error = decide(&file(true, head, language), find).unwrap_err();
            assert_eq!(error, StartError::NotAProgram { script: "/x/run".into() }, "{head}");
        }
    }
}

#[test]
fn an_executable_text_without_first_line_runs_by_its_language() {
    assert_eq!(argv(&file(true, "import sys", Some("python"))), ["/bin/python3", "/x/run"]);
    let error = error(&file(true, "import sys", Some("cobol")));
    assert!(error.starts_with("entrypoint.language \"cobol\" is not known"), "{error}");
}

#[test]
fn an_executable_text_with_neither_is_run_by_the_shell_as_under_cloudstack() {
    for head in ["echo", "\u{feff}echo é", "", "# a comment\necho"] {
        assert_eq!(argv(&file(true, head, None)), ["/bin/sh", "/x/run"], "{head}");
    }
    let error = decide(&file(true, "echo", None), |_| None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"/x/run\" has no #! line, and the image has no /bin/sh to run it: use a runtime.image that has one, or give the \
         file a #! line"
    );
    assert_eq!(error.fault(), Some(Fault::InterpreterMissing));
}

#[test]
fn without_execute_bit_the_first_line_decides_as_in_the_kernel() {
    assert_eq!(argv(&file(false, "#!/bin/sh\n", None)), ["/bin/sh", "/x/run"]);
    assert_eq!(argv(&file(false, "#! \t/bin/sh  -e -u \necho", Some("python"))), ["/bin/sh", "-e -u", "/x/run"]);
    assert_eq!(argv(&file(false, "#!/usr/bin/env python3\r\n", None)), ["/usr/bin/env", "python3", "/x/run"]);
    assert_eq!(argv(&file(false, "#!/bin/sh", None)), ["/bin/sh", "/x/run"], "no line end");
}

#[test]
fn without_first_line_the_language_decides_in_any_case() {
    assert_eq!(argv(&file(false, "import sys", Some("Python"))), ["/bin/python3", "/x/run"]);
    assert_eq!(argv(&file(false, "", Some("NodeJS"))), ["/bin/node", "/x/run"]);
    assert_eq!(argv(&file(false, "#!\n", Some("sh"))), ["/bin/sh", "/x/run"]);
}

#[test]
fn every_language_named_in_the_error_is_known() {
    assert!(LANGUAGE_NAMES.split(", ").all(|name| interpreters(name).is_some()));
    assert_eq!(LANGUAGE_NAMES.split(", ").count(), LANGUAGES.len());
}

#[test]
fn what_is_missing_is_said_before_anything_starts() {
    for executable in [true, false] {
        for head in ["#!/usr/bin/ruby\n", "#!/usr/bin/env ruby\n"] {
            let error = error(&file(executable, head, None));
            assert!(error.contains("ruby\", which the #! line of \"/x/run\" names, not found in the image"), "{error}");
        }
    }
    assert_eq!(
        error(&file(true, "#!/bin/sh\r\n", None)),
        "interpreter \"/bin/sh\" not found: the #! line of \"/x/run\" ends in CR (Windows line ends): use LF"
    );
    assert_eq!(
        error(&file(false, "", Some("ruby"))),
        "no interpreter for entrypoint.language \"ruby\" found in the image (looked for ruby): use a \
         runtime.image that has it"
    );
    assert_eq!(
        error(&file(false, "", Some("cobol"))),
        "entrypoint.language \"cobol\" is not known, and \"/x/run\" cannot be executed itself: use one of python, \
         bash, sh, javascript, ruby, perl, php, lua, powershell, or give the file its execute bit and a #! line"
    );
    assert_eq!(
        error(&file(false, "echo", None)),
        "\"/x/run\" cannot be executed: it has no execute bit (or is on a noexec volume) and no #! line, and \
         entrypoint.language is not set: give it one of them"
    );
}

#[test]
fn an_exec_that_failed_is_explained() {
    let explain = |head, errno| {
        let entrypoint = file(true, head, None);
        let start = Start { program: "/x/run".into(), arguments: vec![] };
        explain(&entrypoint, &start, &Error::from_raw_os_error(errno)).map(|error| error.to_string())
    };
    let (enoent, enoexec, eacces, enomem) = (2, 8, 13, 12);
    assert!(explain("#!/bin/sh\n", enoent).unwrap().starts_with("interpreter \"/bin/sh\""));
    assert_eq!(
        explain("\u{7f}ELF", enoent).unwrap(),
        "the loader that \"/x/run\" needs is not in the image: it was linked against another C library"
    );
    assert_eq!(
        explain("echo", enoexec).unwrap(),
        "\"/x/run\" is no program that this machine can execute: it is no text, and was not built for this architecture; \
         build it for this one"
    );
    assert_eq!(
        explain("", eacces).unwrap(),
        "\"/x/run\" must not be executed (permission denied): it needs its execute bit, on a volume without noexec"
    );
    assert_eq!(explain("", enomem), None);
}
