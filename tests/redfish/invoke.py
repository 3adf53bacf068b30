"""Run the extension as CloudStack does: argv, a payload file, JSON on stdout."""

import json
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
SCRIPT = os.path.join(HERE, "..", "..", "examples", "redfish", "redfish.py")
sys.path.insert(0, os.path.join(HERE, "..", "servers"))

# The script cannot count the interpreter's own start, which takes a while on a busy machine.
START_ALLOWANCE_SECONDS = 0.7
# The script runs with the interpreter that runs the tests, and pays no heed to a proxy.
ENVIRONMENT = {
    "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
    "http_proxy": "http://127.0.0.1:1",
    "https_proxy": "http://127.0.0.1:1",
}
PASSWORD = "correct horse battery"


class Result:
    """Exit code, what was printed, the same parsed, the error text ('' for none), and the seconds it took."""

    def __init__(self, code, stdout, seconds):
        self.code, self.stdout, self.seconds = code, stdout, seconds
        self.json = json.loads(stdout)
        self.error = self.json.get("error", "")


def payload_of(host, extension=None, virtualmachine=None, parameters=None):
    """A payload as CloudStack writes it: details are strings."""
    sections = {"host": host, "extension": extension, "virtualmachine": virtualmachine}
    payload = {
        "externaldetails": {name: section for name, section in sections.items() if section},
        "virtualmachineid": "6f1c2f5e-0000-4000-8000-000000000001",
        "virtualmachinename": "i-2-100-VM",
        "cloudstack.vm.details": {"name": "i-2-100-VM", "nics": []},
    }
    if parameters:
        payload["parameters"] = parameters
    return payload


def write_payload(directory, host, **others):
    """The path of a payload file."""
    path = os.path.join(directory, "payload.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(payload_of(host, **others), file)
    return path


def invoke(action, host, timeout=30, **others):
    """Run one action. Taking longer than the timeout, or printing anything but one JSON object, fails the test."""
    with tempfile.TemporaryDirectory() as directory:
        result = invoke_raw(action, write_payload(directory, host, **others), str(timeout))
    assert result.seconds < timeout + START_ALLOWANCE_SECONDS, f"{action} took {result.seconds:.1f} s of {timeout} s"
    return result


def invoke_raw(*arguments):
    """With any arguments. stderr goes to stdout, as in CloudStack: a stray line there breaks the JSON."""
    begin = time.monotonic()
    done = subprocess.run(
        [SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
        cwd="/",
        check=False,
        env=ENVIRONMENT,
    )
    return Result(done.returncode, done.stdout, time.monotonic() - begin)
