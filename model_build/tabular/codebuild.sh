#!/usr/bin/env bash
# What the buildspec runs: makes the build's environment once per set of requirements, then builds.
# RECIPE, ARTIFACT_BUCKET and ARTIFACT_PREFIX come from the CodeBuild project and the custom resource.
set -euo pipefail
source model_build/package_index.sh
cache="${INFERENCE_BUILD_CACHE:-/root/.cache/inference-build}"
build_cache verify tabular "$cache"
folder=model_build/tabular
key=$(cat $folder/requirements.txt <(python3 --version) | sha256sum | cut -c1-16)
venv=$cache/venvs/tabular-$key
mkdir -p "$cache/venvs"
(
  # Two builds on one machine share the environment: the second waits for the first to finish making it.
  flock 9
  if [ ! -e "$venv/ready" ]; then
    new_environment python3 "$venv"
    install_packages "$venv" -r $folder/requirements.txt
    touch "$venv/ready"
  fi
) 9>"$venv.lock"
"$venv/bin/python" -m model_build.tabular --cache "$cache/steps"
build_cache record tabular "$cache"
