#!/usr/bin/env bash
# Everything that is to be measured on a GPU, in one command; tables on the screen, JSON in OUTPUT.
#
#   benchmarks/gpu.sh DATA OUTPUT              DATA: the folder of 300W (official CSV files, images)
#   benchmarks/gpu.sh DATA OUTPUT quicktest    the same in small, on any machine: to see that it runs
#
# PEAK_TFLOPS (of bfloat16) and PEAK_GBS of the device give the floors: 989 and 3350 for an H100 SXM.
# Packages: pip install -e '.[gpu]', and torch with CUDA for the comparison.
set -euo pipefail
cd "$(dirname "$0")/.."
data=$1 output=$2 size=${3:-full}
python=${PYTHON:-python}
config=configs/300w_w18_device.py
model=hrnetv2_w18 pixels=256 batches=16,32,64,128,256 repeats=10 calls=10 profiled=64 rows=threads,device
options=plain,pmap,accumulate,ema,remat,flatten
if [ "$size" = quicktest ]; then
  config+=:quicktest
  model=hrnetv2_w18_small_v1 pixels=64 batches=2 repeats=2 calls=2 profiled=2 rows=device
  options=plain,ema
fi
floors=()
[ -n "${PEAK_TFLOPS:-}" ] && floors+=(--peak-tflops="$PEAK_TFLOPS")
[ -n "${PEAK_GBS:-}" ] && floors+=(--peak-gbs="$PEAK_GBS")
mkdir -p "$output"
nvidia-smi || echo "no nvidia-smi here"

for mode in train forward; do
  echo "== $mode against PyTorch"
  $python -m benchmarks.torch_compare --mode=$mode --model=$model --size=$pixels --batch=$batches \
    --dtype=bfloat16 --repeats=$repeats "${floors[@]}" --json="$output/torch_$mode.json"
done

echo "== batches end to end"
$python -m benchmarks.end_to_end --config=$config --config.data.root="$data" --rows=$rows \
  --calls=$calls --repeats=$repeats --json="$output/end_to_end.json"

echo "== what each option of training costs"
$python -m benchmarks.options --config=$config --rows=$options --repeats=$repeats \
  --json="$output/options.json"

echo "== where the time of a training step goes"
$python -m benchmarks.profile_step --mode=train --model=$model --size=$pixels --batch=$profiled \
  --dtype=bfloat16 --json="$output/profile.json"

echo "== a whole run"
time $python train.py --config=$config --config.data.root="$data" --workdir="$output/run"
$python evaluate.py --config=$config --config.data.root="$data" --checkpoint="$output/run" \
  --output="$output/eval"
