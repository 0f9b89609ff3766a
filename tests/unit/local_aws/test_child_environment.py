"""Child processes get a list of variables, and not what else the user's shell has."""

from local_aws.child_environment import inherited

SHELL = {
    "PATH": "/usr/bin",
    "HOME": "/home/user",
    "LC_ALL": "C.UTF-8",
    "OPENBLAS_CORETYPE": "Haswell",
    "INFERENCE_LOCAL_CACHE": "/cache",
    "PIP_INDEX_URL": "https://user:password@index.example.com/simple",
    "HTTPS_PROXY": "http://user:password@proxy.example.com",
    "INFERENCE_HUB_TOKEN": "secret",
    "GITHUB_TOKEN": "secret",
    "HF_TOKEN": "secret",
    "AWS_PROFILE": "production",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "SSH_AUTH_SOCK": "/run/agent",
    "LD_PRELOAD": "/tmp/evil.so",
    "PYTHONPATH": "/tmp/evil",
    "PYTHONSTARTUP": "/tmp/evil.py",
}


def test_no_token_and_nothing_that_loads_code_is_inherited() -> None:
    assert set(inherited(SHELL)) == {"PATH", "HOME", "LC_ALL", "OPENBLAS_CORETYPE", "INFERENCE_LOCAL_CACHE"}


def test_what_installs_packages_gets_the_index_and_the_proxy_too() -> None:
    assert set(inherited(SHELL, installs=True)) - set(inherited(SHELL)) == {"PIP_INDEX_URL", "HTTPS_PROXY"}
