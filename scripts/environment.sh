# Sourced by the scripts: checks what must be on the machine, and makes .venv once per set of pins.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
python=${PYTHON:-python3}

fail() { echo "error: $*" >&2; exit 1; }

command -v "$python" >/dev/null || fail "Python 3.11 or newer is needed and $python is not there; install it or set PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "Python 3.11 or newer is needed, $python is $("$python" -c 'import platform; print(platform.python_version())'); set PYTHON to another"
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$python has no venv module; install it (Debian: python3-venv)"
command -v node >/dev/null || fail "Node.js 20 or newer is needed for the CDK and is not there; install it"
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || fail "Node.js 20 or newer is needed, this is $(node --version)"
command -v npm >/dev/null || fail "npm is needed to install the CDK's command line and is not there; install it"

# environment EXTRAS: .venv with those extras, installed again only when a pin changed.
environment() {
  local pins
  pins=$(cat pyproject.toml constraints.txt <("$python" --version) | sha256sum | cut -c1-16)
  if [ ! -e ".venv/pins-$pins" ]; then
    # What no earlier run of this function made is not deleted.
    if [ -e .venv ] && ! compgen -G ".venv/pins-*" >/dev/null; then
      fail ".venv was not made by these scripts: move it away, or delete it"
    fi
    rm -rf .venv
    "$python" -m venv .venv
    touch ".venv/pins-$pins"
  fi
  if [ ! -e ".venv/ready-$1" ]; then
    echo "installing Python packages into .venv" >&2
    (
      .venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt uv
      sources=$(.venv/bin/python local_aws/installer.py .cache)
      eval "$sources"
      if [ -n "${INFERENCE_UV:-}" ]; then
        "$INFERENCE_UV" pip install --quiet --python .venv/bin/python -c constraints.txt -e ".[$1]"
      else
        .venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$1]"
      fi
    )
    touch ".venv/ready-$1"
  fi
}

# node_packages: the CDK's command line and the SDK clients its handlers need.
node_packages() {
  if ! cmp -s package-lock.json node_modules/.ready 2>/dev/null; then
    echo "installing Node packages into node_modules" >&2
    npm ci --no-audit --no-fund --loglevel=error >&2
    cp package-lock.json node_modules/.ready
  fi
}

export PATH="$root/.venv/bin:$root/node_modules/.bin:$PATH"
export JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION=20 CDK_DISABLE_CLI_TELEMETRY=true
