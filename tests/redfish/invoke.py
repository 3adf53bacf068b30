"""Run the extension as CloudStack does: argv, a payload file, JSON on stdout."""

import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
SCRIPT = os.path.join(HERE, "..", "..", "examples", "redfish", "redfish.py")
sys.path.insert(0, os.path.join(HERE, "..", "servers"))

PASSWORD = "correct horse battery"


class Result:
    """Exit code, what was printed, the same parsed, and the error text ('' for none)."""

    def __init__(self, code, stdout):
        self.code, self.stdout = code, stdout
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


def invoke(action, host, timeout=30, **others):
    """Run one action; a process that neither ends in its time nor prints one JSON object fails the test."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "payload.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(payload_of(host, **others), file)
        return invoke_raw(action, path, str(timeout), within=timeout)


def invoke_raw(*arguments, within=30):
    """With any arguments. stderr goes to stdout, as in CloudStack: a stray line there breaks the JSON."""
    done = subprocess.run(
        [SCRIPT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        text=True, timeout=within, cwd="/", check=False,
        env={"PATH": os.environ["PATH"], "http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"},
    )
    return Result(done.returncode, done.stdout)
