# fish completion for kubectl                              -*- shell-script -*-
#
# kubectl completion fish | source

function __kubectl_complete
    set -l tokens (commandline -opc)
    set -l current (commandline -ct)
    set -l program $tokens[1]
    set -e tokens[1]
    type -q $program; or set program kubectl
    set -l lines ($program __complete $tokens $current 2>/dev/null)
    or return
    set -l directive 0
    set -l candidates
    for line in $lines
        if string match -qr '^:\d+$' -- $line
            set directive (string sub -s 2 -- $line)
        else if test -n "$line"
            set -a candidates $line
        end
    end
    test (math "bitand($directive, 1)") -ne 0; and return
    # fish wants the whole word: the value of --flag=VALUE comes after what is typed.
    set -l prefix ''
    if string match -qr '^-[^=]*=' -- $current
        set prefix (string replace -r '=.*' '=' -- $current)
    end
    if test (math "bitand($directive, 8)") -ne 0
        set -l pattern '\.('(string join '|' $candidates)')$'
        for path in (__fish_complete_path (string sub -s (math (string length -- $prefix) + 1) -- $current))
            set -l name (string split -f 1 \t -- $path)
            if string match -qr -- $pattern $name; or string match -q -- '*/' $name
                echo $prefix$path
            end
        end
        return
    end
    for candidate in $candidates
        echo $prefix$candidate
    end
    if test (count $candidates) -eq 0; and test (math "bitand($directive, 4)") -eq 0
        __fish_complete_path $current
    end
end

complete -c kubectl -e
complete -c kubectl -f -a '(__kubectl_complete)'
