#!/usr/bin/env bash
# Shows how actions are run: <action> <payload file> <timeout seconds>.
set -euo pipefail
action=$1 payload=$2 timeout=$3

parameter() { jq -r ".parameters.$1 // empty" "$payload"; }

# Adds a line to a file of the server.
append() { curl -fsS -X POST --data "$2" "$1"; }

# Waits until the test opens the gate, which is a file of the server, and says there that it went on.
pass_gate() {
    local gate
    gate=$(parameter gate)
    [[ -n $gate ]] || return 0
    until [[ -n $(curl -fsS "$gate") ]]; do sleep 0.2; done
    append "$gate" passed
}

case $action in
    Echo)
        echo "working on it" >&2
        echo "the secret is $(parameter secret)" >&2
        jq -c --arg timeout "$timeout" '{status: "success", text: .parameters.text, count: .parameters.count, timeout: $timeout}' "$payload"
        ;;
    Payload | Open | Guarded | create)
        jq -c --arg path "$payload" --arg home "$HOME" --arg user "$(id -u)" --arg mode "$(stat -c %a "$payload")" \
            --arg environment "$(env | sed -n 's/^\(OUTRIGGER_[A-Z_]*\)=.*/\1/p' | sort | paste -sd ' ')" \
            '. + {seen: {path: $path, home: $home, user: $user, mode: $mode, environment: $environment}}' "$payload"
        ;;
    Fail)
        echo '{"status": "error", "error": "the disk is on fire"}'
        exit 7
        ;;
    Noise)
        echo "connecting…"
        printf 'no JSON at all'
        ;;
    Print)
        echo '{"printmessage": "True", "message": [{"disk": "sda", "size": 3}]}'
        ;;
    Large)
        jq -nc '{text: ("x" * 102400)}'
        ;;
    Noisy)
        head -c 10M /dev/zero | tr '\0' x
        printf '\n{"status": "success"}'
        ;;
    Binary)
        printf '\377\376\000\001 no text at all'
        ;;
    Slow)
        echo "half way, the secret is $(parameter secret)"
        pass_gate
        echo "all the way"
        ;;
    Children)
        (trap '' TERM; setsid sleep 1000) &
        trap '' TERM
        while :; do sleep 1000 || true; done
        ;;
    Append)
        append "$(parameter url)" "$(hostname)"
        pass_gate
        sleep "$(jq -r ".parameters.seconds // 0" "$payload")"
        echo '{"status": "success"}'
        ;;
    Flaky)
        append "$(parameter url)" "$OUTRIGGER_ATTEMPT $OUTRIGGER_IDEMPOTENCY_KEY"
        if ((OUTRIGGER_ATTEMPT < $(jq -r .parameters.succeeds "$payload"))); then
            echo "not yet, this is attempt $OUTRIGGER_ATTEMPT" >&2
            exit $((OUTRIGGER_ATTEMPT + 10))
        fi
        jq -nc --arg attempt "$OUTRIGGER_ATTEMPT" '{status: "success", attempt: $attempt}'
        ;;
    Fill)
        head -c 300M /dev/zero >/tmp/full
        sleep 600
        ;;
    Eat)
        head -c 500M /dev/zero | tail -c 500M | wc -c
        ;;
    status)
        echo '{"status": "success", "power_state": "poweron"}'
        ;;
    statuses)
        echo '{"status": "success", "power_state": {"i-2-1-VM": "poweron", "i-2-2-VM": "gone"}}'
        ;;
    prepare)
        echo '{"details": {"slot": "9"}, "vncPassword": "hunter2-prepared"}'
        ;;
    getconsole)
        echo '{"status": "success", "console": {"host": "console-7.example.com", "port": "5901", "password": "hunter2-console", "protocol": "vnc"}}'
        ;;
    *)
        echo "{\"error\": \"unknown action $action\"}"
        exit 1
        ;;
esac
