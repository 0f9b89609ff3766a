#!/usr/bin/env bash
# Run by the buildspec: creates the build's environment once per set of requirements, then builds.
# The CodeBuild project and the custom resource set RECIPE, ARTIFACT_BUCKET and ARTIFACT_PREFIX.
set -euo pipefail
source model_build/package_index.sh
cache="${INFERENCE_BUILD_CACHE:-/root/.cache/inference-build}"
build_cache verify "${ARTIFACT_PREFIX%%/*}" "$cache"
folder=model_build/tabular
key=$(cat $folder/requirements.txt <(python3 --version) | sha256sum | cut -c1-16)
venv=$cache/venvs/tabular-$key
mkdir -p "$cache/venvs"
(
  # Builds on one machine share the environment: a second build waits until the first has created it.
  flock 9
  if [ ! -e "$venv/ready" ]; then
    new_environment python3 "$venv"
    install_packages "$venv" -r $folder/requirements.txt
    touch "$venv/ready"
  fi
) 9>"$venv.lock"
"$venv/bin/python" -m model_build.tabular --cache "$cache/steps"
build_cache record "${ARTIFACT_PREFIX%%/*}" "$cache"
