"""The section 'data' of a config."""

from dataclasses import dataclass

from avq.data.channels import MODES
from avq.settings import MAX_INT32, MAX_UINT32, setting


@dataclass(frozen=True)
class Data:
    """Which images a run trains on, and which views of them."""

    path: str = setting(
        "",
        "folder, .zip, .array_record or .parquet file of images, folder of `avq prepare`, or "
        "'photographs' for the embedded ones; a run knows its images by their names, so that the "
        "folder may move",
        free=True,
    )
    image_size: int = setting(
        256, "side of the squares, pixels; 11 is SSIM's window", low=11, high=2**14
    )
    channels: int = setting(
        3, "channels of the images: 1 for grey, 3 for RGB, 4 for RGB with alpha", choices=MODES
    )
    batch_size: int = setting(10, "images in a batch, over all devices", low=1, high=2**20)
    split: float = setting(
        0.8, "share for training where the images have no split of their own", low=0, high=1
    )
    split_seed: int = setting(1967, "seed of that split", low=0, high=MAX_UINT32)
    random_split: bool = setting(
        False, "draws that split even where names of folders look like a split"
    )
    white_level: int = setting(
        0,
        "value that is white in images of more than eight bits a channel, such as 4095; 0 takes "
        "the largest of the file's type",
        low=0,
        high=MAX_INT32,
    )
    flip: bool = setting(True, "mirrors half of the training images")
    min_crop: float = setting(
        1.0,
        "side of the smallest random crop, as a share of the shorter side; 1 takes the centre "
        "square",
        low=0,
        high=1,
    )
    max_rejected: float = setting(
        0.01, "share of unreadable images above which a run stops", low=0, high=1, free=True
    )
    workers: int = setting(
        0,
        "processes that read images; 0 reads in threads of the main process",
        low=0,
        high=256,
        free=True,
    )
