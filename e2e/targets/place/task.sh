# A task of the tests: notes its start, waits while it is held, notes its end.
# $1 journal, $2 "pipe" or "file" and $3 what to wait for, both may be empty,
# $4 exit status, $5 "ignore" TERM, $6 seconds that it takes, or each of its steps,
# $7 steps that it counts to: it saves each, and leaves when it is shown a drain
note() {
	# One write to a file opened for appending, so that lines do not mix.
	printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$STUDIOML_TASK_ID" "$STUDIOML_TASK_ATTEMPT" \
		"$STUDIOML_RUNNER" "${CUDA_VISIBLE_DEVICES-}" >>"$journal" || exit 70
}
journal=$1
if [ "$5" = ignore ]; then
	trap '' TERM # what is started below inherits it
fi
note start
case $2 in
pipe) # opens when somebody writes to it, for all at once
	: <"$3"
	;;
file) # it may be made on another machine, which no program here can wait for
	until [ -e "$3" ]; do sleep 0.2; done
	;;
esac
if [ "${7-0}" != 0 ]; then
	saved=$STUDIOML_CHECKPOINT_DIR/step
	step=$(cat "$saved" 2>/dev/null || echo 0)
	while [ "$step" -lt "$7" ]; do
		if [ -e "$STUDIOML_DRAIN_FILE" ]; then
			exit 75
		fi
		sleep "$6"
		step=$((step + 1))
		echo "$step" >"$saved.new" && mv "$saved.new" "$saved" || exit 70
		note "$step"
	done
elif [ "${6-0}" != 0 ]; then
	sleep "$6"
fi
note end
exit "$4"
