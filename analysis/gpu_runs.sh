#!/bin/sh
# The whole table on one GPU: every row of the papers, random and grouped, resumable. Run it again after any stop.
#   DATA=/path/to/Dataset_BUSI_with_GT sh analysis/gpu_runs.sh            (or: make gpu-runs DATA=...)
# WEIGHTS=none runs without pretrained weights where no model hub can be reached; such rows are recorded as random.
# BUSISEG='python3 -m busiseg_nb.cli' runs the checkout where nothing is installed but what training needs.
# MINUTES=9 ends each call cleanly after so long, so that the table can be made in pieces.
set -eu
: "${DATA:=${BUSI_ROOT:?set DATA or BUSI_ROOT to the folder of the data set}}"
BUSISEG=${BUSISEG:-${BIN:-.venv/bin}/busiseg}; RUNS=${RUNS:-runs}; OUT=${OUT_RESULTS:-results}
run() { # name, options
  name=$1; shift
  $BUSISEG reproduce --data "$DATA" --name "$name" --runs "$RUNS" --resume ${WEIGHTS:+--weights "$WEIGHTS"} ${MINUTES:+--minutes "$MINUTES"} "$@"
  if [ -f "$RUNS/$name/results.json" ]; then
    mkdir -p "$OUT/$name"
    for f in results.json history.csv counts.csv split.json; do cp "$RUNS/$name/$f" "$OUT/$name/$f"; done
  fi
}
tag=${WEIGHTS:+-$WEIGHTS}
run "paper-resnext50$tag"            --profile paper
run "paper-unet$tag"                 --profile paper --model unet
run "paper-resnext101$tag"           --profile paper --model resnext101
run "report$tag"                     --profile report
run "paper-grouped-resnext50$tag"    --profile paper-grouped
run "paper-grouped-unet$tag"         --profile paper-grouped --model unet
run "paper-grouped-resnext101$tag"   --profile paper-grouped --model resnext101
run "report-as-published$tag"        --profile report-as-published
