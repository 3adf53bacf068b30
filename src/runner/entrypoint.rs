//! How an entrypoint is started: directly, by its `#!` line, or by its language. Pure.

use std::path::{Path, PathBuf};

/// How many bytes of a file the kernel looks at for a `#!` line (`BINPRM_BUF_SIZE`).
pub const HEAD_BYTES: usize = 256;

/// What a decision needs to know of the entrypoint's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrypoint<'a> {
    /// Absolute path.
    pub path: &'a Path,
    /// Whether the kernel would execute it: an execute bit, on a mount without `noexec`.
    pub executable: bool,
    /// Its first [`HEAD_BYTES`] bytes.
    pub head: &'a [u8],
    /// `entrypoint.language` of the manifest.
    pub language: Option<&'a str>,
}

/// A program, and the arguments that come before the script's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Absolute path.
    pub program: PathBuf,
    /// Interpreter's argument and script, or nothing.
    pub arguments: Vec<PathBuf>,
}

/// Why an entrypoint cannot be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The `#!` line, or `env` in it, names a program that the image does not have.
    #[error(
        "interpreter {interpreter:?}, which the #! line of {script:?} names, not found in the image: use a \
         runtime.image that has it"
    )]
    NoInterpreter {
        /// Name or path, as in the line.
        interpreter: String,
        /// Path of the script.
        script: PathBuf,
    },
    /// As the kernel would say "no such file", of a file that exists.
    #[error("interpreter {interpreter:?} not found: the #! line of {script:?} ends in CR (Windows line ends): use LF")]
    CarriageReturn {
        /// Without the CR.
        interpreter: String,
        /// Path of the script.
        script: PathBuf,
    },
    /// The image has none of the language's interpreters.
    #[error(
        "no interpreter for entrypoint.language {language:?} found in the image (looked for {looked_for}): use a \
         runtime.image that has it"
    )]
    NoLanguageInterpreter {
        /// As in the manifest.
        language: String,
        /// Names, comma-separated.
        looked_for: String,
    },
    /// A language that no interpreter is known for.
    #[error(
        "entrypoint.language {language:?} is not known, and {script:?} cannot be executed itself: use one of \
         {LANGUAGE_NAMES}, or give the file its execute bit and a #! line"
    )]
    UnknownLanguage {
        /// As in the manifest.
        language: String,
        /// Path of the script.
        script: PathBuf,
    },
    /// Nothing says how.
    #[error(
        "{script:?} cannot be executed: it has no execute bit (or is on a noexec volume) and no #! line, and \
         entrypoint.language is not set: give it one of them"
    )]
    NotExecutable {
        /// Path of the script.
        script: PathBuf,
    },
    /// ENOEXEC.
    #[error(
        "{script:?} is no program that this machine can execute: it has no #! line, and was not built for this \
         architecture; give it a #! line, or set entrypoint.language"
    )]
    NotAProgram {
        /// Path of the script.
        script: PathBuf,
    },
    /// EACCES.
    #[error(
        "{program:?} must not be executed (permission denied): it needs its execute bit, on a volume without noexec"
    )]
    Denied {
        /// Path of the script or of its interpreter.
        program: PathBuf,
    },
    /// ENOENT of a program without `#!` line.
    #[error("the loader that {script:?} needs is not in the image: it was linked against another C library")]
    NoLoader {
        /// Path of the script.
        script: PathBuf,
    },
}

/// Interpreters by `entrypoint.language`, in order of preference.
const LANGUAGES: [(&[&str], &[&str]); 9] = [
    (&["python", "python3", "py"], &["python3", "python"]),
    (&["bash"], &["bash"]),
    (&["sh", "shell", "posix"], &["sh"]),
    (&["javascript", "js", "node", "nodejs"], &["node", "nodejs"]),
    (&["ruby", "rb"], &["ruby"]),
    (&["perl"], &["perl"]),
    (&["php"], &["php"]),
    (&["lua"], &["lua"]),
    (&["powershell", "pwsh"], &["pwsh"]),
];
const LANGUAGE_NAMES: &str = "python, bash, sh, javascript, ruby, perl, php, lua, powershell";

/// Decides how to start `entrypoint`. `find` looks a program up: a path as it is, a bare name in the script's `PATH`.
pub fn decide(entrypoint: &Entrypoint<'_>, find: impl Fn(&str) -> Option<PathBuf>) -> Result<Start, StartError> {
    let script = || entrypoint.path.to_owned();
    let line = shebang(entrypoint.head);
    if let Some(line) = &line {
        check_interpreter(entrypoint, line, &find)?;
    }
    match (entrypoint.executable, line, entrypoint.language) {
        (true, Some(_), _) => Ok(Start { program: script(), arguments: vec![] }),
        (true, None, Some(language)) if !is_binary(entrypoint.head) && interpreters(language).is_some() => {
            by_language(entrypoint, language, find)
        }
        (true, None, _) => Ok(Start { program: script(), arguments: vec![] }),
        (false, Some(line), _) => {
            let program = find(&line.interpreter).ok_or_else(|| line.not_found(entrypoint.path))?;
            let arguments = line.argument.into_iter().map(PathBuf::from).chain([script()]).collect();
            Ok(Start { program, arguments })
        }
        (false, None, Some(language)) => by_language(entrypoint, language, find),
        (false, None, None) => Err(StartError::NotExecutable { script: script() }),
    }
}

/// No such file: the script, its interpreter or its loader (errno(3), Linux).
const ENOENT: i32 = 2;
/// Not in a format that the kernel executes.
const ENOEXEC: i32 = 8;
/// No execute permission, or a `noexec` mount.
const EACCES: i32 = 13;

/// What an exec that failed with ENOENT, ENOEXEC or EACCES means for this entrypoint.
pub fn explain(entrypoint: &Entrypoint<'_>, start: &Start, error: &std::io::Error) -> Option<StartError> {
    let script = entrypoint.path.to_owned();
    match error.raw_os_error()? {
        ENOENT => Some(match shebang(entrypoint.head) {
            Some(line) => line.not_found(entrypoint.path),
            None => StartError::NoLoader { script },
        }),
        ENOEXEC => Some(StartError::NotAProgram { script }),
        EACCES => Some(StartError::Denied { program: start.program.clone() }),
        _ => None,
    }
}

/// A `#!` line as the kernel reads it: one interpreter, and the rest as one argument.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shebang {
    interpreter: String,
    argument: Option<String>,
    carriage_return: bool,
}

impl Shebang {
    fn not_found(&self, script: &Path) -> StartError {
        let (interpreter, script) = (self.interpreter.clone(), script.to_owned());
        match self.carriage_return {
            true => StartError::CarriageReturn { interpreter, script },
            false => StartError::NoInterpreter { interpreter, script },
        }
    }
}

fn shebang(head: &[u8]) -> Option<Shebang> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let carriage_return = line.ends_with('\r');
    let line = line.trim();
    let (interpreter, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let argument = argument.trim();
    (!interpreter.is_empty()).then(|| Shebang {
        interpreter: interpreter.to_owned(),
        argument: (!argument.is_empty()).then(|| argument.to_owned()),
        carriage_return,
    })
}

/// `env` would fail with 127 like a script of its own: look for what it is to start before anything is started.
fn check_interpreter(
    entrypoint: &Entrypoint<'_>,
    line: &Shebang,
    find: impl Fn(&str) -> Option<PathBuf>,
) -> Result<(), StartError> {
    let needs_kernel = entrypoint.executable && line.carriage_return;
    if needs_kernel || find(&line.interpreter).is_none() {
        return Err(line.not_found(entrypoint.path));
    }
    let name = match &line.argument {
        Some(name)
            if line.interpreter.ends_with("/env") && !name.starts_with('-') && !name.contains(['=', ' ', '\t']) =>
        {
            name
        }
        _ => return Ok(()),
    };
    match find(name) {
        Some(_) => Ok(()),
        None => Err(Shebang { interpreter: name.clone(), ..line.clone() }.not_found(entrypoint.path)),
    }
}

fn is_binary(head: &[u8]) -> bool {
    head.contains(&0)
}

fn interpreters(language: &str) -> Option<&'static [&'static str]> {
    let language = language.trim().to_ascii_lowercase();
    LANGUAGES.iter().find(|(names, _)| names.contains(&language.as_str())).map(|(_, interpreters)| *interpreters)
}

fn by_language(
    entrypoint: &Entrypoint<'_>,
    language: &str,
    find: impl Fn(&str) -> Option<PathBuf>,
) -> Result<Start, StartError> {
    let script = entrypoint.path.to_owned();
    let Some(names) = interpreters(language) else {
        return Err(StartError::UnknownLanguage { language: language.to_owned(), script });
    };
    match names.iter().find_map(|name| find(name)) {
        Some(program) => Ok(Start { program, arguments: vec![script] }),
        None => Err(StartError::NoLanguageInterpreter { language: language.to_owned(), looked_for: names.join(", ") }),
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(argv(&file(true, "\u{7f}ELF\0", None)), ["/x/run"]);
        assert_eq!(argv(&file(true, "\u{7f}ELF\0", Some("python"))), ["/x/run"]);
        assert_eq!(argv(&file(true, "echo", None)), ["/x/run"], "the kernel will say ENOEXEC");
    }

    #[test]
    fn an_executable_text_without_first_line_runs_by_its_language() {
        assert_eq!(argv(&file(true, "import sys", Some("python"))), ["/bin/python3", "/x/run"]);
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
                assert!(
                    error.contains("ruby\", which the #! line of \"/x/run\" names, not found in the image"),
                    "{error}"
                );
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
            "\"/x/run\" is no program that this machine can execute: it has no #! line, and was not built for this \
             architecture; give it a #! line, or set entrypoint.language"
        );
        assert_eq!(
            explain("", eacces).unwrap(),
            "\"/x/run\" must not be executed (permission denied): it needs its execute bit, on a volume without noexec"
        );
        assert_eq!(explain("", enomem), None);
    }
}
