# Runs beside a runner, in its pod: reads the journal and repeats each note in its log, on
# stderr, so that no line of stdout is cut by one. What it runs beside that, if anything,
# is what it ends with; else TERM is the end of the container, which for a sidecar comes
# after the runner's. Its first line is like no other's, by which the log is known.
read -r line </proc/sys/kernel/random/uuid
echo "beside $line"
[ -p "$journal" ] || mkfifo "$journal"
exec 3<>"$journal" # for writing, too: so that nobody waits for the other
if [ $# -gt 0 ]; then
	trap '' TERM
	{ "$@"; echo over >&3; } &
else
	trap 'echo over >&3' TERM
fi
while [ "$line" != over ]; do
	if IFS= read -r line <&3 && [ "$line" != over ]; then
		printf '%s\n' "$line" >&2
	fi
done
