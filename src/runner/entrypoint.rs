//! How an entrypoint is started: directly, by its `#!` line, by its language, or by the shell. Pure.

use std::path::{Path, PathBuf};

use crate::protocol::Fault;

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
    /// A text for the shell, which the image does not have.
    #[error(
        "{script:?} has no #! line, and the image has no {SHELL} to run it: use a runtime.image that has one, or give the file a \
         #! line"
    )]
    NoShell {
        /// Path of the script.
        script: PathBuf,
    },
    /// What the kernel does not execute (ENOEXEC).
    #[error(
        "{script:?} is no program that this machine can execute: it is no text, and was not built for this architecture; \
         build it for this one"
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

impl StartError {
    /// What it is in one word, where there is one.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::NoInterpreter { .. }
            | Self::CarriageReturn { .. }
            | Self::NoLanguageInterpreter { .. }
            | Self::NoShell { .. }
            | Self::NoLoader { .. } => Some(Fault::InterpreterMissing),
            Self::NotAProgram { .. } => Some(Fault::ExecFormatError),
            Self::UnknownLanguage { .. } | Self::NotExecutable { .. } | Self::Denied { .. } => None,
        }
    }
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

/// What runs an executable text without `#!` line, as under CloudStack: Java hands to it what the kernel does not execute.
const SHELL: &str = "/bin/sh";

/// Decides how to start `entrypoint`. `find` looks a program up: a path as it is, a bare name in the script's `PATH`.
pub fn decide(entrypoint: &Entrypoint<'_>, find: impl Fn(&str) -> Option<PathBuf>) -> Result<Start, StartError> {
    let script = || entrypoint.path.to_owned();
    let line = shebang(entrypoint.head);
    if let Some(line) = &line {
        check_interpreter(entrypoint, line, &find)?;
    }
    match (entrypoint.executable, line, entrypoint.language) {
        (true, Some(_), _) => Ok(Start { program: script(), arguments: vec![] }),
        (true, None, _) if is_program(entrypoint.head) => Ok(Start { program: script(), arguments: vec![] }),
        (true, None, _) if is_binary(entrypoint.head) => Err(StartError::NotAProgram { script: script() }),
        (true, None, Some(language)) => by_language(entrypoint, language, find),
        (true, None, None) => match find(SHELL) {
            Some(program) => Ok(Start { program, arguments: vec![script()] }),
            None => Err(StartError::NoShell { script: script() }),
        },
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

/// Whether the kernel can execute a file without `#!` line itself: an ELF file of this machine's architecture or of its 32-bit
/// relative. It is not left to the kernel to say: `execvp` of the C library that the runner is linked with hands what that
/// refuses to `/bin/sh`, which would take the bytes of a binary for commands. Whether the node knows an interpreter for it
/// (binfmt_misc) cannot be seen from inside a container.
fn is_program(head: &[u8]) -> bool {
    const MACHINE: std::ops::Range<usize> = 18..20;
    let machines: Option<[u16; 2]> = if cfg!(target_arch = "x86_64") {
        Some([62, 3])
    } else if cfg!(target_arch = "aarch64") {
        Some([183, 40])
    } else {
        None
    };
    let Some(machine) = head.strip_prefix(b"\x7fELF").and(head.get(MACHINE)) else { return false };
    machines.is_none_or(|machines| machines.iter().any(|known| known.to_le_bytes() == machine))
}

fn is_binary(head: &[u8]) -> bool {
    head.contains(&0) || head.starts_with(b"\x7fELF")
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
#[path = "entrypoint_tests.rs"]
mod tests;
