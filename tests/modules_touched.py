"""Print how many modules of iavlib execute a function in one small training run."""

import sys
import threading
from pathlib import Path

# before functions are noted, which makes importing slow
import pandas  # noqa: F401
import pandera  # noqa: F401
import skimage.io  # noqa: F401
import sklearn.linear_model  # noqa: F401
import torch  # noqa: F401

touched = set()


def note(frame, event, argument):
    code = frame.f_code
    if event == "call" and code.co_name != "<module>" and "/iavlib/" in code.co_filename:
        touched.add(code.co_filename)


threading.setprofile(note)
sys.setprofile(note)

from iavlib.experiments import Experiment, RunStore, run  # noqa: E402

fields = {"cohort_options": {"n_images": 24, "size": [48, 48]}, "weights": "none", "size": 48}
experiment = Experiment(
    cohort="phantom", backbone="test_resnet", recipe={"name": "smoke"}, **fields
)
run(experiment, RunStore(Path(sys.argv[1])))
sys.setprofile(None)
print(len(touched))
