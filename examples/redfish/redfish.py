#!/usr/bin/env python3
"""Power management of bare-metal servers over DMTF Redfish: redfish.py <action> <payload.json> <timeout seconds>.

Prints one JSON object on stdout and exits 0, or prints {"status": "error", "error": …} and exits 1.
Needs Python 3.9 or later and nothing else.
"""

import json
import os
import signal
import sys

sys.dont_write_bytecode = True  # The extension's directory is not ours to write to.
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from redfish_actions import ACTIONS  # noqa: E402
from redfish_client import Client, Deadline  # noqa: E402
from redfish_details import RedfishError, read_details  # noqa: E402

DEFAULT_TIMEOUT_SECONDS = 60.0
SHORTEST_SECRET = 4
MASK = "********"


def main(arguments):
    """Run one action. Returns the exit code."""
    payload = {}
    try:
        action, payload, seconds = read_arguments(arguments)
        arm_alarm(seconds)
        answer, code = run(action, payload, seconds), 0
    except RedfishError as error:
        answer, code = {"status": "error", "error": str(error)}, 1
    except Exception as error:  # A traceback could show the payload; its type is enough to report a bug by.
        answer, code = {"status": "error", "error": f"unexpected {type(error).__name__}: {error}"}, 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(json.dumps(scrub(answer, secrets_of(payload))))
    return code


def run(action, payload, seconds):
    """Look the action up, read the details, do it."""
    function = next((ACTIONS[name] for name in ACTIONS if name.lower() == action.lower()), None)
    if function is None:
        raise RedfishError(f"action {action!r} is not known: use one of {', '.join(ACTIONS)}")
    details = read_details(payload)
    with Client(details, Deadline(usable(seconds), seconds)) as client:
        return function(client, details, payload)


def read_arguments(arguments):
    """The action, the parsed payload and the timeout in seconds."""
    if len(arguments) not in (2, 3):
        raise RedfishError("the arguments are wrong: redfish.py <action> <payload.json> <timeout seconds>")
    action, path = arguments[:2]
    try:
        seconds = float(arguments[2]) if len(arguments) == 3 else DEFAULT_TIMEOUT_SECONDS
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 7 * 86400:
        raise RedfishError(f"the timeout is {arguments[2]!r}: it must be a number of seconds")
    try:
        with open(path, encoding="utf-8") as file:
            payload = json.load(file)
    except OSError as error:
        raise RedfishError(f"the payload {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise RedfishError(f"the payload {path} is not JSON") from None
    if not isinstance(payload, dict):
        raise RedfishError(f"the payload {path} is not a JSON object")
    return action, payload, seconds or DEFAULT_TIMEOUT_SECONDS


def usable(seconds):
    """Keep some time back, so that the answer is out and the session closed before the caller's timeout kills us."""
    return seconds - min(5.0, 0.2 * seconds)


def arm_alarm(seconds):
    """A last resort against what no socket timeout ends, such as an answer that trickles in byte by byte."""

    def expired(_signal, _frame):
        raise RedfishError(f"timed out (limit {seconds:g} s): the service is too slow, or the action needs more time")

    def terminated(_signal, _frame):
        raise RedfishError("stopped by a signal: ask for the status to see how far it got")

    signal.signal(signal.SIGALRM, expired)
    signal.signal(signal.SIGTERM, terminated)
    signal.setitimer(signal.ITIMER_REAL, 0.5 * (seconds + usable(seconds)))


def secrets_of(payload):
    """Passwords of the payload that are long enough to be masked without garbling everything else."""
    sections = payload.get("externaldetails") if isinstance(payload.get("externaldetails"), dict) else {}
    values = [section.get("password") for section in sections.values() if isinstance(section, dict)]
    return [value for value in values if isinstance(value, str) and len(value) >= SHORTEST_SECRET]


def scrub(value, secrets):
    """The same value without the secrets, should the service have repeated one in its answer."""
    if isinstance(value, dict):
        return {scrub(key, secrets): scrub(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [scrub(item, secrets) for item in value]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, MASK)
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
