"""Start one of the servers from a test and stop it again."""

import os
import re
import select
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
START_SECONDS = 120


class Started:
    """A running server: `url`, and `stop()`."""

    def __init__(self, name, *arguments):
        command = [sys.executable, os.path.join(HERE, name), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        end = time.monotonic() + START_SECONDS
        line = ""
        while not line and self.process.poll() is None and time.monotonic() < end:
            if select.select([self.process.stdout], [], [], 0.5)[0]:
                line = self.process.stdout.readline()
        found = re.fullmatch(r"listening on (https?://\S+)\n", line)
        if not found:
            self.stop()
            raise RuntimeError(f"{name} did not start: it printed {line!r}")
        self.url = found[1]

    def stop(self):
        """End it by SIGTERM; returns its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process.stdout.close()
        return code


def self_signed(directory, name="tests", kind="ec"):
    """A key of a kind that openssl knows, and a self-signed certificate for 127.0.0.1, as (certificate, key) paths."""
    certificate, key = os.path.join(directory, f"{name}.crt"), os.path.join(directory, f"{name}.key")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            kind,
            *(["-pkeyopt", "ec_paramgen_curve:prime256v1"] if kind == "ec" else []),
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return certificate, key
