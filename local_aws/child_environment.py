"""Allow-list of variables that child processes inherit, because the user's shell also holds tokens."""

import os
from collections.abc import Mapping

_NAMES = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "CI",
        "INFERENCE_BUILD_CACHE", "INFERENCE_HOSTING_URL", "INFERENCE_INSTALLER", "INFERENCE_UV",
        # Certificates of networks that intercept HTTPS.
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
    }
)  # fmt: skip
_PREFIXES = (
    "LC_",
    # Numerical libraries: thread counts, and kernels that work on this processor.
    "OMP_", "OPENBLAS_", "MKL_", "ONEDNN_", "KMP_",
    "INFERENCE_LOCAL_",
)  # fmt: skip
_INSTALLING = ("PIP_", "UV_")
_INSTALLING_NAMES = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"}
)


def inherited(environment: Mapping[str, str] | None = None, *, installs: bool = False) -> dict[str, str]:
    """Return the variables that a child process may inherit.

    environment: where they are taken from; None means this process's own. installs: whether the child installs
    packages. If so, it also gets pip's and uv's settings and the proxies, whose URLs may hold a password.
    """
    given = os.environ if environment is None else environment
    names = _NAMES | _INSTALLING_NAMES if installs else _NAMES
    prefixes = (*_PREFIXES, *_INSTALLING) if installs else _PREFIXES
    return {name: value for name, value in given.items() if name in names or name.startswith(prefixes)}
