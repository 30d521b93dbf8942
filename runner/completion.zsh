#compdef runner
_runner() {
	local -a found
	found=(${(f)"$(${words[1]} complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
	(( $#found )) || { _files; return }
	compadd -- ${found:#*=}
	compadd -S '' -- ${(M)found:#*=}
}
compdef _runner runner
