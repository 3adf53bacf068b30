#!/usr/bin/env python3
"""<script> <action> <payload.json> <timeout seconds>: prints one JSON document, and logs to standard error."""

import json
import sys


def greet(payload):
    whom = payload["parameters"]["whom"]
    print(f"greeting {whom}", file=sys.stderr)
    return {"status": "success", "greeting": f"hello, {whom}"}


def status(payload):
    return {"status": "success", "power_state": "PowerOn"}


ACTIONS = {"Greet": greet, "status": status}


def main():
    action, path = sys.argv[1], sys.argv[2]
    with open(path, encoding="utf-8") as file:
        payload = json.load(file)
    if action not in ACTIONS:
        print(json.dumps({"status": "error", "error": f"unknown action {action}"}))
        return 1
    print(json.dumps(ACTIONS[action](payload)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
