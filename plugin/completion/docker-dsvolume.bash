# Completion for bash: of docker-dsvolume by itself, and of docker dsvolume where docker's own
# completion is the older one that knows plugins as functions (docker 25 and later ask the plugin).
# Source it, or put it into /etc/bash_completion.d.

# The plugin: the command as it was typed, or where docker looks for it.
__docker_dsvolume_program() {
    local folder
    if [[ ${COMP_WORDS[0]##*/} == docker-dsvolume ]]; then
        printf '%s' "${COMP_WORDS[0]/#\~/$HOME}"
        return
    fi
    for folder in "${DOCKER_CONFIG:-$HOME/.docker}"/cli-plugins \
        /usr/{local/lib,local/libexec,lib,libexec}/docker/cli-plugins; do
        if [[ -x $folder/docker-dsvolume ]]; then
            printf '%s' "$folder/docker-dsvolume"
            return
        fi
    done
}

_docker_dsvolume() {
    local program line=${COMP_LINE:0:COMP_POINT} beginning i words choices
    program=$(__docker_dsvolume_program)
    COMPREPLY=()
    [[ -n $program ]] || return 0

    # The line is cut at blanks: COMP_WORDS is cut at = and @ too, which belong to words here.
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    beginning=${words[-1]}
    for i in "${!words[@]}"; do
        if [[ ${words[i]} == dsvolume || ${words[i]} == *docker-dsvolume ]]; then
            words=("${words[@]:i+1}")
            break
        fi
    done
    mapfile -t choices < <("$program" __completeNoDesc dsvolume "${words[@]}" 2>/dev/null)
    ((${#choices[@]})) || return 0
    unset 'choices[-1]' # what the shell is to do: nothing but this

    # readline replaces only what stands behind the last character at which it cuts words.
    local typed="" cut=$beginning
    [[ $beginning == -*=* ]] && typed=${beginning%%=*}=
    while [[ -n $cut && $COMP_WORDBREAKS != *"${cut: -1}"* ]]; do
        cut=${cut%?}
    done
    cut=${cut%@} # an @ is where a word is cut and begins the next one
    for i in "${!choices[@]}"; do
        line=$typed${choices[i]}
        COMPREPLY+=("${line#"$cut"}")
    done
}

complete -F _docker_dsvolume docker-dsvolume
