"""Assets hold the project's own files only: nothing that lies around, nothing that git does not track, no secret."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stacks.constructs.assets import ROOT, AssetError, AssetFiles, AssetSource, choose_files, copy_files
from stacks.platform.model_build import build_source

IMAGE = AssetSource(context="containers", folders=("containers/tabular", "containers/serving"), flat=("containers",))
LOAD_TEST = AssetSource(context=".", folders=("containers/load_test", "load_tests"), without=("load_tests/tuning",))
HANDLER = AssetSource(
    context="stacks/constructs/built_artifact_handler", folders=("stacks/constructs/built_artifact_handler",)
)
SOURCES = {
    "image": IMAGE,
    "load test": LOAD_TEST,
    "function": HANDLER,
    **{f"build of {name}": build_source(name) for name in ("encoder", "neuron_encoder", "tabular", "saved_model")},
}
# Put together here, so that no scanner takes this file for a leak.
SECRETS = {
    "an AWS access key": 'KEY = "AKIA' + 'IOSFODNN7EXAMPLE"\n',
    "an AWS secret access key": "aws_secret_" + "access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n",
    "a private key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----\n",
    "a Hugging Face token": 'TOKEN = "hf_' + "a" * 34 + '"\n',
    "a URL with a password": 'INDEX = "https://user:' + 'hunter2@packages.example.com/simple/"\n',
    "a secret": "db_pass" + "word: str\nDB_PASS" + 'WORD = "hunter2hunter2"\n',
}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's own files, without git."""
    root = tmp_path_factory.mktemp("pristine")
    for path in {path for source in SOURCES.values() for path in choose_files(source, ROOT).files}:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, root / path)
    return root


@pytest.fixture
def project(pristine: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(pristine, tmp_path / "project")


def track(root: Path, *options: str) -> None:
    """Make the copy a checkout whose index holds all that its folders hold."""
    for command in (["init", "--quiet"], ["add", *options, "."]):
        subprocess.run(["git", *command], cwd=root, check=True, timeout=60, capture_output=True)


def tree(folder: str) -> dict[str, tuple[bytes, int]]:
    """Content and mode of every file."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in Path(folder).rglob("*")
        if not path.is_dir() or path.is_symlink()
    }


def staged(source: AssetSource, root: Path) -> dict[str, tuple[bytes, int]]:
    return tree(copy_files(choose_files(source, root), source.context, root))


def plant(root: Path) -> None:
    """Leave behind in every folder what work trees collect."""
    for folder in ("containers", "containers/tabular", "containers/serving", "containers/load_test", "load_tests",
                   "model_build", "model_build/tabular", "model_build/encoder/data", HANDLER.context):  # fmt: skip
        top = root / folder
        for name in (".env", ".env.local", "prod.env", "id_rsa", "id_ed25519.pub", "server.pem", "server.key", ".netrc",
                     ".pypirc", "credentials", "keystore.p12", "kubeconfig", "notes.txt", "app.py~", "app.py.orig",
                     "#app.py#", ".app.py.swp", "._app.py", "app (copy).py", ".DS_Store", "old.tar.gz",
                     ".dockerignore", ".gitignore", "Dockerfile.dockerignore"):  # fmt: skip
            (top / name).write_text("*\n")
        for name in (".venv/lib/site.py", "venv/lib/site.py", ".cache/step/data.json", "__pycache__/app.py", "env/a.py",
                     ".aws/credentials", ".ssh/id_rsa", "node_modules/a/b.json", "x.egg-info/a.json",
                     ".git-old/config.py", "my_environment/pyvenv.cfg", "my_environment/lib/a.py"):  # fmt: skip
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text("*\n")
        (top / "passwd.py").symlink_to("/etc/passwd")
        (top / "everything").symlink_to("/etc")
        (top / "twin.py").symlink_to(root / "containers/__init__.py")


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_what_lies_around_is_in_no_asset(project: Path, source: AssetSource) -> None:
    clean = staged(source, project)
    plant(project)
    assert staged(source, project) == clean


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_checkout_and_an_archive_of_it_make_the_same_asset(project: Path, source: AssetSource) -> None:
    archive = staged(source, project)
    track(project)
    plant(project)
    for folder in source.folders:
        (project / folder / "scratch.py").write_text("1 / 0\n")
    assert staged(source, project) == archive


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_modes_are_gits_and_not_this_machines(project: Path, source: AssetSource) -> None:
    before = staged(source, project)
    for path in (ROOT / each for each in choose_files(source, ROOT).files):
        copy = project / path.relative_to(ROOT)
        copy.chmod(copy.stat().st_mode & 0o700)
    assert staged(source, project) == before
    assert {mode for _, mode in before.values()} <= {0o644, 0o755}


def test_a_file_that_git_does_not_track_is_left_out_with_a_warning_that_names_it(project: Path) -> None:
    track(project)
    (project / "containers/serving/scratch.py").touch()
    chosen = choose_files(IMAGE, project)
    assert "containers/serving/scratch.py" not in chosen.files
    (warning,) = chosen.warnings
    assert "containers/serving/scratch.py" in warning and "git add" in warning


def test_a_tracked_file_of_an_unknown_kind_is_left_out_with_a_warning_that_names_it(project: Path) -> None:
    for name in ("words.bin", "load.py"):
        (project / "containers/serving" / name).write_text("")
    (project / "containers/serving/twin.py").symlink_to("load.py")
    track(project)
    chosen = choose_files(IMAGE, project)
    assert "containers/serving/load.py" in chosen.files
    (warning,) = chosen.warnings
    assert (
        "containers/serving/twin.py, containers/serving/words.bin" in warning
        and "stacks/constructs/assets.py" in warning
    )


def test_a_clean_tree_has_no_warnings(project: Path) -> None:
    track(project)
    assert [choose_files(source, project).warnings for source in SOURCES.values()] == [()] * len(SOURCES)


@pytest.mark.parametrize("is_tracked", [True, False])
@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_in_a_file_is_refused_with_file_and_line_and_never_quoted(
    project: Path, kind: str, is_tracked: bool
) -> None:
    (project / "containers/serving/limits.py").write_text("LIMIT = 1\n" + SECRETS[kind])
    if is_tracked:
        track(project)
    with pytest.raises(AssetError, match=rf"containers/serving/limits\.py, line [23], .*{kind}.*revoke it") as error:
        choose_files(IMAGE, project)
    assert "hunter2" not in str(error.value) and "IOSFODNN7" not in str(error.value)


def test_a_secret_in_a_binary_file_is_refused_too(project: Path) -> None:
    path = "model_build/encoder/demo_model/adapter/adapter_model.safetensors"
    with (project / path).open("ab") as file:
        file.write(b"\0" + SECRETS["an AWS access key"].encode() + b"\0")
    with pytest.raises(AssetError, match=f"{path} holds what looks like an AWS access key"):
        choose_files(build_source("encoder"), project)


@pytest.mark.parametrize(
    "line",
    [
        'TOKEN = os.environ["HF_TOKEN"]',
        'pad_token = "[PAD]"',
        'token = "<|endoftext|>"',
        'PASSWORD = "DB_PASSWORD"',
        'token = f"{prefix}-{name}"',
        'secret: "arn:aws:secretsmanager:eu-west-1:111111111111:secret:hub-AbCdEf"',
        'place="aws:$token@$place"',
    ],
)
def test_code_that_names_a_secret_without_holding_it_is_shipped(project: Path, line: str) -> None:
    (project / "containers/serving/limits.py").write_text(line + "\n")
    assert "containers/serving/limits.py" in choose_files(IMAGE, project).files


@pytest.mark.parametrize(
    "path",
    [
        "containers/tabular/.env",
        "containers/tabular/id_rsa",
        "model_build/tabular/server.pem",
        "model_build/tabular/private.key",
        "deployments/.env.prod",
        ".aws/credentials",
        "docs/kubeconfig",
        "docs/.kube/config",
        ".netrc",
        ".pypirc",
        "load_tests/keystore.p12",
        "client_secret_1.json",
    ],
)
def test_a_tracked_file_that_is_named_like_a_secret_is_refused_wherever_it_is(project: Path, path: str) -> None:
    (project / path).parent.mkdir(parents=True, exist_ok=True)
    (project / path).write_text("x")
    track(project, "--force")
    with pytest.raises(AssetError, match=rf"^{path} is tracked by git .*git rm --cached"):
        choose_files(IMAGE, project)


@pytest.mark.parametrize("path", [".env.example", "docs/tokens.py", "containers/serving/secrets.py", ".envrc"])
def test_a_name_that_only_resembles_one_of_a_secret_is_not_refused(project: Path, path: str) -> None:
    (project / path).parent.mkdir(parents=True, exist_ok=True)
    (project / path).write_text("")
    track(project, "--force")
    assert choose_files(IMAGE, project).files


def test_a_certificate_is_no_secret(project: Path) -> None:
    (project / "authority.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    track(project, "--force")
    assert choose_files(IMAGE, project).files


def test_a_file_named_like_a_secret_of_an_allowed_kind_is_refused_without_git(project: Path) -> None:
    (project / "model_build/encoder/data/credentials.json").write_text("{}")
    with pytest.raises(AssetError, match=r"model_build/encoder/data/credentials\.json is named like .*move it"):
        choose_files(build_source("encoder"), project)


@pytest.mark.parametrize("change", [shutil.rmtree, lambda folder: folder.rename(folder.with_name("elsewhere"))])
def test_a_folder_behind_a_symbolic_link_is_refused(project: Path, change: Callable[[Path], None]) -> None:
    change(project / "containers/serving")
    with pytest.raises(AssetError, match="containers/serving is not a folder of the project"):
        choose_files(IMAGE, project)
    (project / "containers/serving").symlink_to("/etc")
    with pytest.raises(AssetError, match=r"containers/serving is not a folder of the project: .* not followed"):
        choose_files(IMAGE, project)


def test_an_outer_repository_that_tracks_nothing_here_does_not_count(project: Path) -> None:
    before = choose_files(IMAGE, project)
    subprocess.run(["git", "init", "--quiet"], cwd=project.parent, check=True, timeout=60)
    assert choose_files(IMAGE, project) == before


def test_a_hooks_variables_name_no_other_repository(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    track(project)
    before = choose_files(IMAGE, project)
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.setenv(name, "/nowhere")
    assert choose_files(IMAGE, project) == before


def test_without_the_git_program_a_checkout_says_what_it_cannot_tell(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = choose_files(IMAGE, project)
    track(project)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    chosen = choose_files(IMAGE, project)
    assert chosen == AssetFiles(before.files, chosen.warnings)
    assert "git cannot list this checkout" in chosen.warnings[0]
