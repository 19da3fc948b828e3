# shellcheck shell=bash
# Sourced by scripts/check and scripts/test, which set `root`. Owns: the steps of the ritual, their
# order, and the report. A failed step does not stop the next: one run shows all that is wrong.

venv=$root/.venv
report=()
failed=0

prepare_for_development() {
    local python
    python=$(find_python)
    # The daemon refuses QWEND_ variables that are no setting of its own.
    unset QWEND_PYTHON
    "$python" -B "$root/scripts/lib/prepare" --extras dev
    cd "$root"
}

# step NAME COMMAND ...
step() {
    local name=$1 began=$EPOCHREALTIME outcome=ok
    shift
    printf '== %s\n' "$name"
    "$@" || outcome="failed ($?)"
    [[ $outcome == ok ]] || failed=1
    report+=("$(printf '%-14s %-12s %6.1f s' "$name" "$outcome" "$(seconds_since "$began")")")
}

check_steps() {
    step "ruff format" "$venv/bin/ruff" format --check .
    step "ruff check" "$venv/bin/ruff" check .
    step mypy "$venv/bin/mypy"
    if command -v shellcheck >/dev/null; then
        step shellcheck shellcheck -x scripts/fuzz scripts/install scripts/quickstart scripts/test scripts/check .ci/run
    fi
}

report_steps() {
    printf '== in all\n'
    printf '%s\n' "${report[@]}"
    exit "$failed"
}

seconds_since() {
    # EPOCHREALTIME has exactly six decimals, and the locale's decimal sign.
    local now=${EPOCHREALTIME/[.,]/} began=${1/[.,]/}
    local micro=$((now - began))
    LC_ALL=C printf '%d.%06d' $((micro / 1000000)) $((micro % 1000000))
}
