# Sourced by the builds. If PACKAGE_INDEX is set, an HTTPS URL, pip installs packages only from there.
# For a CodeArtifact repository, the build's role logs in for as long as a build may take.
if [ -n "${PACKAGE_INDEX:-}" ]; then
  place=${PACKAGE_INDEX#https://}
  if [[ ${place%%/*} =~ ^([a-z0-9-]+)-([0-9]{12})\.d\.codeartifact\.([a-z0-9-]+)\.amazonaws\.com$ ]]; then
    token=$(aws codeartifact get-authorization-token --domain "${BASH_REMATCH[1]}" --domain-owner "${BASH_REMATCH[2]}" \
      --region "${BASH_REMATCH[3]}" --duration-seconds 7200 --query authorizationToken --output text)
    place="aws:$token@$place"
  fi
  export PIP_INDEX_URL="https://$place" UV_DEFAULT_INDEX="https://$place"
  # A requirements file's own indexes override the variable, so remove them. The build has its own copy of the sources.
  if [ -n "${CODEBUILD_BUILD_ID:-}" ]; then
    sed -i '/^--extra-index-url /d' model_build/*/requirements*.txt
  fi
fi

# Environments and finished steps. Every buildspec has CodeBuild keep this folder.
cache=${INFERENCE_BUILD_CACHE:-/var/cache/inference-build}

# new_environment PYTHON FOLDER creates a virtual environment; install_packages FOLDER ARGUMENTS... installs into it.
# Both use the uv that the local account sets in INFERENCE_UV, otherwise pip. Leftovers of an interrupted build are
# deleted, but never a folder without a build's marker.
new_environment() {
  local marker=$2/.made-by-sagemaker-inference-stacks
  if [ -e "$2" ] || [ -L "$2" ]; then
    if [ -L "$2" ] || [ ! -f "$marker" ] || [ -L "$marker" ]; then
      echo "error: $2 was not created by a build: delete it yourself, or set INFERENCE_BUILD_CACHE to another folder" >&2
      exit 1
    fi
    rm -rf "$2"
  fi
  mkdir -p "$2"
  touch "$marker"
  if [ -n "${INFERENCE_UV:-}" ]; then
    "$INFERENCE_UV" venv --quiet --allow-existing --python "$(command -v "$1")" "$2"
  else
    "$1" -m venv "$2"
  fi
}
install_packages() {
  local folder=$1
  shift
  if [ -n "${INFERENCE_UV:-}" ]; then
    "$INFERENCE_UV" pip install --quiet --python "$folder/bin/python" "$@"
  else
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$@"
  fi
}

# build_environment PYTHON FOLDER INSTALL: creates an environment once, with the packages that the function INSTALL adds.
# Builds on one machine share it: a second build waits until the first has created it.
build_environment() {
  mkdir -p "$(dirname "$2")"
  (
    flock 9
    if [ ! -e "$2/ready" ]; then
      new_environment "$1" "$2"
      "$3"
      touch "$2/ready"
    fi
  ) 9>"$2.lock"
}

# build_cache verify|record CACHE: keep only the restored entries whose hashes an earlier build of the workload recorded.
# A local account's cache is a private folder of this machine and is never restored from S3.
build_cache() {
  if [ -n "${CODEBUILD_BUILD_ID:-}" ] && [ -z "${INFERENCE_BUILD_CACHE:-}" ]; then
    python3 model_build/build_cache.py "$1" "$2" "s3://$ARTIFACT_BUCKET/${ARTIFACT_PREFIX%%/*}/build-cache.json"
  fi
}
