"""AFLW (Köstinger et al., ICCVW 2011): 19 points, 20000 training and 4386 test faces.

The annotations are the official repository's CSV files, which carry a box_size between scale and
centre. Centre, scale and box_size come from the data set's face rectangle, not from the landmarks:
they are kept (box_size = 200 scale, the length that divides AFLW's errors).
"""

from hrnet_jax.data.prepare import official_files
from hrnet_jax.data.prepare.faces import DataSet, Problems
from hrnet_jax.data.prepare.source import Source
from hrnet_jax.errors import HRNetError

WHERE = f"""\
face_landmarks_aflw_{{train,test,test_frontal}}.csv from
{official_files.LINK} (the official repository's annotations), and the pictures from
https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/aflw/."""
NUM_LANDMARKS = 19
PUBLISHED = {
    ("face_landmarks_aflw_train", None): 20000,
    ("face_landmarks_aflw_test", None): 4386,
    ("face_landmarks_aflw_test", "frontal"): 1314,
}
CONFIG = "configs/aflw_w18.py"


def read(source: Source, problems: Problems) -> DataSet:
    """The official CSV files, with frontal as a subset of the test faces."""
    data = official_files.read(source, problems, "aflw", WHERE)
    for split, records in data.splits.items():
        if records.box_sizes is None:
            raise HRNetError(f"{split}.csv lacks AFLW's box_size column, the one after scale")
    return data
