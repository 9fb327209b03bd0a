"""How much of somebody else's file is read: every limit, in one place (docs/security.md has why).

A file beyond one of them is refused in one line that names it, before its content is worked on.
"""

# Pictures
PICTURE_BYTES = 1 << 30  # of an image file
PICTURE_PIXELS = 100_000_000  # decoded, 1.2 GB at worst and some seconds
PICTURE_SCANS = 2_000_000_000  # pixels times scans of a progressive JPEG; photographs have ten

# What a checkpoint's metadata (and a config) may ask for
INPUT_SIZE = 1024  # side of a landmark network's crop, pixels; of 4096 one face takes half a minute
BOX_PADDINGS = (0.1, 100)
CODEC_SIGMAS = (0.01, 1000)  # heatmap cells
CODEC_WIDTH = 63  # of a window that is fitted or smoothed, cells; the cost grows with its square
