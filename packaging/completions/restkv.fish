# fish completion of restkv: commands and options are those that --help lists.
function __restkv_commands
    restkv --help 2>/dev/null | sed -n '/^Subcommands:/,/^$/s/^  \([a-z][a-z]*\)  *\(.*\)/\1\t\2/p'
end
function __restkv_options
    set -l words (commandline -opc)
    restkv $words[2] --help 2>/dev/null | sed -n 's/^ .*[ ,]\(--[a-z][a-z0-9-]*\).*/\1/p'
end
complete -c restkv -n 'test (count (commandline -opc)) -eq 1' -f -a '(__restkv_commands)'
complete -c restkv -n 'test (count (commandline -opc)) -gt 1; and string match -q -- "-*" (commandline -ct)' -f -a '(__restkv_options)'
