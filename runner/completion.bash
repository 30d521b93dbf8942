# Bash has = for a word of its own, so the words are those of the line.
_runner() {
	local line=${COMP_LINE:0:COMP_POINT} words last
	IFS=' ' read -ra words <<<"$line"
	[[ $line == *' ' ]] && words+=('')
	last=${words[-1]}
	local IFS=$'\n'
	COMPREPLY=($("${words[0]}" complete -- "${words[@]:1}" 2>/dev/null))
	[[ $last == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"${last%%=*}="}")
	[[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
	return 0
}
complete -o default -F _runner runner
