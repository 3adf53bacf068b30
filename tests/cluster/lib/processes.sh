# Long-running processes: start once, know whether they live, wait for them, stop them.
# shellcheck shell=bash

# Start time of a process in ticks since boot; nothing for one that is gone or a zombie. A pid alone may be another's by now.
birth_of() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }

is_alive() {
  local pid birth
  read -r pid birth 2>/dev/null <"$PIDS/$1" && [[ -n $birth && $(birth_of "$pid") == "$birth" ]]
}

# start NAME COMMAND...: does nothing where it already runs.
start() {
  local name=$1 pid
  shift
  is_alive "$name" && return
  # A daemon must not keep the lock that this script holds on descriptor 9.
  setsid nohup "$@" >>"$LOGS/$name.log" 2>&1 </dev/null 9>&- &
  pid=$!
  echo "$pid $(birth_of "$pid")" >"$PIDS/$name"
}

start_inside() {
  local name=$1
  shift
  start "$name" nsenter --net="/run/netns/$NETNS" "$@"
}

signal() {
  local pid
  is_alive "$2" || return 0
  read -r pid _ <"$PIDS/$2"
  kill "-$1" "$pid" 2>/dev/null || true
}

# stop NAME...: asks all, gives them 10 s together, then insists.
stop() {
  local name deadline=$((SECONDS + 10))
  for name; do signal TERM "$name"; done
  for name; do
    while is_alive "$name" && ((SECONDS < deadline)); do sleep 0.05; done
    signal KILL "$name"
    rm -f "$PIDS/$name"
  done
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds; fails at once when a started process has died.
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2 file name
  shift 2
  until "$@" >/dev/null 2>&1; do
    for file in "$PIDS"/*; do
      [[ -e $file ]] || continue
      name=${file##*/}
      is_alive "$name" && continue
      tail -n 5 "$LOGS/$name.log" >&2
      die "$name ended while waiting for $what; its log is $LOGS/$name.log"
    done
    ((SECONDS < deadline)) || die "no $what after $1 s; logs are in $LOGS"
    sleep 0.1
  done
}

forget_dead() {
  local file
  for file in "$PIDS"/*; do
    [[ -e $file ]] || continue
    is_alive "${file##*/}" || rm -f "$file"
  done
}
