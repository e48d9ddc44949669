#compdef kubectl
# zsh completion for kubectl                               -*- shell-script -*-
#
# source <(kubectl completion zsh)

_kubectl() {
    local out line name described directive=0
    local -a candidates extensions options
    local program=${words[1]}
    whence -p -- "$program" >/dev/null || program=kubectl
    out=$("$program" __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null) || return 1
    for line in "${(@f)out}"; do
        if [[ $line == :<-> ]]; then
            directive=${line#:}
        elif [[ -n $line ]]; then
            name=${line%%$'\t'*}
            extensions+=("$name")
            # A colon ends a name in the list below.
            described=${name//:/\\:}
            [[ $line == *$'\t'* ]] && described+=":${line#*$'\t'}"
            candidates+=("$described")
        fi
    done
    (( directive & 1 )) && return 1
    # The value of --flag=VALUE.
    [[ $words[CURRENT] == -*=* ]] && compset -P '*='
    if (( directive & 8 )); then
        _files -g "*.(${(j:|:)extensions})"
        return
    fi
    (( directive & 2 )) && options+=(-S '')
    (( directive & 32 )) && options+=(-V kubectl)
    if (( $#candidates )) && _describe -t kubectl completions candidates $options; then
        return 0
    fi
    (( directive & 4 )) && return 1
    _files
}

# Started by `source`, or by a file in $fpath.
if [[ $funcstack[1] == _kubectl ]]; then
    _kubectl "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _kubectl kubectl
fi
