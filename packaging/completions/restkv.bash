# bash completion of restkv: commands and options are those that --help lists.
_restkv() {
  local word=${COMP_WORDS[COMP_CWORD]} words
  if ((COMP_CWORD == 1)); then
    words=$(restkv --help 2>/dev/null | sed -n '/^Subcommands:/,/^$/s/^  \([a-z][a-z]*\) .*/\1/p')
    mapfile -t COMPREPLY < <(compgen -W "$words --help --version" -- "$word")
  elif [[ $word == -* ]]; then
    words=$(restkv "${COMP_WORDS[1]}" --help 2>/dev/null | sed -n 's/^ .*[ ,]\(--[a-z][a-z0-9-]*\).*/\1/p')
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
  elif [[ ${COMP_WORDS[COMP_CWORD - 1]} == --method ]]; then
    words=$(restkv methods 2>/dev/null | sed -n 's/^\([a-z][a-z0-9-]*\)$/\1/p')
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
  fi
}
complete -o default -o bashdefault -F _restkv restkv
