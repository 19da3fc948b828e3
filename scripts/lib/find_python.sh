# shellcheck shell=bash
# Sourced. Owns: which Python makes the environment. Knows nothing of what goes into it.

# Print the path of the first Python of 3.11 or newer. QWEND_PYTHON, if set, must be one.
find_python() {
    local name seen=() version
    if [[ -n ${QWEND_PYTHON:-} ]]; then
        if is_recent_python "$QWEND_PYTHON"; then
            command -v "$QWEND_PYTHON"
            return 0
        fi
        printf 'QWEND_PYTHON is %s, which is no Python of 3.11 or newer.\n' "$QWEND_PYTHON" >&2
        return 1
    fi
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if is_recent_python "$name"; then
            command -v "$name"
            return 0
        fi
        # A name may exist and still not run: pyenv leaves shims of versions that are not chosen.
        if version=$("$name" -c 'import platform; print(platform.python_version())' 2>/dev/null); then
            seen+=("$name is $version")
        fi
    done
    {
        printf 'qwend needs Python 3.11 or newer'
        ((${#seen[@]})) && printf '; here %s' "${seen[0]}"
        printf '.\n'
        printf '  Debian 12, Raspberry Pi OS 12, Ubuntu 24.04 or newer: sudo apt install python3 python3-venv g++\n'
        printf '  Ubuntu 22.04: sudo apt install python3.11 python3.11-venv g++\n'
        printf 'A Python elsewhere can be named: QWEND_PYTHON=/path/to/python3 %s\n' "$0"
    } >&2
    return 1
}

is_recent_python() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}
