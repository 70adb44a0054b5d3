# Ends the processes of one folder when the process that started them has ended, for any reason.
#
# Standard input is a pipe, and only that process holds its other end: end of file means that it has ended, also by
# SIGKILL. A shell script, because it needs neither a built program nor unsafe code and outlives its parent.
# Each process writes a line "signal grace-in-tenths pid" into pids/<stage>-<name> before it becomes the program.

folder=$1

is_alive() {
  kill -0 "$1" 2>/dev/null || return 1
  # An orphan that is not reaped stays a zombie (in containers with a first process that doesn't wait).
  if [ -r "/proc/$1/stat" ]; then
    read -r _ _ state _ <"/proc/$1/stat" 2>/dev/null || return 1
    [ "$state" != Z ] || return 1
  fi
}

any_alive() {
  for alive_pid in $1; do
    if is_alive "$alive_pid"; then return 0; fi
  done
  return 1
}

end_stage() {
  pids='' timeout=0
  for file in "$folder/closing/$1"-*; do
    [ -e "$file" ] || continue
    read -r signal grace pid <"$file" || continue
    # The group when it leads one, else the process alone (a command that shares the terminal's group).
    kill -s "$signal" -- "-$pid" 2>/dev/null || kill -s "$signal" "$pid" 2>/dev/null
    pids="$pids $pid"
    [ "$grace" -le "$timeout" ] || timeout=$grace
  done
  while [ "$timeout" -gt 0 ] && any_alive "$pids"; do
    sleep 0.1
    timeout=$((timeout - 1))
  done
  for pid in $pids; do
    # Also when the leader has ended: it may have left children.
    kill -s KILL -- "-$pid" 2>/dev/null || kill -s KILL "$pid" 2>/dev/null
  done
  timeout=50
  while [ "$timeout" -gt 0 ] && any_alive "$pids"; do
    sleep 0.1
    timeout=$((timeout - 1))
  done
}

end_all() {
  trap '' INT TERM HUP
  # After this rename no process can register any more, and a process that can't register doesn't start.
  mv "$folder/pids" "$folder/closing" 2>/dev/null || exit 0
  for stage in 0 1 2 3 4; do end_stage "$stage"; done
  rm -rf "$folder/closing" "$folder/data" "$folder/env.json" "$folder/kubeconfig"
  [ -e "$folder/keep" ] || rm -rf "$folder"
  exit 0
}

trap end_all INT TERM HUP
while read -r _; do :; done
end_all
