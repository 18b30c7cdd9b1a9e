#!/usr/bin/env bash
# Holds a running cluster against its own OpenAPI document with Schemathesis (https://schemathesis.readthedocs.io): every
# route is asked what the document allows and what it forbids, and no answer may be a 5xx or one that is not described.
#
# Twice: with ids that are made up, and with ids of a thread, a message and users that are there.
#
#   node/scripts/conformance.sh [path of the messenger binary]
#
# SECONDS_EACH=120  SEED=1  CONFORMANCE_DIR=.conformance  BASE_PORT=17501
set -euo pipefail

messenger=$(realpath "${1:-${MESSENGER:-messenger}}")
seconds=${SECONDS_EACH:-120}
seed=${SEED:-1}
dir=${CONFORMANCE_DIR:-.conformance}
base_port=${BASE_PORT:-17501}
# Not the node that leads everything: the second of three.
server=http://127.0.0.1:$((base_port + 1))
version=4.32.5

command -v python3 >/dev/null || { echo "conformance: needs python3 with venv" >&2; exit 2; }
mkdir -p "$dir"
dir=$(realpath "$dir")
if ! "$dir/venv/bin/st" --version 2>/dev/null | grep -qF "$version"; then
  echo "conformance: installing Schemathesis $version into $dir/venv" >&2
  python3 -m venv "$dir/venv"
  "$dir/venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
fi
rm -rf "$dir/data"

"$messenger" dev --data "$dir/data" --base-port "$base_port" >"$dir/dev.log" 2>&1 &
cluster=$!
stop() { kill -TERM "$cluster" 2>/dev/null || true; wait "$cluster" 2>/dev/null || true; }
trap stop EXIT
trap 'exit 130' INT TERM
until grep -q "nodes are ready" "$dir/dev.log"; do
  kill -0 "$cluster" 2>/dev/null || { cat "$dir/dev.log" >&2; exit 1; }
  sleep 0.2
done

token=$("$messenger" token alice --device phone --data "$dir/data")
post() {
  curl -sS --fail-with-body -X POST "$server$1" -H "Authorization: Bearer $token" -H 'Content-Type: application/json' \
    -H "Idempotency-Key: $RANDOM$RANDOM" -d "$2"
}
first_id() { python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])'; }
thread=$(post /v1/threads '{"type": "GROUP", "participants": ["bob", "carol"], "title": "conformance"}' | first_id)
message=$(post "/v1/threads/$thread/messages" '{"client_seq": 1, "ciphertext": "aGVsbG8="}' | first_id)

# What is not asked here: whether bad data that happens to be good is refused (`negative_data_rejection` knows the schema
# only) is, of the paths with ids that are there; the device of the token itself is not deleted.
check() {
  local name=$1
  shift
  echo "conformance: $name"
  # Where it keeps what it finds.
  cd "$dir"
  "$dir/venv/bin/st" --config-file "$dir/$name.toml" run "$server/v1/openapi.json" \
    --header "Authorization: Bearer $token" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,negative_data_rejection,missing_required_header,unsupported_method,allow_header_conformance,ignored_auth \
    --phases examples,coverage,fuzzing --continue-on-failure --max-time "$seconds" --seed "$seed" --warnings off "$@"
}
# Bad data may also be too large: a list that is too long does not fit a body.
cat >"$dir/unknown.toml" <<TOML
[checks]
negative_data_rejection.expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429"]
TOML
cp "$dir/unknown.toml" "$dir/known.toml"
cat >>"$dir/known.toml" <<TOML
[parameters]
"path.thread_id" = "$thread"
"path.message_id" = "$message"
"path.user_id" = "bob"
"path.device_id" = "phone"
TOML
status=0
# A plain GET of the WebSocket's path is always 426, whatever else is wrong with it.
check unknown --exclude-path /v1/realtime || status=1
check known --exclude-path /v1/realtime --exclude-operation-id deleteDevice || status=1
exit "$status"
