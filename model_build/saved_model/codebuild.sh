#!/usr/bin/env bash
# Run by the buildspec: creates the build's environment once per set of requirements, then builds.
# The CodeBuild project and the custom resource set RECIPE, ARTIFACT_BUCKET and ARTIFACT_PREFIX.
set -euo pipefail
source model_build/package_index.sh
build_cache verify "$cache"
folder=model_build/saved_model
key=$(cat $folder/requirements.txt <(python3 --version) | sha256sum | cut -c1-16)
venv=$cache/venvs/saved_model-$key
packages() {
  install_packages "$venv" -r $folder/requirements.txt
}
build_environment python3 "$venv" packages
"$venv/bin/python" -m model_build.saved_model --cache "$cache/steps"
build_cache record "$cache"
