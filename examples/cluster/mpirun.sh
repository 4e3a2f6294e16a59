#!/usr/bin/env bash
# Trains one student on several machines that share a folder, with Open MPI.
#
#   HOSTS=node1:2,node2:2 WORKERS=4 THREADS=16 examples/cluster/mpirun.sh
#
# HOSTS: machines and how many workers each has; none for this machine alone. `kdm` is built with
# `--features mpi` and in the PATH of all of them.
set -euo pipefail

WORKERS=${WORKERS:-2}
THREADS=${THREADS:-1}
PRESET=${PRESET:-fashion-mnist}
PAIRS=${PAIRS:-pairs}
OUT=${OUT:-student}
LEAVES=${LEAVES:-$WORKERS}
KDM=${KDM:-kdm}

where=()
if [ -n "${HOSTS:-}" ]; then where=(--host "$HOSTS"); fi
resume=()
if [ -e "$OUT/config.toml" ]; then resume=(--resume); fi

# PE binds each worker to cores of its own. A worker that is asked to stop (Ctrl-C) has a minute to
# write its checkpoint.
exec mpirun "${where[@]}" -n "$WORKERS" ${MPI_FLAGS:---map-by "slot:PE=$THREADS"} \
  --mca odls_base_sigkill_timeout 60 \
  "$KDM" distill --threads "$THREADS" --preset "$PRESET" --pairs "$PAIRS" --out "$OUT" \
  --set "train.leaves=$LEAVES" "${resume[@]}" "$@"
