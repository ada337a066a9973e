_mayfly() {
    local words=("${COMP_WORDS[@]}")
    [[ ${words[COMP_CWORD]} == [=:]* ]] || words[COMP_CWORD]=$2
    mapfile -t COMPREPLY < <(
        COMP_LINE=$COMP_LINE COMP_CWORD=$COMP_CWORD MAYFLY_COMPLETE=bash mayfly -- "${words[@]}" 2> /dev/null
    )
    # The word is not complete yet.
    if [[ ${COMPREPLY-} == *[=/:] ]]; then compopt -o nospace; fi
}
complete -o bashdefault -o nosort -F _mayfly mayfly
