#!/usr/bin/env bash
# <script> <action> <payload.json> <timeout seconds>: prints one JSON document, and logs to standard error.
set -euo pipefail
action=$1 payload=$2

case $action in
  Greet)
    whom=$(jq -r '.parameters.whom' "$payload")
    echo "greeting $whom" >&2
    jq -n --arg whom "$whom" '{status: "success", greeting: "hello, \($whom)"}'
    ;;
  status)
    jq -n '{status: "success", power_state: "PowerOn"}'
    ;;
  *)
    jq -n --arg action "$action" '{status: "error", error: "unknown action \($action)"}'
    exit 1
    ;;
esac
