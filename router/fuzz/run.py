"""`python router/fuzz/run.py TARGET [libFuzzer's arguments]`: coverage-guided fuzzing of one target with atheris."""

import sys

import atheris

with atheris.instrument_imports(include=["bes_router"]):
    import targets

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, targets.TARGETS[name])
    atheris.Fuzz()
