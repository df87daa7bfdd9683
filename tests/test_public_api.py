"""The package's face."""

import subprocess
import sys

import pytest

import foretune


def test_every_public_name_is_there():
    for name in foretune.__all__:
        assert getattr(foretune, name) is not None
    assert set(foretune.__all__) <= set(dir(foretune))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = foretune.nonsense


def test_importing_the_package_loads_nothing():
    code = (
        "import foretune, sys; sys.exit(any(m in sys.modules for m in ('numpy', 'torch', "
        "'ConfigSpace', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_inside_other_libraries_is_a_module_of_the_package():
    """`foretune.optuna.Sampler` is there where Optuna is, and says what to install where it is
    not.
    """
    code = (
        "import sys; sys.modules['optuna'] = None; import foretune\n"
        "try: foretune.optuna.Sampler\n"
        "except foretune.BadInput as e: sys.exit('foretune[optuna]' not in str(e))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
