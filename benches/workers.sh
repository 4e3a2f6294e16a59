#!/usr/bin/env bash
# The training step of Fashion-MNIST's student by two workers of one thread, beside one worker of two
# threads and of one, on a machine of two cores:
#
#   cargo build --release --features mpi && benches/workers.sh
#
# ROUNDS alternating runs of ITERATIONS iterations each; prints the median milliseconds of a step,
# the first WINDOW iterations of a run left out, and how much of the speed of one worker with two
# threads two workers have. KDM names the program, MPI_FLAGS more flags of mpirun.
set -euo pipefail

KDM=${KDM:-target/release/kdm}
ROUNDS=${ROUNDS:-5}
ITERATIONS=${ITERATIONS:-12}
WINDOW=${WINDOW:-3}
BATCH=${BATCH:-32}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$KDM" pairs generate --teacher fashion-mnist --count 256 --steps 2 \
  --out "$work/pairs" >/dev/null

# One run: its name, workers, threads, leaves.
measure() {
  local out="$work/$1" mpi=()
  rm -rf "$out"
  if [ "$2" -gt 1 ]; then mpi=(mpirun --bind-to none ${MPI_FLAGS:-} -n "$2"); fi
  "${mpi[@]}" "$KDM" distill --preset fashion-mnist --pairs "$work/pairs" --out "$out" \
    --threads "$3" --set "train.leaves=$4" --set "train.batch=$BATCH" \
    --set "train.iterations=$ITERATIONS" --set "train.log_every=$WINDOW" --set train.held_out=1 \
    --set train.warmup=0 --set train.validate_every=1000000 \
    --set train.checkpoint_every=1000000 >/dev/null 2>"$work/said" || { cat "$work/said" >&2; exit 1; }
  python3 - "$out/metrics.jsonl" "$WINDOW" >>"$work/$1.ms" <<'PY'
import json, sys
for line in map(json.loads, open(sys.argv[1])):
    rate = line.get("train/iterations_per_second")
    if rate and line["iteration"] > int(sys.argv[2]):
        print(1e3 / rate)
PY
}

for round in $(seq "$ROUNDS"); do
  echo "round $round of $ROUNDS" >&2
  measure 2x1 2 1 2
  measure 1x2 1 2 1
  measure 1x2-in-two-leaves 1 2 2
  measure 1x1 1 1 1
done
python3 - "$work" <<'PY'
import statistics, sys
def ms(name):
    times = [float(line) for line in open(f"{sys.argv[1]}/{name}.ms")]
    print(f"{name:>18}: median {statistics.median(times):.0f} ms a step, "
          f"{min(times):.0f} to {max(times):.0f} ({len(times)} windows)")
    return statistics.median(times)
two, one, leaves, single = map(ms, ["2x1", "1x2", "1x2-in-two-leaves", "1x1"])
print(f"two workers of one thread have {one / two:.2f} of the speed of one with two threads "
      f"({leaves / two:.2f} where that one has two leaves), {single / two:.2f} of one with one")
PY
