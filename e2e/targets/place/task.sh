# A task of the tests: notes its start, waits while it is held, notes its end.
# $1 journal, $2 a pipe or file to wait for, which may be empty, $3 whether it fails,
# $4 whether it ignores TERM, $5 seconds that it takes, or each of its steps, $6 steps that it
# counts to: it saves each, and leaves when it is shown a drain
note() {
	# One write to a file opened for appending, so that lines do not mix.
	printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$STUDIOML_TASK_ID" "$STUDIOML_TASK_ATTEMPT" \
		"$STUDIOML_RUNNER" "${CUDA_VISIBLE_DEVICES-}" >>"$journal" || exit 70
}
journal=$1
if [ "$4" = true ]; then
	trap '' TERM # what is started below inherits it
fi
note start
if [ -p "$2" ]; then # it opens when somebody writes to it, for all at once
	: <"$2"
elif [ -n "$2" ]; then # it may be made on another machine, which no program here can wait for
	until [ -e "$2" ]; do sleep 0.2; done
fi
if [ "${6-0}" != 0 ]; then
	saved=$STUDIOML_CHECKPOINT_DIR/step
	step=$(cat "$saved" 2>/dev/null || echo 0)
	while [ "$step" -lt "$6" ]; do
		if [ -e "$STUDIOML_DRAIN_FILE" ]; then
			exit 75
		fi
		sleep "$5"
		step=$((step + 1))
		echo "$step" >"$saved.new" && mv "$saved.new" "$saved" || exit 70
		note "$step"
	done
elif [ "${5-0}" != 0 ]; then
	sleep "$5"
fi
note end
[ "$3" = false ]
