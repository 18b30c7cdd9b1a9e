#!/usr/bin/env bash
# Measures `messenger bench send` beside a three-member etcd, on this machine, in one run.
#
# The two take turns and never run at once: each round starts etcd, loads it, stops it, then does the same with a
# three-node messenger cluster. Data directories are on one disk, and both sync every write. Prints Markdown.
#
#   node/scripts/bench.sh [path of the messenger binary]
#
# CLIENTS=16,64,256  SECONDS_EACH=10  WARMUP=3  ROUNDS=3  PAYLOAD=256  SHARDS=6  ETCD_CONNECTIONS=1  BENCH_DIR=.bench
set -euo pipefail

messenger=${1:-${MESSENGER:-messenger}}
clients=${CLIENTS:-16,64,256}
seconds=${SECONDS_EACH:-10}
warmup=${WARMUP:-3}
rounds=${ROUNDS:-3}
payload=${PAYLOAD:-256}
shards=${SHARDS:-6}
connections=${ETCD_CONNECTIONS:-1}
dir=${BENCH_DIR:-.bench}
base_port=${BASE_PORT:-17401}
servers="http://127.0.0.1:$base_port,http://127.0.0.1:$((base_port + 1)),http://127.0.0.1:$((base_port + 2))"

command -v "$messenger" >/dev/null || { echo "bench: $messenger is not there; build it first (cargo build)" >&2; exit 2; }
rm -rf "$dir"
mkdir -p "$dir"
runs=$dir/runs.jsonl
: >"$runs"
pids=()

# Ends what this script started, and nothing else.
stop() {
  local pid
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  pids=()
}
trap stop EXIT
trap 'exit 130' INT TERM

start_etcd() {
  local n cluster=m1=http://127.0.0.1:23801,m2=http://127.0.0.1:23802,m3=http://127.0.0.1:23803
  for n in 1 2 3; do
    etcd --name "m$n" --data-dir "$dir/etcd-$n" --logger zap --log-level error --log-outputs "$dir/etcd-$n.log" \
      --listen-client-urls "http://127.0.0.1:2379$n" --advertise-client-urls "http://127.0.0.1:2379$n" \
      --listen-peer-urls "http://127.0.0.1:2380$n" --initial-advertise-peer-urls "http://127.0.0.1:2380$n" \
      --initial-cluster "$cluster" --initial-cluster-token bench --quota-backend-bytes 8589934592 \
      >"$dir/etcd-$n.out" 2>&1 &
    pids+=($!)
  done
}

measure_etcd() {
  start_etcd
  "$messenger" bench etcd --clients "$clients" --seconds "$seconds" --warmup "$warmup" --payload "$payload" \
    --connections "$connections" --wait 60s --output json >>"$runs"
  stop
}

measure_messenger() {
  "$messenger" dev --nodes 3 --shards "$shards" --data "$dir/messenger" --base-port "$base_port" \
    >"$dir/messenger.out" 2>&1 &
  pids+=($!)
  until [ -e "$dir/messenger/keys/dev.json" ]; do sleep 0.1; done
  "$messenger" bench send --server "$servers" --data "$dir/messenger" --transport rest,socket --clients "$clients" \
    --seconds "$seconds" --warmup "$warmup" --payload "$payload" --wait 60s --output json >>"$runs"
  stop
}

etcd_version=$(etcd --version 2>/dev/null | head -n 1 || true)
[ -n "$etcd_version" ] || echo "bench: no etcd here (Debian: apt-get install etcd-server): measuring without it" >&2

for round in $(seq "$rounds"); do
  echo "bench: round $round of $rounds" >&2
  [ -z "$etcd_version" ] || measure_etcd
  [ "${ONLY_ETCD:-}" = 1 ] || measure_messenger
done

echo "Payload $payload bytes, $seconds s a run after ${warmup} s, median of $rounds rounds; messenger: 3 nodes, $shards shards; \
etcd: ${etcd_version:-not measured}, 3 members, $connections connection(s) each. Load and servers share the machine."
echo
"$messenger" bench compare "$runs"
