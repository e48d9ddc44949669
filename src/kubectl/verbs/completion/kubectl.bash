# bash completion for kubectl                              -*- shell-script -*-
#
# source <(kubectl completion bash)
# With an alias: complete -o default -F __start_kubectl k

# Sets `words` to the words up to the cursor. bash takes words apart at = and :, which are put together again.
__kubectl_words() {
    local rest=${COMP_LINE:0:COMP_POINT} word i
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((i == 0)) || [[ $rest == [[:space:]]* || -z $rest ]]; then
            rest=${rest#"${rest%%[![:space:]]*}"}
            ((i == COMP_CWORD)) && word=$rest
            words+=("$word")
        else
            ((i == COMP_CWORD)) && word=$rest
            words[${#words[@]} - 1]+=$word
        fi
        rest=${rest#"$word"}
    done
}

__start_kubectl() {
    local words line current prefix out name directive=0 width=0
    local -a names=() lines=()
    __kubectl_words
    current=${words[${#words[@]} - 1]}
    local program=${words[0]}
    type -P "$program" >/dev/null || program=kubectl
    out=$("$program" __complete "${words[@]:1}" 2>/dev/null) || return
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line =~ ^:([0-9]+)$ ]]; then
            directive=${BASH_REMATCH[1]}
        elif [[ -n $line ]]; then
            lines+=("$line")
        fi
    done <<<"$out"
    if ((directive & 1)); then
        return
    fi
    # The value of --flag=VALUE.
    [[ $current == -*=* ]] && current=${current#*=}
    if ((directive & 8)); then
        local pattern=
        for line in "${lines[@]}"; do
            pattern+=${pattern:+|}$line
        done
        compopt -o filenames 2>/dev/null
        while IFS= read -r name; do
            [[ -d $name || $name =~ \.($pattern)$ ]] && COMPREPLY+=("$name")
        done < <(compgen -f -- "$current")
        return
    fi
    for line in "${lines[@]}"; do
        name=${line%%$'\t'*}
        [[ $name == "$current"* ]] || continue
        names+=("$line")
        ((${#name} > width)) && width=${#name}
    done
    if ((directive & 2)); then
        compopt -o nospace 2>/dev/null
    fi
    if ((directive & 4)); then
        compopt +o default 2>/dev/null
    elif ((${#names[@]} == 0)); then
        compopt -o default 2>/dev/null
        return
    fi
    # What bash has already taken apart is not to be typed again.
    prefix=
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        prefix=${current%"${current##*:}"}
    fi
    for line in "${names[@]}"; do
        name=${line%%$'\t'*}
        name=${name#"$prefix"}
        # Descriptions are shown in a list of several, and never typed.
        if [[ $line == *$'\t'* && ${#names[@]} -gt 1 && ${COMP_TYPE:-} == 63 ]]; then
            printf -v name "%-${width}s  (%s)" "$name" "${line#*$'\t'}"
            name=${name:0:${COLUMNS:-80}}
        fi
        COMPREPLY+=("$name")
    done
}

complete -o default -F __start_kubectl kubectl
