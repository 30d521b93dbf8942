# A task of the tests: notes its start, waits while it is held, notes its end.
# $1 journal, $2 file to wait for or nothing, $3 exit status, $4 "ignore" TERM
note() {
	# One write to a file opened for appending, so that lines do not mix.
	printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$STUDIOML_TASK_ID" "$STUDIOML_TASK_ATTEMPT" \
		"$STUDIOML_RUNNER" "${CUDA_VISIBLE_DEVICES-}" >>"$journal" || exit 70
}
journal=$1
if [ "$4" = ignore ]; then
	trap '' TERM # flock inherits it
fi
note start
if [ -n "$2" ]; then
	flock -s "$2" true || exit 71
fi
note end
exit "$3"
