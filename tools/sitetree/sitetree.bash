# Completion of sitetree for bash: the program knows its words, and asks its daemon for names.
_sitetree() {
    local IFS=$'\n'
    # shellcheck disable=SC2207 # one candidate a line
    COMPREPLY=($(sitetree __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _sitetree sitetree
