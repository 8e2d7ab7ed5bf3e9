"""A machine that never heard of adtn: opens the dense artifact with the user's own network and evaluates it.

Started as `python -I -S stranger.py SITE_PACKAGES DENSE TEST_SPLIT`: without the site module, so that only what lies in
SITE_PACKAGES can be imported. Prints the accuracy.
"""

import sys
from pathlib import Path


def main() -> None:
    """Prove that adtn is absent, then load and evaluate."""
    site_packages, dense, test_split = sys.argv[1:]
    sys.path[:0] = [site_packages, str(Path(__file__).parent)]
    # Should adtn be installed there in earnest, this makes it absent all the same.
    sys.modules["adtn"] = None  # type: ignore[assignment]
    try:
        import adtn  # noqa: F401 - must fail
    except ImportError:
        pass
    else:
        raise SystemExit("adtn can be imported here, so this proves nothing")

    from model import DigitsNet, accuracy
    from safetensors.torch import load_file

    model = DigitsNet()
    model.load_state_dict(load_file(dense))
    test = load_file(test_split)
    sys.stdout.write(repr(accuracy(model, test["test_x"], test["test_y"])))


if __name__ == "__main__":
    main()
