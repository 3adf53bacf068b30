//! A directory with an extension, and the command line in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

pub const MANIFEST: &str = "apiVersion: cloudstack.apache.org/v1
kind: OrchestratorExtension
metadata: {name: probe}
spec:
  entrypoint: {path: run.sh}
customActions:
- name: Probe
  enabled: true
  timeout: 20
  successmessage: 'probed {{resourceName}}'
  errormessage: 'did not probe {{resourceName}}'
  parameters:
  - {name: whom, type: STRING}
  - {name: count, type: NUMBER}
  - {name: key, type: STRING, validationformat: PASSWORD}
- name: Quick
  enabled: true
  timeout: 1
- name: Strict
  enabled: true
  parameters:
  - {name: mode, type: STRING, required: true, valueoptions: 'full,part'}
";

/// A directory with an extension `probe`, and one for temporary files.
pub struct Bench(pub TempDir);

impl Bench {
    /// With a script of this body.
    pub fn new(body: &str) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        for dir in ["probe", "tmp"] {
            fs::create_dir(bench.0.path().join(dir)).unwrap();
        }
        bench.write("probe/manifest.yaml", MANIFEST, 0o644);
        bench.write("probe/run.sh", &format!("#!/bin/sh\n{body}\n"), 0o755);
        bench
    }

    pub fn write(&self, path: &str, text: &str, mode: u32) {
        let path = self.0.path().join(path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
        command.args(arguments).current_dir(self.0.path()).env("TMPDIR", self.0.path().join("tmp"));
        command.env("USER", "author").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn outrigger(&self, arguments: &[&str]) -> Done {
        Done::of(self.command(arguments).output().unwrap())
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        self.outrigger(&[&["run", "--local", "probe"], arguments].concat())
    }

    pub fn left_behind(&self) -> usize {
        fs::read_dir(self.0.path().join("tmp")).unwrap().count()
    }
}

#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    pub fn is_clean(&self, manifest: &str) {
        assert!(self.code == Some(0) && self.stdout.ends_with(&format!("{manifest}: no problems\n")), "{self:?}");
    }

    #[track_caller]
    pub fn is(&self, code: i32, stdout: &str, stderr: &str) {
        assert_eq!((self.code, self.stdout.as_str(), self.stderr.as_str()), (Some(code), stdout, stderr));
    }
}
